//! Compares the joint model with its originals in size and speed.

use std::borrow::Cow;
use std::io::Write;

use tempfile::NamedTempFile;

use super::Merger;
use super::record::{Compared, Facts, Shape};
use crate::api::data::TaskData;
use crate::api::footprint;
use crate::api::models::Loaded;
use crate::api::options::{Requirement, ShareOptions};
use crate::compare::{Against, Candidate, Comparison, Original, compare, left_out};
use crate::emit::Form;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::mtz::joint::JointModel;
use crate::mtz::options::{Biases, Unit};
use crate::mtz::plan::{Sizes, compared as compared_bytes};
use crate::onnx::{self, Draft};
use crate::progress::Progress;
use crate::report;
use crate::runtime::{Backend, ModelSource};

impl Merger {
    /// Compares the complete file with the originals, unless the options leave that out. A comparison
    /// that fails gives a warning, not an error.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`].
    pub(super) fn compare(
        &self,
        joint: &JointModel,
        draft: &Draft<'_>,
        facts: &Facts<'_>,
        progress: &dyn Progress,
    ) -> Result<Compared> {
        if self.options.result.no_compare || facts.was_stopped() {
            return Ok(Compared::default());
        }
        let mut missing = Vec::new();
        let measured = measured(joint, draft, facts, progress);
        let comparison = left_out(measured, "nothing was measured", &mut missing)?;
        missing.extend(comparison.iter().flat_map(|c| c.unmeasured.iter().cloned()));
        for what in missing.iter_mut() {
            *what = format!("the comparison with the originals is incomplete: {what}");
            progress.warn(what);
        }
        Ok(Compared { comparison, missing })
    }

    /// Requirements that are not met, as a sentence.
    pub(super) fn unmet(&self, compared: Option<&Comparison>) -> Option<Hint> {
        let met = |required: &Requirement| match required {
            Requirement::Smaller => compared.map(Comparison::is_smaller),
            Requirement::Faster => compared.and_then(Comparison::is_fast),
        };
        let required = &self.options.result.require;
        let unmet = |required: &&Requirement| met(required) != Some(true);
        let texts = required.iter().filter(unmet).map(|required| {
            let measured = if met(required).is_some() { "" } else { " (not measured)" };
            format!("{}{measured}", required.name())
        });
        let texts: Vec<String> = texts.collect();
        (!texts.is_empty())
            .then(|| Hint::from("").option_as("require", texts.join(",")).then(" is not met"))
    }

    /// The respects in which the joint model is worse than its originals, and an option that helps.
    pub(super) fn complaint(
        &self,
        compared: &Comparison,
        shape: Shape,
        biases: Biases,
    ) -> Option<Hint> {
        let complaint = report::complaint(compared)?;
        let is_slow = compared.is_smaller() && compared.is_fast() == Some(false);
        let common = || common_biases(&self.options.sharing, self.counts_neurons());
        let remedy = if compared.is_smaller() && shape.form != Form::Heads {
            Hint::from("compute all tasks in one run: ").option_as("form", "heads")
        } else if let Some(remedy) =
            common().filter(|_| is_slow && !shape.separate && biases == Biases::PerTask)
        {
            remedy
        } else if let Some(remedy) = remedy(&self.options.sharing, self.counts_neurons()) {
            remedy
        } else if shape.separate {
            Hint::from("tasks that read one input compute shared layers once: ")
                .option_as("inputs", "shared")
        } else {
            Hint::from("no option saves more here: keep the originals if this matters")
        };
        Some(Hint::from(format!("{complaint}; ")).and(remedy))
    }
}

/// The options that let tasks with common inputs and biases of their own compute shared layers once; `None` if others
/// rule them out.
fn common_biases(sharing: &ShareOptions, paper: bool) -> Option<Hint> {
    let ShareOptions { share, until, delta, corrections, .. } = sharing;
    if sharing.unit(paper) != Unit::Layer || delta.is_some() || corrections.is_some() {
        return None;
    }
    let hint =
        Hint::from("tasks that read one input compute layers once whose biases are shared, too: ")
            .option_as("biases", "shared");
    Some(match *share == Some(1.0) || until.is_some() {
        true => hint,
        false => hint.then(" with ").option_as("share", "1"),
    })
}

/// An option that makes the joint model smaller or its graph denser, if there is one.
fn remedy(sharing: &ShareOptions, paper: bool) -> Option<Hint> {
    if sharing.unit(paper) != Unit::Layer {
        return Some(Hint::from("whole layers keep graphs dense: ").option_as("unit", "layer"));
    }
    if sharing.share.is_some_and(|part| part < 1.0) {
        return Some(
            Hint::from("share more: a larger ")
                .option("share")
                .then(", or a size such as ")
                .option_as("target-size", "60%"),
        );
    }
    if sharing.until.is_some() || !sharing.own_weights.is_empty() {
        return Some(
            Hint::from("leave fewer layers to the tasks by ")
                .option("until")
                .then(" and ")
                .option("own-weights"),
        );
    }
    (sharing.share.is_none()).then(|| {
        Hint::from("share more: ")
            .option_as("share", "1")
            .then(", or a smaller ")
            .option("target-size")
    })
}

/// Compares a joint model with its originals on their samples. Latency is measured in `backend`.
///
/// # Errors
/// As [`compare`], and those of reading the file.
pub(crate) fn with_originals(
    joint: &JointModel,
    draft: &Draft<'_>,
    (loaded, data): (&[Loaded], &[TaskData]),
    sizes: &Sizes,
    backend: Result<&dyn Backend>,
    progress: &dyn Progress,
) -> Result<Comparison> {
    let tasks = joint.tasks().iter().zip(loaded.iter().zip(data));
    let originals: Vec<Original<'_>> = tasks
        .zip(&sizes.originals)
        .map(|((net, (model, data)), parameters)| Original {
            source: model.source(),
            bytes: model.bytes,
            parameters: *parameters,
            nodes: model.nodes,
            net: net.model(),
            data: &data.dataset,
        })
        .collect();
    let candidate = Candidate {
        path: draft.path(),
        model: &onnx::load(draft.path())?,
        bytes: draft.bytes()?,
        parameters: sizes.joint(),
    };
    compare(&candidate, &originals, backend, progress)
}

/// All measurements of the comparison.
fn measured(
    joint: &JointModel,
    draft: &Draft<'_>,
    facts: &Facts<'_>,
    progress: &dyn Progress,
) -> Result<Comparison> {
    let models = (facts.loaded.as_slice(), facts.data.as_slice());
    let backend = facts.merger.options.runtime.single_threaded(&facts.backend);
    let originals = facts.loaded.iter().map(|model| model.bytes).sum();
    let room = || facts.check_room(compared_bytes(originals, draft.bytes()?));
    let backend = backend.as_ref().map(|b| b.as_ref());
    let backend = backend.map_err(|e| Error::new(e.kind(), e.to_string()));
    let backend = room().and(backend);
    let sizes = &facts.outcome.sizes;
    let mut compared = with_originals(joint, draft, models, sizes, backend, progress)?;
    let memory = room().and_then(|()| memory(draft, facts, progress));
    compared.memory = left_out(memory, "memory", &mut compared.unmeasured)?.flatten();
    Ok(compared)
}

/// Peak memory of a process that loads the joint model, and of one that loads all originals.
fn memory(
    draft: &Draft<'_>,
    facts: &Facts<'_>,
    progress: &dyn Progress,
) -> Result<Option<Against<u64>>> {
    let asides: Vec<Option<NamedTempFile>> =
        facts.loaded.iter().map(aside).collect::<Result<_>>()?;
    let paths = facts.loaded.iter().zip(&asides).map(|(model, aside)| match aside {
        Some(file) => file.path(),
        None => model.path.as_path(),
    });
    let Merger { program, options, .. } = facts.merger;
    let name = facts.backend.name();
    let measure = |paths: &[_]| footprint::of(program, paths, &options.runtime, name, progress);
    let joint = measure(&[draft.path()])?;
    let originals = measure(&paths.collect::<Vec<_>>())?;
    Ok(joint.zip(originals).map(|(joint, originals)| Against::new(joint, originals)))
}

/// A temporary file for a net without a file of its own.
fn aside(model: &Loaded) -> Result<Option<NamedTempFile>> {
    let bytes = match model.source() {
        ModelSource::File(_) => return Ok(None),
        ModelSource::Bytes(bytes) => Cow::Borrowed(bytes),
        ModelSource::Graph(net) => Cow::Owned(onnx::encode(net)?),
    };
    let file = NamedTempFile::new().and_then(|mut file| {
        file.write_all(&bytes)?;
        Ok(file)
    });
    file.map(Some).map_err(|e| {
        Error::new(ErrorKind::Io, "cannot write a temporary file to measure memory with")
            .because(e)
            .hint(
                Hint::from("free space there, or leave out the comparison: ").option("no-compare"),
            )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mtz::options::Bits;

    #[test]
    fn common_biases_are_proposed_where_no_option_rules_them_out() {
        let remedy = |options: ShareOptions, paper| common_biases(&options, paper);
        let part = ShareOptions::default();
        let all = || ShareOptions { share: Some(1.0), ..ShareOptions::default() };
        let said = |options| remedy(options, false).map(|hint| hint.in_flags());
        assert!(said(part).unwrap().ends_with(": --biases shared with --share 1"));
        assert!(said(all()).unwrap().ends_with(": --biases shared"));
        let trunk = ShareOptions { until: Some("conv*".to_owned()), ..ShareOptions::default() };
        assert!(said(trunk).unwrap().ends_with(": --biases shared"));
        assert_eq!(said(ShareOptions { delta: Some(Bits::Eight), ..all() }), None);
        assert!(remedy(all(), true).is_none());
    }
}

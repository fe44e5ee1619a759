//! The joint model against the models that it replaces.

use std::io::Write;

use clap::{Args, ValueEnum};
use tempfile::NamedTempFile;

use super::MergeArgs;
use super::record::{Facts, Shape};
use crate::cli::console::Console;
use crate::cli::footprint;
use crate::cli::models::Loaded;
use crate::compare::{Against, Candidate, Comparison, Original, compare};
use crate::emit::Form;
use crate::error::{Error, ErrorKind, Result};
use crate::mtz::joint::JointModel;
use crate::onnx::{self, Draft};
use crate::report;
use crate::runtime::ModelSource;

/// Whether to compare, and what must come of it.
#[derive(Args)]
#[command(next_help_heading = "Result")]
pub(super) struct ComparisonArgs {
    /// Leave out the comparison with the original models: nodes, multiply-adds, latency, memory
    #[arg(long)]
    no_compare: bool,
    /// End with exit code 1 where the joint model is not this, against all originals together; a list
    #[arg(
        long,
        value_enum,
        value_name = "WHAT,…",
        value_delimiter = ',',
        conflicts_with = "no_compare"
    )]
    require: Vec<Requirement>,
}

/// What a joint model must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Requirement {
    /// Its file has fewer bytes than theirs
    Smaller,
    /// One run of all tasks takes at most 2 % longer than theirs, on one thread with a batch of one
    Faster,
}

impl ComparisonArgs {
    /// Compares the complete file with the originals, if that is wanted.
    ///
    /// # Errors
    /// As [`compare`]; [`ErrorKind::Io`] where a model cannot be put aside for measuring.
    pub(super) fn measure(
        &self,
        joint: &JointModel,
        draft: &Draft<'_>,
        facts: &Facts<'_>,
        console: &Console,
    ) -> Result<Option<Comparison>> {
        if self.no_compare || facts.was_stopped() {
            return Ok(None);
        }
        let sizes = &facts.outcome.sizes;
        let tasks = joint.tasks().iter().zip(facts.loaded.iter().zip(&facts.data));
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
        let backend = facts.args.runtime.single_threaded(&facts.backend)?;
        let mut compared = compare(&candidate, &originals, backend.as_ref(), console)?;
        compared.memory = memory(draft, facts)?;
        Ok(Some(compared))
    }

    /// Whether the joint model is what was required. Says loudly where it is not, and in what it is worse
    /// than its originals.
    pub(super) fn judge(
        &self,
        compared: Option<&Comparison>,
        worse: Option<&str>,
        console: &Console,
    ) -> bool {
        let unmet = self.unmet(compared);
        match (&unmet, worse) {
            (Some(unmet), Some(worse)) => console.fail(&format!("{unmet}: {worse}")),
            (Some(unmet), None) => console.fail(unmet),
            (None, Some(worse)) => console.warn(worse),
            (None, None) => {}
        }
        unmet.is_none()
    }

    /// What was required and is not so, as a sentence.
    fn unmet(&self, compared: Option<&Comparison>) -> Option<String> {
        let met = |required: &Requirement| match required {
            Requirement::Smaller => compared.map(Comparison::is_smaller),
            Requirement::Faster => compared.and_then(Comparison::is_fast),
        };
        let unmet = |required: &&Requirement| met(required) != Some(true);
        let texts = self.require.iter().filter(unmet).map(|required| {
            let measured = if met(required).is_some() { "" } else { " (not measured)" };
            format!("{}{measured}", required.name())
        });
        let texts: Vec<String> = texts.collect();
        (!texts.is_empty()).then(|| format!("--require {} is not met", texts.join(",")))
    }
}

impl Requirement {
    fn name(self) -> &'static str {
        match self {
            Requirement::Smaller => "smaller",
            Requirement::Faster => "faster",
        }
    }
}

impl MergeArgs {
    /// In what the joint model is worse than its originals, and the option that helps.
    pub(super) fn complaint(&self, compared: &Comparison, shape: Shape) -> Option<String> {
        let complaint = report::complaint(compared)?;
        let remedy = if compared.is_smaller() && shape.form != Form::Heads {
            "compute all tasks in one run: --form heads"
        } else if let Some(remedy) = self.share.remedy(self.counts_neurons()) {
            remedy
        } else if shape.separate {
            "tasks that read one input compute shared layers once: --inputs shared"
        } else {
            "more saves nothing here: keep the originals where this matters"
        };
        Some(format!("{complaint}; {remedy}"))
    }
}

/// Peak memory of a process that loads the joint model, and of one that loads all originals.
fn memory(draft: &Draft<'_>, facts: &Facts<'_>) -> Result<Option<Against<u64>>> {
    let asides: Vec<Option<NamedTempFile>> =
        facts.loaded.iter().map(aside).collect::<Result<_>>()?;
    let paths = facts.loaded.iter().zip(&asides).map(|(model, aside)| match aside {
        Some(file) => file.path(),
        None => model.path.as_path(),
    });
    let measure = |paths: &[_]| footprint::of(paths, &facts.args.runtime, facts.backend.name());
    let joint = measure(&[draft.path()]);
    let originals = measure(&paths.collect::<Vec<_>>());
    Ok(joint.zip(originals).map(|(joint, originals)| Against::new(joint, originals)))
}

/// A file of a net that has none of its own.
fn aside(model: &Loaded) -> Result<Option<NamedTempFile>> {
    let ModelSource::Bytes(bytes) = model.source() else { return Ok(None) };
    let file = NamedTempFile::new().and_then(|mut file| {
        file.write_all(bytes)?;
        Ok(file)
    });
    file.map(Some).map_err(|e| {
        Error::new(ErrorKind::Io, "cannot write a temporary file to measure memory with")
            .because(e)
            .hint("free space there, or leave the comparison out with --no-compare")
    })
}

//! Plans: recording a merge in a file, and repeating it.

mod files;
mod paths;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::Merger;
use crate::align::TaskLayer;
use crate::api::TOOL;
use crate::api::options::{KeepShared, Typed};
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::mtz::site::SiteRecord;
use crate::progress::Progress;
pub(crate) use crate::report::PREPROCESS;
use crate::report::each;
use crate::zipper::{Decisions, FileRecord, LayerRecord, PlanFile, SiteNames, Weights};

pub(in crate::api) use files::Files;
pub use paths::resolved;

/// Options with their values, by their names on the command line.
type Options = IndexMap<String, Vec<String>>;

/// The plan that a merge follows, and the plan that it writes.
#[derive(Debug, Clone, Default)]
pub(in crate::api) struct Replay {
    /// The plan to follow.
    pub(in crate::api) followed: Option<PlanFile>,
    /// The file of that plan, if it is known.
    pub(in crate::api) source: Option<PathBuf>,
    /// Whether files may differ from those of the plan.
    pub(in crate::api) allow_changed: bool,
    /// The file of the plan to write, with what is known before the merge.
    pub(in crate::api) written: Option<(PathBuf, PlanFile)>,
    /// Options as typed, for the report.
    pub(in crate::api) typed: Options,
}

impl Replay {
    /// Whether a plan decides about layers.
    pub(in crate::api) fn decides(&self) -> bool {
        self.followed.as_ref().is_some_and(|plan| !plan.layers.is_empty())
    }
}

/// The facts about a merge that its plan records.
pub(in crate::api) struct Made<'a> {
    /// The files as they were when the merge began.
    pub(in crate::api) files: &'a Files,
    pub(in crate::api) runtime: String,
    pub(in crate::api) memory: u64,
    pub(in crate::api) sites: &'a [SiteNames],
    pub(in crate::api) records: &'a [SiteRecord],
    pub(in crate::api) decisions: &'a Decisions,
}

/// Reads a plan.
///
/// ```no_run
/// use onnx_zip::{MergeOptions, Merger, Silent, read_plan};
///
/// let plan = read_plan("joint.toml".as_ref())?;
/// let merger = Merger::new(MergeOptions::default()).model("a.onnx").model("b.onnx");
/// merger.follow(plan, false).merge(&Silent)?.save("joint.onnx", &Silent)?;
/// # Ok::<(), onnx_zip::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Io`] where there is no such file; as [`PlanFile::parse`].
pub fn read_plan(path: &Path) -> Result<PlanFile> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::new(ErrorKind::Io, "cannot read the plan").because(e).in_model(path.display())
    })?;
    PlanFile::parse(&text).in_model(path.display())
}

impl Merger {
    /// Takes decisions about layers from a plan, and compares models and samples with its checksums,
    /// as far as the plan holds them. Options, models and samples are given separately.
    #[must_use]
    pub fn follow(mut self, plan: PlanFile, allow_changed: bool) -> Self {
        self.replay.followed = Some(plan);
        self.replay.allow_changed = allow_changed;
        self
    }

    /// Names the file of the plan to follow, which only a plan may replace.
    #[cfg(feature = "cli")]
    pub(crate) fn followed_at(mut self, path: Option<PathBuf>) -> Self {
        self.replay.source = path;
        self
    }

    /// Writes a plan of the merge beside the joint model. `plan` holds the options as typed.
    #[must_use]
    pub fn write_plan(mut self, path: impl Into<PathBuf>, plan: PlanFile) -> Self {
        self.replay.written = Some((path.into(), plan));
        self
    }

    /// Enters the options of `plan`, as typed, into the settings of the report.
    #[must_use]
    pub fn typed(mut self, plan: &PlanFile) -> Self {
        self.replay.typed.clone_from(&plan.options);
        self
    }

    /// Compares models and samples with the plan to follow.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a file that differs, unless that is allowed.
    pub(in crate::api) fn check_followed(
        &self,
        files: &Files,
        progress: &dyn Progress,
    ) -> Result<()> {
        let Some(plan) = &self.replay.followed else { return Ok(()) };
        let kinds = [
            ("models", &plan.models, &files.models),
            ("data", &plan.data, &files.data),
            ("gram", &plan.gram, &files.gram),
        ];
        for (kind, wanted, found) in kinds {
            if wanted.len() != found.len() && wanted.iter().any(|file| file.sha256.is_some()) {
                let (n, m) = (wanted.len(), found.len());
                let message = format!("the plan has {n} entries of {kind}, and {m} are given");
                return Err(Error::new(ErrorKind::Usage, message).hint("give as many as it has"));
            }
            for (wanted, found) in wanted.iter().zip(found) {
                self.check_file(wanted, found.as_ref(), progress)?;
            }
        }
        Ok(())
    }

    fn check_file(
        &self,
        wanted: &FileRecord,
        found: Option<&FileRecord>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let Some((sum, found)) = wanted.sha256.as_ref().zip(found) else { return Ok(()) };
        if found.sha256.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(sum)) {
            return Ok(());
        }
        let path = found.path.display();
        let message = format!("'{path}' differs from the file of the plan in its SHA-256");
        if self.replay.allow_changed {
            progress.warn(&message);
            return Ok(());
        }
        Err(Error::new(ErrorKind::Usage, message)
            .hint(Hint::from("restore the file, or go on with ").option("allow-changed")))
    }

    /// The decisions of the plan to follow; `None` if it leaves them to the options.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a layer that the models do not have in common, that has several tables or that
    /// can have no common weights, and for an invalid share.
    pub(in crate::api) fn decisions(&self, sites: &[SiteNames]) -> Result<Option<Decisions>> {
        let layers = self.replay.followed.iter().flat_map(|plan| &plan.layers);
        let mut decisions = None;
        let mut decided = BTreeSet::new();
        for layer in layers {
            let decisions = decisions.get_or_insert_with(Decisions::default);
            let mut found = sites.iter().filter(|site| layer.is_of(&site.layers)).peekable();
            let Some(&first) = found.peek() else { return Err(unknown(layer, sites)) };
            if !decided.insert(first.place) {
                return Err(twice(layer));
            }
            if let Some(reason) = unshareable(layer, found.clone()) {
                let message = format!("layer '{}' cannot have common weights", layer.shown());
                return Err(Error::new(ErrorKind::Usage, format!("{message}: {reason}"))
                    .hint("leave out its table, or write weights = \"own\""));
            }
            if let Some(text) = &layer.shared {
                let rule: KeepShared = format!("*={text}").parse()?;
                decisions.shares.push((first.first().to_owned(), rule.share));
            }
            let rank = |own: &TaskLayer| {
                let ranks = if layer.bits.is_empty() { &layer.ranks } else { &layer.bits };
                let rank = ranks.get(own.task.0).copied().filter(|rank| *rank > 0)?;
                Some((*own, rank))
            };
            decisions.ranks.extend(first.members.iter().filter_map(rank));
            if layer.weights == Weights::Own {
                decisions.own.extend(found.map(|site| site.place));
            }
        }
        Ok(decisions)
    }

    /// Warns if the plan was made with another version or runtime.
    pub(in crate::api) fn compare_makers(&self, runtime: &str, progress: &dyn Progress) {
        let Some(plan) = &self.replay.followed else { return };
        for (made, now) in [(&plan.tool, TOOL), (&plan.runtime, runtime)] {
            if let Some(made) = made.as_ref().filter(|made| *made != now) {
                progress.warn(&format!(
                    "the plan was made with {made}, and this is {now}: the joint model may differ"
                ));
            }
        }
    }

    /// The options of a merge for its records: `options` as typed, the tasks' names, the memory limit in
    /// bytes, and the seed.
    pub(in crate::api) fn recorded(&self, mut options: Options, memory: u64) -> Options {
        if !self.names.is_empty() {
            options.insert("name".to_owned(), self.names.clone());
        }
        options.entry("memory".to_owned()).or_insert_with(|| vec![memory.to_string()]);
        let seed = self.options.tuning.statistics.seed;
        options.entry("seed".to_owned()).or_insert_with(|| vec![seed.to_string()]);
        options.sort_keys();
        options
    }

    /// The text of the plan of a finished merge, for the file `path`.
    pub(in crate::api) fn plan_of(&self, path: &Path, plan: &PlanFile, made: &Made<'_>) -> String {
        let moved = |record: &FileRecord| FileRecord {
            path: paths::seen_from(path, &record.path),
            sha256: record.sha256.clone(),
        };
        let files =
            |all: &[Option<FileRecord>]| -> Vec<_> { all.iter().flatten().map(moved).collect() };
        let mut options = plan.options.clone();
        for file in options.get_mut(PREPROCESS).into_iter().flatten() {
            *file = paths::seen_from(path, Path::new(file.as_str())).to_string_lossy().into_owned();
        }
        let options = self.recorded(options, made.memory);
        let plan = PlanFile {
            tool: Some(TOOL.to_owned()),
            runtime: Some(made.runtime.clone()),
            models: files(&made.files.models),
            data: files(&made.files.data),
            gram: files(&made.files.gram),
            options,
            layers: layers(made),
        };
        plan.text()
    }
}

/// The decisions about layers that can be shared.
fn layers(made: &Made<'_>) -> Vec<LayerRecord> {
    let mut layers: Vec<LayerRecord> = Vec::new();
    for (site, record) in made.sites.iter().zip(made.records) {
        let is_open = record.reason.is_none() || record.keeps_weights();
        // All gates of a recurrent node have its name, and one decision.
        if !is_open || layers.iter().any(|other| other.layers == site.layers) {
            continue;
        }
        let share = made.decisions.shares.iter().find(|(name, _)| name == site.first());
        let weights = if record.keeps_weights() { Weights::Own } else { Weights::Common };
        let (ranks, bits) = match record.bits.is_empty() {
            true => (ranks(site, made.decisions), Vec::new()),
            false => (Vec::new(), ranks(site, made.decisions)),
        };
        layers.push(LayerRecord {
            layers: site.layers.clone(),
            weights,
            shared: share.map(|(_, share)| Typed(*share).to_string()),
            ranks,
            bits,
            about: format!("{} neurons of {} inputs", each(&record.neurons), each(&record.inputs)),
        });
    }
    layers
}

/// The rank of each net's correction; empty if there are none.
fn ranks(site: &SiteNames, decisions: &Decisions) -> Vec<usize> {
    let rank = |net: usize| {
        let own = site.members.iter().find(|own| own.task.0 == net);
        own.and_then(|own| decisions.ranks.get(own)).copied().unwrap_or(0)
    };
    let ranks: Vec<usize> = (0..site.layers.len()).map(rank).collect();
    if ranks.iter().all(|rank| *rank == 0) { Vec::new() } else { ranks }
}

/// The reason why layers of a table with common weights can have none, if so. A table of a recurrent layer is
/// about all its gates.
fn unshareable<'a>(
    layer: &LayerRecord,
    mut sites: impl Iterator<Item = &'a SiteNames>,
) -> Option<&'a str> {
    if layer.weights == Weights::Own {
        return None;
    }
    let first = sites.next()?.unshareable.as_deref()?;
    sites.all(|site| site.unshareable.is_some()).then_some(first)
}

fn twice(layer: &LayerRecord) -> Error {
    let message = format!("the plan has two tables for layer '{}'", layer.shown());
    Error::new(ErrorKind::Usage, message).hint("remove one of them")
}

fn unknown(layer: &LayerRecord, sites: &[SiteNames]) -> Error {
    let mut names: Vec<&str> = sites.iter().map(SiteNames::first).collect();
    names.dedup();
    let message = format!("the models do not share the plan's layer '{}'", layer.shown());
    Error::new(ErrorKind::Usage, message).hint(format!("they are {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::checksum;

    #[test]
    fn a_plan_names_the_files_that_were_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        std::fs::write(&path, "before").unwrap();
        let merger = Merger::default().model(b"bytes".to_vec()).data(path.clone());
        let files = Files::of(&merger).unwrap();
        std::fs::write(&path, "after").unwrap();
        let made = Made {
            files: &files,
            runtime: "tract".to_owned(),
            memory: 1,
            sites: &[],
            records: &[],
            decisions: &Decisions::default(),
        };
        let text = merger.plan_of(&folder.path().join("a.toml"), &PlanFile::default(), &made);
        let plan = PlanFile::parse(&text).unwrap();
        let ([data], []) = (plan.data.as_slice(), plan.models.as_slice()) else { panic!("{text}") };
        let now = checksum::of_samples(&path).unwrap();
        assert!(data.sha256.as_ref().is_some_and(|sum| sum.len() == now.len() && *sum != now));
        assert_eq!(data.path.file_name(), path.file_name());
    }
}

//! Plans: recording a merge in a file, and repeating it.

mod files;
mod following;
mod paths;
mod recording;

use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::Merger;
use crate::error::{Context, Error, ErrorKind, Result};
pub(crate) use crate::report::PREPROCESS;
use crate::zipper::PlanFile;

pub(in crate::api) use files::Files;
pub use paths::resolved;
pub(in crate::api) use recording::Made;

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
}

//! Reports of commands, as JSON and as text.
//!
//! Each command fills one serialisable structure; its JSON is the structure itself, its text and its
//! HTML are views of it. `schema` counts changes that would break a reader of the JSON.

mod apart;
mod card;
#[cfg(feature = "html")]
mod chart;
mod comparison;
mod format;
mod frontier;
#[cfg(feature = "html")]
mod html;
mod lineage;
mod model;
mod outside;
mod picture;
mod plan;
mod pruning;
mod retraining;
mod settings;
mod table;
mod text;
mod trial;
mod verification;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::align::Divergence;
use crate::compare::Comparison;
use crate::error::Hint;
use crate::mtz::plan::Sizes;
use crate::mtz::site::SiteRecord;
use crate::retrain::Retrained;
use crate::verify::Verification;

pub(crate) use apart::{apart, at_outputs};
pub use card::card;
pub use comparison::complaint;
pub(crate) use format::{count, each};
pub use frontier::{Frontier, FrontierRecord, FrontierTask, TaskLoss};
#[cfg(feature = "html")]
pub use html::html;
pub use lineage::LineageRecord;
pub use model::{GroupRecord, LayerRecord, ModelReport, PortRecord, Shareable};
pub use outside::OutsideRecord;
pub(crate) use outside::decidable;
pub use picture::{LayerBox, Link, Picture};
pub use plan::Plan;
pub use pruning::PruneReport;
pub use retraining::{RetrainReport, RetrainSettings, retraining};
pub(crate) use settings::PREPROCESS;
pub use settings::Settings;
pub use text::text;
pub use trial::Trial;
pub use verification::verification;

/// Version of the JSON form.
pub const SCHEMA: u32 = 1;

/// Everything about one merge.
///
/// ```no_run
/// let json = std::fs::read_to_string("joint.json")?;
/// let report: onnx_zip::Report = serde_json::from_str(&json)?;
/// println!("{}: {} bytes", report.joint.path, report.joint.bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name and version of the program.
    pub tool: String,
    /// The models that were merged, one per task.
    pub tasks: Vec<TaskRecord>,
    /// The file that was written.
    pub joint: JointRecord,
    /// Its size relative to the originals.
    pub compression: Compression,
    /// The settings of the merge.
    pub settings: Settings,
    /// The runtime of calibration, with version and device.
    pub runtime: String,
    /// Whether calibration ran on synthetic samples.
    pub synthetic_data: bool,
    /// Results of each site: pairs, costs, errors.
    pub layers: Vec<SiteRecord>,
    /// Corresponding parts, and parts that cannot be shared.
    pub structure: Structure,
    /// The layers of the joint model and their connections.
    #[serde(default)]
    pub picture: Picture,
    /// Merges that were tried for a goal; empty without a goal.
    pub search: Vec<Trial>,
    /// Seconds per stage, in order.
    pub seconds: Vec<StageTime>,
    /// Results of retraining; `None` if there was none.
    #[serde(default)]
    pub retraining: Option<Retrained>,
    /// Comparison of the written file with the original models; `None` if it was not asked for.
    pub verification: Option<Verification>,
    /// Comparison with the original models in size and speed; `None` if it was not asked for.
    #[serde(default)]
    pub comparison: Option<Comparison>,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// One model that was merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskRecord {
    /// Name of the task.
    pub name: String,
    /// File that the model was read from.
    pub path: String,
    /// SHA-256 of that file, in hexadecimal digits; of the file and its external data, if there is any.
    pub sha256: String,
    /// Size of the model, external data included.
    pub bytes: u64,
    /// Weights and biases of its layers.
    pub parameters: u64,
    /// Calibration data.
    pub data: DataRecord,
    /// Stored statistics that took their place, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<StatisticsRecord>,
    /// The reason if pairs were not weighted by sensitivities.
    pub without_sensitivity: Option<String>,
}

impl TaskRecord {
    /// The number of samples that its statistics come from, and their origin, with paths as `named`.
    fn samples(&self, named: fn(&str) -> &str) -> (u64, String) {
        match &self.statistics {
            Some(stored) => {
                let sources: Vec<&str> = stored.sources.iter().map(|path| named(path)).collect();
                let origin = format!("{}, stored in {}", sources.join(", "), named(&stored.path));
                (stored.samples, origin)
            }
            None => {
                let source = self.data.source.as_deref().map_or("random numbers", named);
                (self.data.samples as u64, source.to_owned())
            }
        }
    }
}

/// Calibration data of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DataRecord {
    /// File or folder; `None` for synthetic samples.
    pub source: Option<String>,
    /// Samples used.
    pub samples: usize,
    /// Samples that the source holds.
    pub available: usize,
    /// Whether there are labels.
    pub labels: bool,
    /// Remarks about the data.
    pub notes: Vec<Hint>,
}

/// Stored statistics of a model, in place of samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatisticsRecord {
    /// Their file.
    pub path: String,
    /// Samples that they come from.
    pub samples: u64,
    /// Files of these samples.
    pub sources: Vec<String>,
    /// Whether they hold sensitivities.
    pub sensitivities: bool,
}

/// The joint model's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JointRecord {
    /// The file.
    pub path: String,
    /// Whether it exists: a rejected file is discarded unless it is kept on request.
    #[serde(default = "is_written")]
    pub written: bool,
    /// Its SHA-256, in hexadecimal digits, without external data.
    #[serde(default)]
    pub sha256: String,
    /// Its size, external data included.
    pub bytes: u64,
    /// Its parameters by owner.
    pub parameters: Parameters,
    /// Form of the graph.
    pub form: String,
    /// Whether tasks have a common input or each their own.
    pub inputs: String,
}

/// The default for reports without this field: their file was written.
fn is_written() -> bool {
    true
}

/// Weights and biases of the joint model's layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Parameters {
    /// Their number.
    pub total: u64,
    /// Stored once for several tasks.
    pub shared: u64,
    /// Stored for one task only, by task.
    pub specific: IndexMap<String, u64>,
}

impl Parameters {
    /// The joint model's parameters; `tasks` are the tasks' names in order.
    pub fn new(sizes: &Sizes, tasks: &[&str]) -> Self {
        let specific = tasks.iter().zip(&sizes.specific).map(|(t, n)| ((*t).to_owned(), *n));
        Parameters { total: sizes.joint(), shared: sizes.shared, specific: specific.collect() }
    }
}

/// Size of the joint model as a fraction of that of the original models.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Compression {
    /// Bytes against all originals together.
    pub bytes_of_all: f64,
    /// Bytes against the smallest original.
    pub bytes_of_smallest: f64,
    /// Parameters against all originals together.
    pub parameters_of_all: f64,
    /// Parameters against the smallest original.
    pub parameters_of_smallest: f64,
}

impl Compression {
    /// From the records of the originals and of the joint model.
    pub fn new(tasks: &[TaskRecord], joint: &JointRecord) -> Self {
        let part = |n: u64, of: u64| if of > 0 { n as f64 / of as f64 } else { 1.0 };
        let bytes = || tasks.iter().map(|t| t.bytes);
        let parameters = || tasks.iter().map(|t| t.parameters);
        let total = joint.parameters.total;
        Compression {
            bytes_of_all: part(joint.bytes, bytes().sum()),
            bytes_of_smallest: part(joint.bytes, bytes().min().unwrap_or(0)),
            parameters_of_all: part(total, parameters().sum()),
            parameters_of_smallest: part(total, parameters().min().unwrap_or(0)),
        }
    }
}

/// Corresponding parts, and parts that cannot be shared.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Structure {
    /// The first difference of each model but the first from the first; `null` if there is none.
    pub divergences: Vec<Option<Divergence>>,
    /// Models with the backbone of an earlier model.
    #[serde(default)]
    pub lineages: Vec<LineageRecord>,
    /// Layers of each task without a counterpart.
    pub unmatched: Vec<Vec<String>>,
    /// Frozen channels.
    pub frozen: Vec<FrozenRecord>,
    /// Parameters of each task that belong to no layer, by reason.
    #[serde(default)]
    pub outside: Vec<Vec<OutsideRecord>>,
}

/// Frozen channels of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FrozenRecord {
    /// Name of the task.
    pub task: String,
    /// Name of the group: that of its first producer.
    pub group: String,
    /// Number of channels.
    pub channels: usize,
    /// The reason.
    pub reason: String,
}

/// Time of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageTime {
    /// The stage.
    pub stage: String,
    /// Seconds.
    pub seconds: f64,
}

#[cfg(test)]
mod tests;

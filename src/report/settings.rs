//! The settings of a merge.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::mtz::options::{Biases, Method, Passes, Unit};

/// The option whose values are paths.
pub(crate) const PREPROCESS: &str = "preprocess";

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Settings {
    /// The method of fusing.
    pub method: Method,
    /// The matcher.
    pub matcher: String,
    /// The metric of pairs.
    pub metric: String,
    /// The source of statistics.
    pub passes: Passes,
    /// The share, as on the command line; `knee` for the default, `plan` where a plan decides about layers,
    /// or a goal: `target-size 0.6`, `max-drop 0.5`.
    pub share: String,
    /// The unit of sharing.
    pub unit: Unit,
    /// Whether shared neurons have a common bias or one per task.
    pub biases: Biases,
    /// Layers with a share of their own, as on the command line.
    pub keep_shared: Vec<String>,
    /// Layers whose weights are left to the tasks, as on the command line.
    pub own_weights: Vec<String>,
    /// Whether output layers may be shared.
    pub share_outputs: bool,
    /// Weight of each task's error.
    pub alpha: Vec<f64>,
    /// Damping of the Hessians, relative to their mean diagonal.
    pub damping: f64,
    /// Rows per layer and task at most.
    pub max_rows: usize,
    /// Samples per batch.
    pub batch: usize,
    /// Seed of all random choices.
    pub seed: u64,
    /// Options that were given, by their names on the command line, with the names of tasks, the memory
    /// limit and the seed: those of a plan of the merge.
    #[serde(default)]
    pub options: IndexMap<String, Vec<String>>,
}

impl Settings {
    /// Names and values for readers, with paths as `named`. Given options that no other field holds come
    /// last, under their flags.
    pub(super) fn rows(&self, named: fn(&str) -> &str) -> Vec<(String, String)> {
        let all = serde_json::to_value(self).unwrap_or_default();
        let fields =
            || all.as_object().into_iter().flatten().filter(|(name, _)| *name != "options");
        let mut rows: Vec<(String, String)> =
            fields().map(|(name, value)| (name.replace('_', " "), value.to_string())).collect();
        let is_field = |option: &str| fields().any(|(name, _)| *name == option.replace('-', "_"));
        for (name, values) in self.options.iter().filter(|(name, _)| !is_field(name)) {
            let value = |value: &String| match name == PREPROCESS {
                true => named(value).to_owned(),
                false => value.clone(),
            };
            let values: Vec<String> = values.iter().map(value).collect();
            rows.push((format!("--{name}"), values.join(", ")));
        }
        rows
    }
}

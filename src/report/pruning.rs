//! Results of pruning.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::SCHEMA;
use super::format::{count, percent};
use super::table::{Left, Right, Table};
use crate::naming::shown;
use crate::prune::PruneRecord;

/// Results of pruning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PruneReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name and version of the program.
    pub tool: String,
    /// The file that was written.
    pub output: String,
    /// Every layer.
    pub layers: Vec<PruneRecord>,
}

impl PruneReport {
    /// A report of this version.
    pub fn new(tool: String, output: String, layers: Vec<PruneRecord>) -> Self {
        PruneReport { schema: SCHEMA, tool, output, layers }
    }

    /// The report as text.
    pub fn text(&self) -> String {
        let sum = |of: fn(&PruneRecord) -> usize| self.layers.iter().map(of).sum::<usize>();
        let (weights, kept) = (sum(|l| l.weights), sum(|l| l.kept));
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{}: {} of {} weights are left, {}\n",
            shown(&self.output),
            count(kept as u64),
            count(weights as u64),
            percent(kept as f64 / weights.max(1) as f64)
        );
        let mut table = Table::new([
            ("layer", Left),
            ("weights", Right),
            ("left", Right),
            ("error", Right),
            ("", Left),
        ]);
        for layer in &self.layers {
            table.row([
                layer.layer.clone(),
                count(layer.weights as u64),
                count(layer.kept as u64),
                percent(layer.relative_error),
                layer.reason.clone().unwrap_or_default(),
            ]);
        }
        out.push_str(&table.render());
        out
    }
}

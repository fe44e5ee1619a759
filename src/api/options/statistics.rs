//! Limits of statistics.

#[cfg(feature = "cli")]
use super::parse;
use crate::calib::memory;
use crate::mtz::options::MergeOptions;

/// Limits of statistics.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[non_exhaustive]
pub struct StatisticsOptions {
    /// Rows of statistics per layer and model; convolutions have a row per position, of which this
    /// many are drawn
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "N", default_value_t = MergeOptions::default().max_rows,
        value_parser = parse::at_least_one()))]
    pub max_rows: usize,
    /// Memory limit, beside the weights of the largest model, e.g. 500MB [default: half of the free
    /// memory]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE", value_parser = parse::size))]
    pub memory: Option<u64>,
    /// Seed of all random choices: the same seed gives the same file
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 0))]
    pub seed: u64,
}

impl Default for StatisticsOptions {
    fn default() -> Self {
        StatisticsOptions { max_rows: MergeOptions::default().max_rows, memory: None, seed: 0 }
    }
}

impl StatisticsOptions {
    /// The memory limit in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.memory.unwrap_or_else(memory::default)
    }
}

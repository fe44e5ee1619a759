//! Limits of the statistics that are taken from samples.

use clap::Args;
use clap::builder::RangedU64ValueParser;

use crate::mtz::options::MergeOptions;

use super::{memory, size};

#[derive(Args)]
pub(super) struct StatisticsArgs {
    /// Rows of statistics per layer and model; convolutions give a row per position, of which this
    /// many are drawn
    #[arg(long, value_name = "N", default_value_t = MergeOptions::default().max_rows,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(super) max_rows: usize,
    /// Memory that the command may take beside the weights of the largest model, e.g. 500MB [default:
    /// half of what is free]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    memory: Option<u64>,
    /// Seed of everything random: the same seed gives the same file
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
}

impl StatisticsArgs {
    /// Bytes that the command may take.
    pub(super) fn memory(&self) -> u64 {
        self.memory.unwrap_or_else(memory::default)
    }
}

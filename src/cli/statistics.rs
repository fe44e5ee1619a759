//! Limits of the statistics that are taken from samples.

use clap::Args;
use clap::builder::RangedU64ValueParser;

use crate::mtz::options::MergeOptions;

use super::size;

#[derive(Args)]
pub(super) struct StatisticsArgs {
    /// Rows of statistics per layer and model; convolutions give a row per position, of which this
    /// many are drawn
    #[arg(long, value_name = "N", default_value_t = MergeOptions::default().max_rows,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub(super) max_rows: usize,
    /// Memory for statistics and, per model, for values kept between layers, e.g. 500MB
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = size::parse)]
    pub(super) memory: u64,
    /// Seed of everything random: the same seed gives the same file
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
}

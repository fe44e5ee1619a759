//! Statistics that the method takes of layers: moments with the weights they belong to, and how much
//! errors of each neuron matter.

mod extent;
mod probe;
mod source;
mod stats;
mod weighting;

pub(crate) use extent::{extent, statistics_bytes};
pub use probe::Probe;
pub(crate) use source::StatisticsSource;
pub(crate) use stats::ChannelStats;
pub use stats::Sensitivities;
pub(crate) use weighting::Weighting;

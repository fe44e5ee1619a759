//! Statistics of layers: moments with their weights, and the weight of each neuron's error.

mod extent;
mod layers;
mod originals;
mod probe;
mod sharded;
mod source;
mod stats;
mod stored;
mod streamed;
mod uses;
mod weighting;

pub(crate) use extent::{extent, statistics_bytes, survey_bytes};
pub(crate) use layers::{CHANNEL_ROWS, LayerStatistics};
pub(crate) use originals::OriginalStats;
pub use originals::Originals;
pub use probe::Probe;
pub use sharded::{InProcess, Job, ShardWorker, Sharding, Shards, Take};
pub(crate) use source::StatisticsSource;
pub(crate) use stats::ChannelStats;
pub use stats::Sensitivities;
pub use stored::StoredNet;
pub(crate) use streamed::Streamed;
pub(crate) use weighting::Weighting;

//! Statistics of layers: moments with their weights, and the weight of each neuron's error.

mod channel_costs;
mod channels;
mod extent;
mod layers;
mod originals;
mod probe;
mod sharded;
mod source;
mod stored;
mod streamed;
mod uses;
mod weighting;

pub(crate) use channels::ChannelStats;
pub(crate) use extent::{extent, statistics_bytes, survey_bytes};
pub(crate) use layers::{CHANNEL_ROWS, LayerStatistics};
pub(crate) use originals::OriginalStats;
pub use originals::Originals;
pub use probe::Probe;
pub use sharded::{InProcess, Job, ShardWorker, Sharding, Shards, Take};
pub(crate) use source::StatisticsSource;
pub use stored::StoredNet;
pub(crate) use streamed::Streamed;
pub use weighting::Sensitivities;
pub(crate) use weighting::Weighting;

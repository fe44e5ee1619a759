//! Matrices only, no graph: costs of pairs, common weights, refits, and the factors behind them.

pub mod bits;
mod channel_bias;
mod channel_difference;
pub mod channelwise;
pub mod cholesky;
pub(crate) mod correction;
mod damping;
pub mod diagonal;
mod difference;
mod distances;
pub mod fuse;
pub mod hessian;
mod junction;
mod lanes;
pub(crate) mod layer;
pub(crate) mod low_rank;
pub mod memory;
pub(crate) mod neuron_set;
pub mod observations;
pub mod options;
pub mod pair_cost;
pub mod refit;
pub mod samples;
mod shapes;
pub(crate) mod shared_channels;
pub mod sparse;
pub(crate) mod together;

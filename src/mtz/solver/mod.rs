//! Matrices only, no graph: costs of pairs, common weights, refits, and the factors behind them.

pub mod channelwise;
pub mod cholesky;
pub mod fuse;
pub(crate) mod neuron_set;
pub mod pair_cost;
pub mod refit;

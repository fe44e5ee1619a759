//! The library's interface: options, a merger, the joint model, and one function per other command.
//!
//! The command line and the Python package are thin layers over this room, whose types are re-exported
//! at the root of the crate. Models come from files or bytes ([`ModelInput`]), samples from files,
//! arrays or iterators of batches ([`DataInput`], [`Arrays`](crate::Arrays)). Long work reports to
//! a [`Progress`](crate::progress::Progress).

mod calibrate;
mod checksum;
pub(crate) mod data;
mod defaults;
mod export;
mod fix;
pub(crate) mod footprint;
mod frontier;
mod import;
pub(crate) mod inputs;
mod inspect;
mod joint;
mod measured;
mod merge;
mod merged;
pub(crate) mod models;
pub mod options;
pub(crate) mod output;
mod plain;
mod plan;
mod prune;
mod retrain;
mod rewritten;
mod strip;
mod structure;
mod task_names;
mod verdict;
mod verify;
mod worker;

pub use calibrate::{add_statistics, calibrate};
pub use data::DataInput;
pub use fix::fix;
pub use frontier::FrontierDestination;
pub use import::import_weights;
pub use inspect::inspect;
pub use joint::Joint;
#[cfg(feature = "cli")]
pub(crate) use merge::PREPROCESS;
pub use merge::{Destination, Merger, read_plan, resolved};
pub use merged::Merged;
pub use models::ModelInput;
pub use plan::plan;
pub use prune::prune;
pub use retrain::{RetrainDestination, Retrainer};
pub use strip::strip;
pub use verify::verify;
pub use worker::{shard_worker, worker};

use options::MergeOptions;

/// Name and version of the program, for reports.
pub(crate) const TOOL: &str = concat!("onnx-zip ", env!("CARGO_PKG_VERSION"));

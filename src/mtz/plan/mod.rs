//! Planning without data, from structure alone: matched inputs, predicted sharing, sizes, and the
//! number of neurons to share per layer.

mod allocation;
mod copied_heads;
mod file;
mod input_matching;
pub mod layer_choice;
mod peak;
mod prediction;
mod producers;
pub mod ranks;
mod savings;
mod similar_inputs;
mod sizes;
mod tables;
mod units;
mod unsharing;

pub use allocation::{Allocation, PairCosts};
pub(crate) use copied_heads::heads_like;
pub use file::file_bytes;
pub(crate) use input_matching::{
    InputGroup, PlanState, UnmatchedInputs, settle_inputs, share_inputs,
};
pub use peak::{Means, Peak, allowed, compared, peak, stays_loaded};
pub use prediction::{Prediction, SitePlan, predict, predict_sharing};
pub(crate) use producers::{Producers, consumed_before_produced, consumers};
pub(crate) use similar_inputs::similar_inputs;
pub use sizes::{Sizes, sizes};
pub use tables::common_tables;
pub(crate) use units::units_like;

//! Corresponding layers: their common inputs, the record of their merge, and the groups whose pairs
//! are fixed.

mod common_inputs;
mod heads;
mod layers;
mod record;
mod selection;
mod settled;
mod tables;
mod unshared;

pub(crate) use common_inputs::CommonInputs;
pub(crate) use heads::{HeadCosts, Heads, head_blocks};
pub(crate) use layers::{
    SiteLayer, SiteShape, common_neurons, corresponding_layers, layers_at, taps,
};
pub use record::{OWN_WEIGHTS, SiteRecord};
pub(crate) use selection::{SiteSelection, unshareable};
pub(crate) use settled::SettledGroups;
pub(crate) use tables::{Agreement, Numbers, Tables, agreement, corresponding_tables, numbers};

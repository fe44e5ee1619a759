//! Derives a net's channel structure, puts filters of one channel in order, splits layers with several rows per
//! channel, and joins layers that are one layer.

use crate::canon::{Canonical, split_rows};
use crate::couple::Coupling;
use crate::error::Result;
use crate::ir::Model;

use super::{filters, repeated};

/// Limit of rounds. Several are needed for consecutive layers, such as a layer and a depthwise one
/// after it.
const MOST_ROUNDS: usize = 8;

/// The net with ordered filters, split and joined layers, and its channel structure.
///
/// # Errors
/// As [`Coupling::of`].
pub fn coupled(model: Canonical) -> Result<(Model, Coupling)> {
    let mut model = filters::sorted(model)?;
    let mut coupling = Coupling::of(&model.graph)?;
    for _ in 0..MOST_ROUNDS {
        if coupling.tied.is_empty() {
            break;
        }
        let parts = coupling.tied.iter().map(|tied| (tied.node, tied.rows.as_slice()));
        model = split_rows(model, parts)?;
        coupling = Coupling::of(&model.graph)?;
    }
    joined(model, coupling)
}

/// The net with joined layers, and its channel structure.
///
/// # Errors
/// As [`Coupling::of`].
pub(super) fn joined(model: Canonical, coupling: Coupling) -> Result<(Model, Coupling)> {
    let had_ties = model.had_ties();
    let mut model = model.into_inner();
    match had_ties && repeated::join(&mut model.graph, &coupling) {
        true => Coupling::of(&model.graph).map(|coupling| (model, coupling)),
        false => Ok((model, coupling)),
    }
}

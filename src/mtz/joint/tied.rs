//! Derives a net's channel structure, and splits layers with several rows per channel.

use crate::canon::{Canonical, split_rows};
use crate::couple::Coupling;
use crate::error::Result;
use crate::ir::Model;

/// Limit of rounds. Several are needed for consecutive layers, such as a layer and a depthwise one
/// after it.
const MOST_ROUNDS: usize = 8;

/// The net with split layers, and its channel structure.
///
/// # Errors
/// As [`Coupling::of`].
pub fn coupled(mut model: Canonical) -> Result<(Model, Coupling)> {
    let mut coupling = Coupling::of(&model.graph)?;
    for _ in 0..MOST_ROUNDS {
        if coupling.tied.is_empty() {
            break;
        }
        let parts = coupling.tied.iter().map(|tied| (tied.node, tied.rows.as_slice()));
        model = split_rows(model, parts)?;
        coupling = Coupling::of(&model.graph)?;
    }
    Ok((model.into_inner(), coupling))
}

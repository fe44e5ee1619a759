//! A net's channel structure, with rows that are one channel in layers of their own.

use crate::canon::{Canonical, split_rows};
use crate::couple::Coupling;
use crate::error::Result;
use crate::ir::Model;

/// More rounds than rows are tied in a row, as those of a layer and of a depthwise one behind it.
const MOST_ROUNDS: usize = 8;

/// The net as a merge sees it, and its channel structure.
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

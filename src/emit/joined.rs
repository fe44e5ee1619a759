//! Joins layers side by side in the joint graph, and keeps account of where weights are.
//!
//! Canonical form splits the rows of a layer if two of them belong to one channel. Pieces of such layers are put
//! together behind them, so they are one node again wherever their weights are owned alike.

use std::collections::BTreeSet;

use crate::canon;
use crate::ir::{Graph, ValueId};

use super::recipe::Placed;

/// Joins the layers. Blocks of their weights become blocks of the joined ones.
pub(super) fn join_layers(graph: &mut Graph, placed: &mut [Placed]) {
    let fixed = placed.iter().filter(|place| place.transposed || place.start > 0);
    let fixed: BTreeSet<ValueId> = fixed.map(|place| place.target).collect();
    for joined in canon::join_layers(graph, |constant| !fixed.contains(&constant)) {
        for (part, places) in joined.parts.iter().zip(&joined.places) {
            for place in placed.iter_mut() {
                // What is added to a block has the places of the block.
                if place.plus == Some(*part) {
                    place.plus = Some(joined.whole);
                }
                if place.target != *part {
                    continue;
                }
                let within = match &place.within {
                    Some((_, rows)) => rows.iter().map(|row| places[*row]).collect(),
                    None => places.clone(),
                };
                place.target = joined.whole;
                place.within = Some((joined.axis, within));
            }
        }
    }
    placed.iter_mut().for_each(Placed::begin_at_row);
}

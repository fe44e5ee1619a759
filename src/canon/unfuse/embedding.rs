//! Embeddings of tokens, positions and segments, added up and normalised.

use crate::ir::{Tensor, ValueId};

use super::{Site, normalisation};

/// Inputs: ids of tokens and segments, tables of tokens, positions and segments, scale, shift, mask, and
/// positions.
pub(super) fn normalised(site: &mut Site<'_>) -> Option<ValueId> {
    let is_masked = site.input(7).is_some();
    if is_masked || !site.only_first_is_read() {
        return None;
    }
    let (ids, table) = (site.input(0)?, site.input(2)?);
    let tokens = site.op("Gather", &[table, ids]);
    let places = site.input(3)?;
    let positions = match site.input(8) {
        Some(given) => site.op("Gather", &[places, given]),
        None => {
            let shape = site.op("Shape", &[ids]);
            let name = format!("{}.at", site.name);
            let [zero, one, two] = [0, 1, 2]
                .map(|n| site.graph.add_initializer(&name, Tensor::from_i64(vec![1], &[n])));
            let length = site.op("Slice", &[shape, one, two]);
            site.op("Slice", &[places, zero, length, zero])
        }
    };
    let mut sum = site.op("Add", &[tokens, positions]);
    if let (Some(segments), Some(table)) = (site.input(1), site.input(4)) {
        let rows = site.op("Gather", &[table, segments]);
        sum = site.op("Add", &[sum, rows]);
    }
    let (scale, shift) = (site.input(5)?, site.input(6));
    let epsilon = site.node().float("epsilon", 1e-12);
    normalisation::normalised(site, sum, scale, shift, epsilon)
}

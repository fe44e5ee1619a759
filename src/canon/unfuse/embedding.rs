//! Embeddings of tokens, positions and segments, added up and normalised.

use std::collections::BTreeMap;

use crate::ir::{Attribute, DataType, Tensor, ValueId};

use super::{Site, normalisation};

/// Inputs: ids of tokens and segments, tables of tokens, positions and segments, scale, shift, mask, and
/// positions. Outputs: the embeddings, the number of tokens of each sample, and the sum before it is normalised.
pub(super) fn normalised(site: &mut Site<'_>) -> Option<ValueId> {
    let outputs = site.node().outputs.clone();
    let read = |n: usize| outputs.get(n).copied().flatten().filter(|value| site.is_read(*value));
    let (lengths, sum) = (read(1), read(2));
    if sum.is_some() {
        return None;
    }
    if let Some(lengths) = lengths {
        count_tokens(site, lengths)?;
    }
    let tables = Tables {
        tokens: site.input(2)?,
        places: site.input(3)?,
        segments: site.input(4),
        scale: site.input(5)?,
        shift: site.input(6),
    };
    added_up(site, &tables, site.input(8))
}

/// `QEmbedLayerNormalization`. Inputs: as [`normalised`] up to the mask, with tables, scale and shift as integers, then
/// the scales of these five, and their zero points.
pub(super) fn quantised(site: &mut Site<'_>) -> Option<ValueId> {
    if let Some(lengths) = site.node().output(1).filter(|value| site.is_read(*value)) {
        count_tokens(site, lengths)?;
    }
    let floats = |site: &mut Site<'_>, slot: usize| site.decoded([slot, slot + 6, slot + 11], 0);
    let tables = Tables {
        tokens: floats(site, 2)?,
        places: floats(site, 3)?,
        segments: floats(site, 4),
        scale: floats(site, 5)?,
        shift: floats(site, 6),
    };
    added_up(site, &tables, None)
}

/// What ids pick rows of, and what the sum is scaled and shifted by.
struct Tables {
    tokens: ValueId,
    places: ValueId,
    segments: Option<ValueId>,
    scale: ValueId,
    shift: Option<ValueId>,
}

/// The normalised sum of embeddings; `given` are the positions, if they are given.
fn added_up(site: &mut Site<'_>, tables: &Tables, given: Option<ValueId>) -> Option<ValueId> {
    let ids = site.input(0)?;
    let tokens = site.op("Gather", &[tables.tokens, ids]);
    let places = tables.places;
    let positions = match given {
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
    if let (Some(segments), Some(table)) = (site.input(1), tables.segments) {
        let rows = site.op("Gather", &[table, segments]);
        sum = site.op("Add", &[sum, rows]);
    }
    let epsilon = site.node().float("epsilon", 1e-12);
    normalisation::normalised(site, sum, tables.scale, tables.shift, epsilon)
}

/// Replaces `lengths` by the number of ones in each row of the mask.
fn count_tokens(site: &mut Site<'_>, lengths: ValueId) -> Option<()> {
    let mask = site.input(7).filter(|_| !site.graph.outputs.contains(&lengths))?;
    let cast = |site: &mut Site<'_>, value, to: DataType| {
        site.op_with("Cast", value, ("to", Attribute::Int(i64::from(to.code()))))
    };
    let wide = cast(site, mask, DataType::I64);
    let name = format!("{}.number", site.name);
    let one = site.graph.add_initializer(&name, Tensor::from_i64(Vec::new(), &[1]));
    let counted = site.op("Equal", &[wide, one]);
    let counted = cast(site, counted, DataType::I32);
    let axes = site.graph.add_initializer(&name, Tensor::from_i64(vec![1], &[1]));
    let flat = BTreeMap::from([("keepdims".to_owned(), Attribute::Int(0))]);
    let count = site.add("ReduceSum", &[Some(counted), Some(axes)], flat);
    let (id, ty) = (site.id, site.graph.value(lengths).ty.clone());
    site.graph.set_type(count, ty);
    site.graph.edit_node(id, |node| node.outputs.truncate(1));
    site.graph.replace_uses(lengths, count);
    Some(())
}

//! Pairs unmatched inputs by the weights of their consumers.

use std::collections::HashMap;

use ndarray::{Array2, Array3};

use crate::error::Result;
use crate::mtz::joint::JointModel;
use crate::mtz::matching::{Optimal, Share, dissimilarity, least_cost_pairs, pair_heads};
use crate::mtz::site::{SiteLayer, common_neurons, head_blocks};

use super::input_matching::{InputGroup, UnmatchedInputs};

/// Pairs unmatched inputs that have the most similar weights in their consumers.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a layer's weight is not a matrix.
pub(crate) fn similar_inputs(
    joint: &JointModel,
    members: &[SiteLayer],
    unmatched: &UnmatchedInputs,
) -> Result<Vec<(usize, usize)>> {
    let input_groups = [&unmatched.known, &unmatched.open];
    let [a, b] = input_groups.map(|group| input_weights(joint, &members[group.member], group));
    let consumers = input_groups.map(|input_group| members[input_group.member].clone());
    let neurons = common_neurons(joint, &consumers).into_iter();
    let pair = |rows: Vec<(usize, usize)>| Some((rows.first()?.1, rows.get(1)?.1));
    let mut rows: Vec<(usize, usize)> = neurons.filter_map(pair).collect();
    // Sums over rows do not depend on the numbering of neurons.
    rows.sort_unstable();
    let rows = (!rows.is_empty()).then_some(rows.as_slice());
    let (cost, share) = (dissimilarity(&a?, &b?, rows)?, Share::Count(unmatched.most));
    let [rows, columns] = input_groups.map(|own| own.all(&members[own.member]));
    match head_blocks(joint, &rows, &columns) {
        Some(heads) => {
            let owners = vec![1; rows.len()];
            let found = pair_heads(&Optimal, cost.view(), &owners, &heads, share)?;
            Ok(found.pairs().to_vec())
        }
        None => least_cost_pairs(&cost, share),
    }
}

/// A layer's weights for some input channels: [channels, rows, weights of each].
fn input_weights(
    joint: &JointModel,
    member: &SiteLayer,
    input_group: &InputGroup,
) -> Result<Array3<f32>> {
    let matrix: Array2<f32> = joint.weights(member.place())?;
    let inputs = member.layer.inputs.as_deref().unwrap_or_default();
    let taps = (matrix.ncols() - 1) / inputs.len().max(1);
    let mut columns: HashMap<usize, Vec<usize>> = HashMap::new();
    for (at, channel) in inputs.iter().enumerate().filter(|(_, c)| c.group == input_group.group) {
        columns.entry(channel.index).or_default().extend(at * taps..(at + 1) * taps);
    }
    let of = |channel: &usize| columns.get(channel).map_or(&[][..], Vec::as_slice);
    let each = input_group.channels.iter().map(|c| of(c).len()).max().unwrap_or(0);
    let shape = (input_group.channels.len(), matrix.nrows(), each);
    Ok(Array3::from_shape_fn(shape, |(channel, row, n)| {
        of(&input_group.channels[channel]).get(n).map_or(0.0, |column| matrix[(row, *column)])
    }))
}

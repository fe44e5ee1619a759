//! Nodes whose rows belong to several groups.

use super::{Channel, CoupledLayer, GroupId};
use crate::ops::Layer;

/// Splits a layer by the groups of its rows.
pub(super) fn by_group(all: CoupledLayer) -> Vec<CoupledLayer> {
    let mut rows: Vec<(GroupId, Vec<usize>)> = Vec::new();
    for (row, channel) in all.outputs.iter().enumerate() {
        match rows.iter_mut().find(|(group, _)| *group == channel.group) {
            Some((_, own)) => own.push(row),
            None => rows.push((channel.group, vec![row])),
        }
    }
    if rows.len() < 2 {
        return vec![all];
    }
    let pick = |channels: &[Channel], own: &[usize]| own.iter().map(|r| channels[*r]).collect();
    let part = |(number, (_, own)): (usize, (GroupId, Vec<usize>))| CoupledLayer {
        name: format!("{}:{number}", all.name),
        inputs: match &all.inputs {
            Some(inputs) if all.per_channel => Some(pick(inputs, &own)),
            inputs => inputs.clone(),
        },
        outputs: pick(&all.outputs, &own),
        per_channel: all.per_channel,
        weights_of: all.weights_of,
        is_repeated: all.is_repeated,
        tied: all.tied,
        layer: Layer { rows: Some(own), ..all.layer.clone() },
    };
    rows.into_iter().enumerate().map(part).collect()
}

//! The arithmetic of a plan: how many parameters a joint model stores, and for whom.

use serde::{Deserialize, Serialize};

use crate::couple::{Channel, CoupledLayer};
use crate::error::Result;

use super::joint::{Block, JointModel, Owner};

/// Numbers of layer parameters (weights and biases).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Sizes {
    /// Of each task's net before merging.
    pub originals: Vec<u64>,
    /// Stored once for several tasks.
    pub shared: u64,
    /// Stored for one task only.
    pub specific: Vec<u64>,
}

impl Sizes {
    /// Of the joint model.
    pub fn joint(&self) -> u64 {
        self.shared + self.specific.iter().sum::<u64>()
    }

    /// Of all original nets together.
    pub fn separate(&self) -> u64 {
        self.originals.iter().sum()
    }
}

/// Counts the parameters of a joint model from its layout alone.
///
/// # Errors
/// If a layer's weight is not a matrix.
pub fn sizes(joint: &JointModel) -> Result<Sizes> {
    let mut sizes = Sizes { specific: vec![0; joint.tasks.len()], ..Sizes::default() };
    for (task, net) in joint.tasks.iter().enumerate() {
        let layout = joint.layout(task);
        let mut original = 0;
        for layer in &net.coupling.layers {
            let (out, inputs, taps) = layer.layer.sizes(&net.model.graph)?;
            let has_bias = layer.layer.bias.is_some();
            original += (out * inputs * taps + if has_bias { out } else { 0 }) as u64;
            let rows = owners(&layer.outputs, &layout);
            for (owner, n) in &rows {
                let mut add = |owner: &Owner, count: usize| match owner {
                    // The first owner counts for all of them.
                    Owner::Tasks(tasks) if tasks.len() > 1 => {
                        if tasks.first() == Some(&task) {
                            sizes.shared += count as u64;
                        }
                    }
                    _ => sizes.specific[task] += count as u64,
                };
                if has_bias {
                    add(owner, *n);
                }
                for (columns, m) in columns(layer, &layout, inputs) {
                    let common = match &columns {
                        Owner::Input => owner.clone(),
                        columns if columns == owner => owner.clone(),
                        _ => Owner::Tasks(vec![task]),
                    };
                    add(&common, n * m * taps);
                }
            }
        }
        sizes.originals.push(original);
    }
    Ok(sizes)
}

fn columns(layer: &CoupledLayer, layout: &[Vec<Block>], inputs: usize) -> Vec<(Owner, usize)> {
    if layer.per_channel {
        return vec![(Owner::Input, inputs)];
    }
    match &layer.inputs {
        Some(channels) => owners(channels, layout),
        None => vec![(Owner::Tasks(Vec::new()), inputs)],
    }
}

/// How many of `channels` each owner has.
fn owners(channels: &[Channel], layout: &[Vec<Block>]) -> Vec<(Owner, usize)> {
    let mut counts: Vec<(Owner, usize)> = Vec::new();
    for channel in channels {
        let block = layout[channel.group.0].iter().find(|b| b.channels.contains(&channel.index));
        let Some(block) = block else { continue };
        match counts.iter_mut().find(|(owner, _)| *owner == block.owner) {
            Some((_, n)) => *n += 1,
            None => counts.push((block.owner.clone(), 1)),
        }
    }
    counts
}

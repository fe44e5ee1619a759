//! The order in which a joint model stores channels: blocks with the same owner.

use crate::align::TaskId;
use crate::couple::End;

use super::model::{JointModel, Neuron};

/// The owner of a block of channels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// Channels of a model input.
    Input,
    /// Channels of these tasks (ascending); one task alone for task-specific channels.
    Tasks(Vec<TaskId>),
}

impl Owner {
    /// Whether more than one task owns the channels.
    pub fn is_shared(&self) -> bool {
        matches!(self, Owner::Tasks(tasks) if tasks.len() > 1)
    }
}

/// Channels of one group with the same owner, in the order in which the joint model stores them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The owner.
    pub owner: Owner,
    /// Channel indices inside the task's group; the `i`-th is the same neuron for every owner.
    pub channels: Vec<usize>,
    /// The first neuron of the block, which identifies it in all tasks; `None` if it is not shared.
    pub first: Option<Neuron>,
}

impl JointModel {
    /// How the joint model stores each group of a task: shared blocks first, the task's own last.
    pub fn layout(&self, task: TaskId) -> Vec<Vec<Block>> {
        let owners = self.owners();
        let groups = self.task(task).coupling().groups.iter().zip(self.sharing(task));
        groups
            .map(|(group, channels)| {
                // Channels of an input without a counterpart are the task's own.
                let is_input =
                    group.end() == Some(End::Input) && channels.iter().all(Option::is_none);
                let mut keyed: Vec<(Owner, Option<Neuron>, usize)> = channels
                    .iter()
                    .enumerate()
                    .map(|(i, neuron)| match neuron {
                        Some(n) => (Owner::Tasks(owners[n.0 as usize].clone()), Some(*n), i),
                        None if is_input => (Owner::Input, None, i),
                        None => (Owner::Tasks(vec![task]), None, i),
                    })
                    .collect();
                keyed.sort_by_key(|(owner, neuron, i)| {
                    let width = if let Owner::Tasks(t) = owner { t.len() } else { 0 };
                    (std::cmp::Reverse(width), owner.clone(), *neuron, *i)
                });
                blocks(keyed)
            })
            .collect()
    }
}

fn blocks(keyed: Vec<(Owner, Option<Neuron>, usize)>) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (owner, neuron, channel) in keyed {
        match blocks.last_mut() {
            Some(block) if block.owner == owner => block.channels.push(channel),
            _ => blocks.push(Block { owner, channels: vec![channel], first: neuron }),
        }
    }
    blocks
}

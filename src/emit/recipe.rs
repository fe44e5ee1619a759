//! The recipe inside a joint model's file, from which the task nets can be recovered.
//!
//! The metadata hold each task's graph without its weights, the shared neurons, and the places of each
//! weight's blocks in the joint model's initializers. So a joint model can be split, converted to another
//! form, retrained or merged further, even after another program has trained its weights.

mod assemble;
mod format;
mod indices;
mod restore;
mod write;

use super::filled::fill;
use crate::canon::{regroup, rejoin};
use crate::error::{Error, ErrorKind};
use crate::ir::{Model, ValueId};
use crate::mtz::joint::JointModel;

pub use self::restore::restore;
pub(super) use self::write::{is_inline, write};

/// Metadata key of the recipe.
pub const RECIPE_KEY: &str = "onnx_zip.recipe";

/// Metadata key, in a task's net, of the checksum of the file that it was read from.
pub const SOURCE_KEY: &str = "onnx_zip.source";

/// Limit of tasks. Each may hold all weights of the file, so a short recipe could ask for any memory.
const MOST_TASKS: usize = 256;

/// The place of a block of a task's constant in the joint graph.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) task: usize,
    pub(super) source: ValueId,
    /// The block's indices along each axis that it does not hold completely.
    pub(super) parts: Vec<(usize, Vec<usize>)>,
    pub(super) target: ValueId,
    /// What is added to the target, if the block is a sum.
    pub(super) plus: Option<ValueId>,
    /// Where the block begins along the target's first axis.
    pub(super) start: usize,
    /// Whether the target holds the block with its two axes swapped.
    pub(super) transposed: bool,
    /// The axis of the target, and of what is added to it, along which the block has these indices, if they hold other
    /// blocks, too.
    pub(super) within: Option<(usize, Vec<usize>)>,
}

impl Placed {
    /// A block that is its target.
    pub(super) fn at(
        target: ValueId,
        task: usize,
        source: ValueId,
        parts: Vec<(usize, Vec<usize>)>,
    ) -> Self {
        Placed {
            task,
            source,
            parts,
            target,
            plus: None,
            start: 0,
            transposed: false,
            within: None,
        }
    }

    /// Notes only where the block begins, if it is a run of rows of its target and no sum.
    pub(super) fn begin_at_row(&mut self) {
        let Some((0, rows)) = &self.within else { return };
        let first = rows.first().copied().filter(|_| self.plus.is_none());
        if let Some(first) = first.filter(|first| (*first..).zip(rows).all(|(a, b)| a == *b)) {
            self.start = first;
            self.within = None;
        }
    }
}

/// Whether a model is a joint model of this program, from which the task nets can be recovered.
pub fn is_joint(model: &Model) -> bool {
    model.metadata.contains_key(RECIPE_KEY)
}

/// One task of a joint model as a plain net, grouped convolutions and layers with split rows as its original has
/// them.
pub fn plain_task(joint: &JointModel, task: usize) -> Model {
    let task = &joint.tasks()[task];
    let producer = super::PRODUCER.to_owned();
    let mut model = Model { name: task.name().to_owned(), producer, ..task.model().clone() };
    regroup(&mut model);
    rejoin(&mut model);
    fill(&mut model.graph);
    model
}

fn damaged() -> Error {
    Error::new(ErrorKind::Format, "the joint model's recipe does not match its graph")
        .hint("another tool has changed the joint model; take the file as written")
}

#[cfg(test)]
mod tests;

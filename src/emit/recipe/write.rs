//! Writes the recipe of a joint model.

use std::collections::{HashMap, HashSet};

use super::format::{self, BlockRecipe, Recipe, TaskRecipe, WeightRecipe};
use super::{MOST_TASKS, Placed, indices};
use crate::align::TaskId;
use crate::couple::LayerId;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Graph, Model, Tensor, TensorType, ValueId};
use crate::mtz::joint::{JointModel, Task};
use crate::onnx;

/// Constants of up to this many elements stay in the task's graph: shapes, axes and bounds, but no float
/// vectors, which may be trained. Empty constants stay, too, since inputs must not have an extent of 0.
const INLINE: usize = 16;

/// The recipe of a joint model, for its metadata.
///
/// # Errors
/// [`ErrorKind::Parity`] if [`super::restore`] could not read it.
pub(in crate::emit) fn write(
    joint: &JointModel,
    graph: &Graph,
    placed: &[Placed],
) -> Result<String> {
    check(joint)?;
    let mut own: Vec<Vec<&Placed>> = vec![Vec::new(); joint.tasks().len()];
    for place in placed {
        if let Some(own) = own.get_mut(place.task) {
            own.push(place);
        }
    }
    let inner = graph.nodes().flat_map(|(_, node)| node.reads());
    let read = inner.chain(graph.outputs.iter().copied()).collect();
    let mut places = Places { graph, read, lists: Vec::new(), known: HashMap::new() };
    let mut tasks = Vec::new();
    for ((id, task), own) in (0..).map(TaskId).zip(joint.tasks()).zip(&own) {
        let weights = places.weights_of(task, own);
        let names: Vec<&str> = weights.iter().map(|w| w.name.as_str()).collect();
        tasks.push(TaskRecipe {
            name: task.name().to_owned(),
            graph: onnx::encode(&without_weights(task.model(), &names))?,
            weights,
            sharing: sharing(joint, id),
            based: based(joint, id),
            fused: indices::write(joint.fused()[id.0].iter().map(|n| n.map(|n| n as usize))),
            ..TaskRecipe::default()
        });
    }
    format::encode(Recipe { tasks, lists: places.lists })
}

fn check(joint: &JointModel) -> Result<()> {
    if joint.tasks().len() > MOST_TASKS {
        let message = format!("{} tasks are more than {MOST_TASKS}", joint.tasks().len());
        return Err(Error::new(ErrorKind::Parity, message).hint("merge fewer models into one"));
    }
    if let Some(task) = joint.confused() {
        let message = "two neurons became one, so the net could not be recovered from the result";
        return Err(Error::new(ErrorKind::Parity, message)
            .in_model(task.name())
            .hint("report this fault with the models, or share fewer layers"));
    }
    Ok(())
}

/// Where weights are in the joint graph.
struct Places<'g> {
    graph: &'g Graph,
    /// The values that nodes and outputs of the joint graph read.
    read: HashSet<ValueId>,
    /// All lists of indices, as texts, each once.
    lists: Vec<String>,
    /// The number of each list.
    known: HashMap<String, usize>,
}

impl Places<'_> {
    /// The weights of a task with the `own` blocks of them, in the order in which they are placed first.
    fn weights_of(&mut self, task: &Task, own: &[&Placed]) -> Vec<WeightRecipe> {
        let source = task.graph();
        // Constants that the joint graph does not read, such as the indices of a channel shuffle, are not
        // in the file.
        let unread = own.iter().filter(|p| !self.read.contains(&p.target));
        let unread: HashSet<ValueId> = unread.map(|p| p.source).collect();
        let mut weights: Vec<WeightRecipe> = Vec::new();
        let mut numbers: HashMap<ValueId, usize> = HashMap::new();
        for place in own.iter().filter(|p| !unread.contains(&p.source)) {
            let Some(tensor) = source.initializer(place.source).filter(|t| !is_inline(t)) else {
                continue;
            };
            let number = *numbers.entry(place.source).or_insert(weights.len());
            if number == weights.len() {
                let name = source.value(place.source).name.clone();
                weights.push(WeightRecipe { name, blocks: Vec::new() });
            }
            let block = self.block(place, tensor);
            // A layer that is applied several times places its weights as often.
            let blocks = &mut weights[number].blocks;
            if !blocks.contains(&block) {
                blocks.push(block);
            }
        }
        weights
    }

    /// A block of the weight `whole`.
    fn block(&mut self, place: &Placed, whole: &Tensor) -> BlockRecipe {
        // A complete axis needs no list.
        let cut = place.parts.iter().filter(|(axis, indices)| {
            !whole.dims.get(*axis).is_some_and(|d| indices.iter().copied().eq(0..*d))
        });
        let parts = cut.map(|(axis, list)| (*axis, self.number(list))).collect();
        let within = place.within.as_ref().map(|(axis, list)| (*axis, self.number(list)));
        let name = |value: ValueId| self.graph.value(value).name.clone();
        BlockRecipe {
            from: name(place.target),
            plus: place.plus.map(name),
            parts,
            start: place.start,
            transposed: place.transposed,
            within,
        }
    }

    /// The number of a list among all lists; adds the list if it is new.
    fn number(&mut self, list: &[usize]) -> usize {
        let list = indices::write(list.iter().copied().map(Some));
        let lists = &mut self.lists;
        *self.known.entry(list).or_insert_with_key(|list| {
            lists.push(list.clone());
            lists.len() - 1
        })
    }
}

/// Whether a constant is small and not a weight.
pub(in crate::emit) fn is_inline(tensor: &Tensor) -> bool {
    let is_vector = !tensor.is_empty() && !tensor.dims.is_empty();
    tensor.len() <= INLINE && !(is_vector && tensor.dtype.is_float())
}

fn sharing(joint: &JointModel, task: TaskId) -> Vec<String> {
    let groups = joint.sharing(task).iter();
    groups
        .map(|group| match group.iter().any(Option::is_some) {
            true => indices::write(group.iter().map(|n| n.map(|n| n.0 as usize))),
            false => String::new(),
        })
        .collect()
}

/// The number of the common part of each layer's weights; empty where no layer has a difference.
fn based(joint: &JointModel, task: TaskId) -> String {
    let layers = (0..joint.task(task).coupling().layers.len()).map(LayerId);
    let number = |layer| joint.based_layer(task.layer(layer)).map(|based| based.number as usize);
    let numbers: Vec<Option<usize>> = layers.map(number).collect();
    match numbers.iter().any(Option::is_some) {
        true => indices::write(numbers),
        false => String::new(),
    }
}

/// The model with the named initializers turned into additional inputs.
fn without_weights(model: &Model, names: &[&str]) -> Model {
    let mut light = model.clone();
    for name in names {
        let Some(id) = light.graph.value_named(name) else { continue };
        let Some(tensor) = light.graph.initializer(id) else { continue };
        let ty: TensorType = tensor.ty();
        light.graph.set_input(id, ty);
    }
    light
}

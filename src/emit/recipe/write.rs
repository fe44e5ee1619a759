//! Writes the recipe of a joint model.

use std::collections::{HashMap, HashSet};

use super::format::{self, BlockRecipe, Recipe, TaskRecipe};
use super::{MOST_TASKS, Placed, indices};
use crate::align::TaskId;
use crate::canon::infer_types;
use crate::couple::LayerId;
use crate::emit::names::short;
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
    let rows = rows(joint);
    let mut places = Places { graph, read, rows, lists: Vec::new(), known: HashMap::new() };
    let mut tasks = Vec::new();
    for ((id, task), own) in (0..).map(TaskId).zip(joint.tasks()).zip(&own) {
        let (sources, weights) = places.weights_of(task, own);
        tasks.push(TaskRecipe {
            name: task.name().to_owned(),
            graph: onnx::encode_net(&without_weights(task.model(), &sources))?,
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
    /// Per list of the channels that are shared neurons, the task and the group.
    rows: HashMap<Vec<usize>, (usize, usize)>,
    /// All lists of indices, as texts, each once.
    lists: Vec<String>,
    /// The number of each list.
    known: HashMap<String, usize>,
}

impl Places<'_> {
    /// The weights of a task and the `own` blocks of each, in the order in which they are placed first.
    fn weights_of(
        &mut self,
        task: &Task,
        own: &[&Placed],
    ) -> (Vec<ValueId>, Vec<Vec<BlockRecipe>>) {
        let source = task.graph();
        // Constants that the joint graph does not read, such as the indices of a channel shuffle, are not
        // in the file.
        let unread = own.iter().filter(|p| !self.read.contains(&p.target));
        let unread: HashSet<ValueId> = unread.map(|p| p.source).collect();
        let (mut sources, mut weights) = (Vec::new(), Vec::new());
        let mut numbers: HashMap<ValueId, usize> = HashMap::new();
        for place in own.iter().filter(|p| !unread.contains(&p.source)) {
            let Some(tensor) = source.initializer(place.source).filter(|t| !is_inline(t)) else {
                continue;
            };
            let number = *numbers.entry(place.source).or_insert(weights.len());
            if number == weights.len() {
                sources.push(place.source);
                weights.push(Vec::new());
            }
            let block = self.block(place, tensor, &source.value(place.source).name);
            // A layer that is applied several times places its weights as often.
            let blocks: &mut Vec<BlockRecipe> = &mut weights[number];
            if !blocks.contains(&block) {
                blocks.push(block);
            }
        }
        (sources, weights)
    }

    /// A block of the weight `whole` called `weight`.
    fn block(&mut self, place: &Placed, whole: &Tensor, weight: &str) -> BlockRecipe {
        // A complete axis needs no list.
        let cut = place.parts.iter().filter(|(axis, indices)| {
            !whole.dims.get(*axis).is_some_and(|d| indices.iter().copied().eq(0..*d))
        });
        let parts = cut.map(|(axis, list)| (*axis, self.number(list))).collect();
        let within = place.within.as_ref().map(|(axis, list)| (*axis, self.number(list)));
        let name = |value: ValueId| self.graph.value(value).name.clone();
        let from = name(place.target);
        let owner = from.strip_suffix(&short(weight)).and_then(|owner| owner.strip_suffix('/'));
        let (from, of) = match owner {
            Some(owner) => (String::new(), Some(owner.to_owned())),
            None => (from, None),
        };
        BlockRecipe {
            from,
            of,
            plus: place.plus.map(name),
            parts,
            start: place.start,
            transposed: place.transposed,
            within,
        }
    }

    /// The number of a list among all lists; adds the list if it is new.
    fn number(&mut self, list: &[usize]) -> usize {
        let row = self.rows.get(list).map(|(task, group)| format!("={task},{group}"));
        let list = indices::write(list.iter().copied().map(Some));
        let list = row.filter(|row| row.len() < list.len()).unwrap_or(list);
        let lists = &mut self.lists;
        *self.known.entry(list).or_insert_with_key(|list| {
            lists.push(list.clone());
            lists.len() - 1
        })
    }
}

/// Per list of the channels of a group that are shared neurons, in the order of the neurons, the first task and
/// group that have it.
fn rows(joint: &JointModel) -> HashMap<Vec<usize>, (usize, usize)> {
    let mut rows = HashMap::new();
    for task in 0..joint.tasks().len() {
        for (group, row) in joint.sharing(TaskId(task)).iter().enumerate() {
            let row: Vec<Option<usize>> = row.iter().map(|n| n.map(|n| n.0 as usize)).collect();
            rows.entry(indices::in_order(&row)).or_insert((task, group));
        }
    }
    rows
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

/// The model with its weights turned into additional inputs, and without the types that follow from others.
fn without_weights(model: &Model, weights: &[ValueId]) -> Model {
    let mut light = model.clone();
    for value in inferred(&model.graph) {
        light.graph.set_type(value, None);
    }
    for weight in weights {
        let Some(tensor) = light.graph.initializer(*weight) else { continue };
        let ty: TensorType = tensor.ty();
        light.graph.set_input(*weight, ty);
    }
    light
}

/// The inner values whose types are inferred as they are.
fn inferred(graph: &Graph) -> Vec<ValueId> {
    let is_inner = |value: &ValueId| {
        graph.producer(*value).is_some()
            && graph.value(*value).ty.is_some()
            && !graph.outputs.contains(value)
    };
    let inner: Vec<ValueId> = graph.values().map(|(id, _)| id).filter(is_inner).collect();
    let mut bare = graph.clone();
    inner.iter().for_each(|value| bare.set_type(*value, None));
    if infer_types(&mut bare).is_err() {
        return Vec::new();
    }
    let same = |value: &ValueId| bare.value(*value).ty == graph.value(*value).ty;
    inner.into_iter().filter(same).collect()
}

//! The recipe inside a joint model's file, from which the task nets can be recovered.
//!
//! The metadata hold each task's graph without its weights, the shared neurons, and the places of each
//! weight's blocks in the joint model's initializers. So a joint model can be split, converted to another
//! form, retrained or merged further, even after another program has trained its weights.

mod assemble;
mod format;
mod indices;

use std::collections::HashSet;

use crate::align::TaskId;
use crate::canon::{Canonical, dequantise, regroup};
use crate::couple::LayerId;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Graph, Model, Tensor, TensorType, ValueId};
use crate::mtz::joint::{Based, JointModel, Neuron, Task};
use crate::naming::{shown, task_fault};
use crate::onnx;

use assemble::Sums;
use format::{BlockRecipe, Recipe, TaskRecipe, WeightRecipe};
use indices::Allowance;

/// Metadata key of the recipe.
pub const RECIPE_KEY: &str = "onnx_zip.recipe";

/// Metadata key, in a task's net, of the checksum of the file that it was read from.
pub const SOURCE_KEY: &str = "onnx_zip.source";

/// Constants of up to this many elements stay in the task's graph: shapes, axes and bounds, but no float
/// vectors, which may be trained. Empty constants stay, too, since inputs must not have an extent of 0.
const INLINE: usize = 16;

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
}

impl Placed {
    /// A block that is its target.
    pub(super) fn at(
        target: ValueId,
        task: usize,
        source: ValueId,
        parts: Vec<(usize, Vec<usize>)>,
    ) -> Self {
        Placed { task, source, parts, target, plus: None, start: 0, transposed: false }
    }
}

/// The recipe of a joint model, for its metadata.
///
/// # Errors
/// [`ErrorKind::Parity`] if [`restore`] could not read it.
pub(super) fn write(joint: &JointModel, graph: &Graph, placed: &[Placed]) -> Result<String> {
    if let Some(task) = joint.confused() {
        let message = "two neurons became one, so the net could not be recovered from the result";
        return Err(Error::new(ErrorKind::Parity, message)
            .in_model(task.name())
            .hint("report this fault with the models, or share fewer layers"));
    }
    let mut recipe = Recipe::default();
    let inner = graph.nodes().flat_map(|(_, node)| node.reads());
    let read: HashSet<ValueId> = inner.chain(graph.outputs.iter().copied()).collect();
    for (index, task) in joint.tasks().iter().enumerate() {
        let source = task.graph();
        let mut weights: Vec<WeightRecipe> = Vec::new();
        let own = || placed.iter().filter(|p| p.task == index);
        // Constants that the joint graph does not read, such as the indices of a channel shuffle, are not
        // in the file.
        let unread: HashSet<ValueId> =
            own().filter(|p| !read.contains(&p.target)).map(|p| p.source).collect();
        for place in own() {
            let Some(tensor) = source.initializer(place.source).filter(|t| !is_inline(t)) else {
                continue;
            };
            if unread.contains(&place.source) {
                continue;
            }
            let name = &source.value(place.source).name;
            // A complete axis needs no list.
            let cut = place.parts.iter().filter(|(axis, indices)| {
                !tensor.dims.get(*axis).is_some_and(|d| indices.iter().copied().eq(0..*d))
            });
            let parts = cut.map(|(axis, list)| (*axis, intern(&mut recipe.lists, list)));
            let parts = parts.collect();
            let from = graph.value(place.target).name.clone();
            let block = BlockRecipe {
                from,
                plus: place.plus.map(|plus| graph.value(plus).name.clone()),
                parts,
                start: place.start,
                transposed: place.transposed,
            };
            match weights.iter_mut().find(|w| w.name == *name) {
                Some(weight) => weight.blocks.push(block),
                None => weights.push(WeightRecipe { name: name.clone(), blocks: vec![block] }),
            }
        }
        let names: Vec<&str> = weights.iter().map(|w| w.name.as_str()).collect();
        let graph = onnx::encode(&without_weights(task.model(), &names))?;
        recipe.tasks.push(TaskRecipe {
            name: task.name().to_owned(),
            graph,
            weights,
            sharing: sharing(joint, TaskId(index)),
            based: based(joint, TaskId(index)),
            fused: indices::write(joint.fused()[index].iter().map(|n| n.map(|n| n as usize))),
            ..TaskRecipe::default()
        });
    }
    format::encode(recipe)
}

/// Whether a constant is small and not a weight.
fn is_inline(tensor: &Tensor) -> bool {
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

/// The index of a list among all lists; adds the list if it is new.
fn intern(lists: &mut Vec<String>, list: &[usize]) -> usize {
    let list = indices::write(list.iter().copied().map(Some));
    lists.iter().position(|l| *l == list).unwrap_or_else(|| {
        lists.push(list);
        lists.len() - 1
    })
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

/// Recovers the task nets of a joint model, and their shared neurons.
///
/// # Errors
/// [`ErrorKind::Format`] if the model is not a joint model of this program, or was changed so that its
/// initializers no longer match its recipe.
pub fn restore(model: &Model) -> Result<JointModel> {
    let Some(text) = model.metadata.get(RECIPE_KEY) else {
        return Err(Error::new(
            ErrorKind::Format,
            "the model is not a joint model of onnx-zip, or its recipe was left out",
        )
        .hint("give a joint model as `onnx-zip merge` wrote it, not a stripped copy")
        .in_model(&model.name));
    };
    let recipe = format::decode(text).in_model(&model.name)?;
    check_names(&recipe.tasks).in_model(&model.name)?;
    let mut allowance = Allowance::default();
    let lists = recipe.lists.iter().map(|list| indices::read_all(list, &mut allowance));
    let lists = lists.collect::<Option<Vec<_>>>().ok_or_else(damaged)?;
    let mut stored = model.graph.clone();
    dequantise(&mut stored).in_model(&model.name)?;
    let (mut tasks, mut differences) = (Vec::new(), Vec::new());
    for task in &recipe.tasks {
        let (net, sums) = assemble::net(&stored, task, &lists).in_model(&model.name)?;
        differences.push(sums);
        tasks.push(Task::new(&task.name, Canonical::stored(net))?);
    }
    let (mut sharing, mut fused) = (Vec::new(), Vec::new());
    for (recipe, task) in recipe.tasks.iter().zip(&tasks) {
        sharing.push(shared_neurons(recipe, task, &mut allowance).ok_or_else(damaged)?);
        fused.push(numbers(&recipe.fused, &mut allowance).ok_or_else(damaged)?);
    }
    let mut joint = JointModel::with_sharing(tasks, sharing, fused).ok_or_else(damaged)?;
    for ((id, recipe), sums) in (0..).map(TaskId).zip(&recipe.tasks).zip(differences) {
        let numbers = numbers(&recipe.based, &mut allowance).ok_or_else(damaged)?;
        rebase(&mut joint, id, &numbers, sums);
    }
    Ok(joint)
}

/// Stores weights of a task as the sums that they are in the file.
fn rebase(joint: &mut JointModel, task: TaskId, numbers: &[Option<u32>], mut sums: Sums) {
    let layers = (0..joint.task(task).coupling().layers.len()).map(LayerId);
    for (layer, number) in layers.zip(numbers) {
        let own = task.layer(layer);
        let weight = joint.layer(own).layer.weight;
        let Some(number) = *number else { continue };
        let (base, difference) = match sums.remove(&weight) {
            Some((base, difference)) => (Some(base), Some(difference)),
            None => (joint.task(task).graph().initializer(weight).cloned(), None),
        };
        if let Some(base) = base {
            // A weight that is no such sum is stored as it is.
            joint.set_based(own, Based { number, base, difference });
        }
    }
}

/// The shared neuron of each channel of each group.
fn shared_neurons(
    recipe: &TaskRecipe,
    task: &Task,
    allowance: &mut Allowance,
) -> Option<Vec<Vec<Option<Neuron>>>> {
    let groups = &task.coupling().groups;
    if recipe.sharing.len() != groups.len() {
        return None;
    }
    let rows = recipe.sharing.iter().zip(groups).map(|(row, group)| {
        if row.is_empty() {
            return Some(vec![None; group.size]);
        }
        let row: Vec<Option<u32>> = numbers(row, allowance)?;
        (row.len() == group.size).then(|| row.into_iter().map(|n| n.map(Neuron)).collect())
    });
    rows.collect()
}

fn numbers(text: &str, allowance: &mut Allowance) -> Option<Vec<Option<u32>>> {
    let all = indices::read(text, allowance)?.into_iter();
    all.map(|n| n.map(|n| u32::try_from(n).ok()).map_or(Some(None), |n| n.map(Some))).collect()
}

/// Checks the names of tasks: they become names of outputs and files, and the file may be hostile.
fn check_names(tasks: &[TaskRecipe]) -> Result<()> {
    let refused = |message: String| {
        Err(Error::new(ErrorKind::Format, message).hint("merge the original models again"))
    };
    for (number, TaskRecipe { name, .. }) in tasks.iter().enumerate() {
        if let Some(fault) = task_fault(name) {
            return refused(format!("'{}' cannot name a task: {fault}", shown(name)));
        }
        if tasks.iter().take(number).any(|other| other.name == *name) {
            return refused(format!("two tasks are called '{name}'"));
        }
    }
    Ok(())
}

/// Whether a model is a joint model of this program.
pub fn is_joint(model: &Model) -> bool {
    model.metadata.contains_key(RECIPE_KEY)
}

/// One task of a joint model as a plain net, grouped convolutions as its original has them.
pub fn plain_task(joint: &JointModel, task: usize) -> Model {
    let task = &joint.tasks()[task];
    let producer = super::PRODUCER.to_owned();
    let mut model = Model { name: task.name().to_owned(), producer, ..task.model().clone() };
    regroup(&mut model);
    model
}

fn damaged() -> Error {
    Error::new(ErrorKind::Format, "the joint model's recipe does not match its graph")
        .hint("another tool has changed the joint model; take the file as written")
}

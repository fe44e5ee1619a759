//! The plan inside a joint model's file: how to take it apart again.
//!
//! The metadata hold each task's graph without its weights, which channels are shared, and for each
//! weight where its blocks lie in the joint model's initializers. So a joint model can be split,
//! turned into another form, retrained or merged further, also after its weights were trained on.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::canon::dequantise;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Graph, Model, Tensor, TensorType, ValueId, ValueKind};
use crate::mtz::joint::{JointModel, Neuron, Task};
use crate::naming::{shown, task_fault};
use crate::onnx;

/// Metadata key of the recipe.
pub const RECIPE_KEY: &str = "onnx_zip.recipe";

/// Metadata key, in a task's net, of the SHA-256 of the file that it was read from.
pub const SOURCE_KEY: &str = "onnx_zip.source";

/// Version of the recipe's format.
const VERSION: u32 = 1;

/// Constants up to this many elements stay in the task's graph, where training does not reach them:
/// shapes, axes and bounds, but no biases. Of inputs, in turn, no extent may be 0.
const INLINE: usize = 16;

/// Where a constant of a task's net went.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) task: usize,
    pub(super) source: ValueId,
    /// Axis and indices along it, for each axis of which only some are in the block.
    pub(super) parts: Vec<(usize, Vec<usize>)>,
    pub(super) target: ValueId,
}

#[derive(Serialize, Deserialize)]
struct Recipe {
    version: u32,
    tasks: Vec<TaskRecipe>,
    /// Lists of indices, written as ranges: `0-3,7,9-12`.
    lists: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct TaskRecipe {
    name: String,
    /// The task's model with weights as inputs, base64.
    graph: String,
    weights: Vec<WeightRecipe>,
    /// Per group, the shared neuron of each channel; empty where nothing is shared.
    sharing: Vec<Vec<Option<u32>>>,
    /// Per layer, a number that the layers of other tasks have too whose weights were fused with it.
    fused: Vec<Option<u32>>,
}

#[derive(Serialize, Deserialize)]
struct WeightRecipe {
    name: String,
    blocks: Vec<BlockRecipe>,
}

#[derive(Serialize, Deserialize)]
struct BlockRecipe {
    /// The initializer.
    from: String,
    /// Axis and number of the list of indices along it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<(usize, usize)>,
}

/// The recipe of a joint model, for its metadata.
pub(super) fn write(joint: &JointModel, graph: &Graph, placed: &[Placed]) -> Result<String> {
    let mut recipe = Recipe { version: VERSION, tasks: Vec::new(), lists: Vec::new() };
    let inner = graph.nodes().flat_map(|(_, node)| node.reads());
    let read: HashSet<ValueId> = inner.chain(graph.outputs.iter().copied()).collect();
    for (index, task) in joint.tasks.iter().enumerate() {
        let source = &task.model.graph;
        let mut weights: Vec<WeightRecipe> = Vec::new();
        let own = || placed.iter().filter(|p| p.task == index);
        // What became bookkeeping, as the indices of a channel shuffle, is in no file.
        let unread: HashSet<ValueId> =
            own().filter(|p| !read.contains(&p.target)).map(|p| p.source).collect();
        for place in own() {
            let stays = source.initializer(place.source).is_none_or(is_inline);
            if stays || unread.contains(&place.source) {
                continue;
            }
            let name = &source.value(place.source).name;
            let parts = place
                .parts
                .iter()
                .map(|(axis, indices)| (*axis, intern(&mut recipe.lists, ranges(indices))))
                .collect();
            let block = BlockRecipe { from: graph.value(place.target).name.clone(), parts };
            match weights.iter_mut().find(|w| w.name == *name) {
                Some(weight) => weight.blocks.push(block),
                None => weights.push(WeightRecipe { name: name.clone(), blocks: vec![block] }),
            }
        }
        let names: Vec<&str> = weights.iter().map(|w| w.name.as_str()).collect();
        let bytes = onnx::encode(&without_weights(&task.model, &names))?;
        recipe.tasks.push(TaskRecipe {
            name: task.name.clone(),
            graph: STANDARD.encode(bytes),
            weights,
            sharing: sharing(joint, index),
            fused: joint.fused()[index].clone(),
        });
    }
    serde_json::to_string(&recipe)
        .map_err(|e| Error::new(ErrorKind::Format, "the plan cannot be written").because(e))
}

/// Whether a constant is no weight and small.
fn is_inline(tensor: &Tensor) -> bool {
    let is_vector = !tensor.is_empty() && !tensor.dims.is_empty();
    tensor.len() <= INLINE && !(is_vector && tensor.dtype.is_float())
}

fn sharing(joint: &JointModel, task: usize) -> Vec<Vec<Option<u32>>> {
    joint
        .sharing(task)
        .iter()
        .map(|group| match group.iter().any(Option::is_some) {
            true => group.iter().map(|n| n.map(|n| n.0)).collect(),
            false => Vec::new(),
        })
        .collect()
}

/// The model with the named initializers as inputs behind its own.
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

/// Takes a joint model apart into its tasks' nets and what they share.
///
/// # Errors
/// [`ErrorKind::Format`] if the model is no joint model of this program, or was changed so that its
/// initializers no longer match its plan.
pub fn restore(model: &Model) -> Result<JointModel> {
    let Some(text) = model.metadata.get(RECIPE_KEY) else {
        return Err(Error::new(ErrorKind::Format, "the model is not a joint model of onnx-zip")
            .hint("give a file that `onnx-zip merge` wrote")
            .in_model(&model.name));
    };
    let recipe: Recipe = serde_json::from_str(text).map_err(|e| damaged().because(e))?;
    if recipe.version != VERSION {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("the joint model's plan has version {}", recipe.version),
        )
        .hint("use the version of onnx-zip that wrote it"));
    }
    check_names(&recipe.tasks).in_model(&model.name)?;
    let lists: Vec<Vec<usize>> =
        recipe.lists.iter().map(|l| indices(l)).collect::<Option<_>>().ok_or_else(damaged)?;
    let mut stored = model.graph.clone();
    dequantise(&mut stored).in_model(&model.name)?;
    let mut tasks = Vec::new();
    for task in &recipe.tasks {
        let net = assemble(&stored, task, &lists).in_model(&model.name)?;
        tasks.push(Task::new(&task.name, net)?);
    }
    let sharing = recipe
        .tasks
        .iter()
        .zip(&tasks)
        .map(|(recipe, task)| {
            let groups = &task.coupling.groups;
            if recipe.sharing.len() != groups.len() {
                return None;
            }
            recipe
                .sharing
                .iter()
                .zip(groups)
                .map(|(row, group)| match row.len() {
                    0 => Some(vec![None; group.size]),
                    n if n == group.size => Some(row.iter().map(|n| n.map(Neuron)).collect()),
                    _ => None,
                })
                .collect()
        })
        .collect::<Option<Vec<Vec<Vec<Option<Neuron>>>>>>()
        .ok_or_else(damaged)?;
    let fused = recipe.tasks.into_iter().map(|t| t.fused).collect();
    JointModel::with_sharing(tasks, sharing, fused).ok_or_else(damaged)
}

/// Outputs and files are called after tasks, and the file may be hostile.
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

/// One task of a joint model as a plain net.
pub fn plain_task(joint: &JointModel, task: usize) -> Model {
    let task = &joint.tasks[task];
    Model { name: task.name.clone(), producer: super::PRODUCER.to_owned(), ..task.model.clone() }
}

fn assemble(joint: &Graph, recipe: &TaskRecipe, lists: &[Vec<usize>]) -> Result<Model> {
    let bytes = STANDARD.decode(&recipe.graph).map_err(|e| damaged().because(e))?;
    let mut net = onnx::decode(bytes.into(), None, &recipe.name)?;
    dequantise(&mut net.graph)?;
    for weight in &recipe.weights {
        let id = net.graph.value_named(&weight.name).ok_or_else(damaged)?;
        let value = net.graph.value(id);
        let (ValueKind::Input, Some(ty)) = (&value.kind, &value.ty) else { return Err(damaged()) };
        let dims: Option<Vec<usize>> =
            ty.shape.as_ref().and_then(|s| s.iter().map(crate::ir::Dim::known).collect());
        let dtype = ty.dtype;
        let (dims, size) = dims.zip(dtype.size()).ok_or_else(damaged)?;
        let count = dims.iter().try_fold(size, |n, d| n.checked_mul(*d)).ok_or_else(damaged)?;
        let stored: usize =
            joint.values().filter_map(|(v, _)| joint.initializer(v)).map(|t| t.data.len()).sum();
        if count > stored.saturating_mul(2) {
            return Err(damaged());
        }
        let mut tensor = Whole { dims, size, data: vec![0; count] };
        for block in &weight.blocks {
            let from = joint.value_named(&block.from);
            let part = from.and_then(|v| joint.initializer(v)).ok_or_else(|| {
                Error::new(ErrorKind::Format, format!("initializer '{}' is missing", block.from))
                    .hint("another tool has changed the joint model; take the file as written")
            })?;
            tensor.put(part, &block.parts, lists).ok_or_else(damaged)?;
            if let (Some(codes), []) = (from.and_then(|v| joint.codes(v)), block.parts.as_slice()) {
                net.graph.set_codes(id, codes.clone());
            }
        }
        net.graph.inputs.retain(|v| *v != id);
        net.graph
            .set_initializer(id, Tensor { dtype, dims: tensor.dims, data: tensor.data.into() });
    }
    Ok(net)
}

/// A tensor that is being put together.
struct Whole {
    dims: Vec<usize>,
    size: usize,
    data: Vec<u8>,
}

impl Whole {
    /// Writes a block to the indices it holds; `None` if it does not fit.
    fn put(&mut self, part: &Tensor, at: &[(usize, usize)], lists: &[Vec<usize>]) -> Option<()> {
        let rank = self.dims.len();
        let mut indices: Vec<Vec<usize>> = self.dims.iter().map(|d| (0..*d).collect()).collect();
        for (axis, list) in at {
            *indices.get_mut(*axis)? = lists.get(*list)?.clone();
        }
        let fits = part.dtype.size() == Some(self.size)
            && part.dims.len() == rank
            && part.dims.iter().zip(&indices).all(|(d, i)| *d == i.len())
            && indices.iter().zip(&self.dims).all(|(i, d)| i.iter().all(|i| i < d));
        if !fits || part.data.len() != part.len() * self.size {
            return None;
        }
        let mut counter = vec![0usize; rank];
        for element in part.data.chunks_exact(self.size) {
            let offset = counter
                .iter()
                .zip(&indices)
                .zip(&self.dims)
                .fold(0, |offset, ((at, list), dim)| offset * dim + list[*at]);
            self.data[offset * self.size..(offset + 1) * self.size].copy_from_slice(element);
            for axis in (0..rank).rev() {
                counter[axis] += 1;
                if counter[axis] < part.dims[axis] {
                    break;
                }
                counter[axis] = 0;
            }
        }
        Some(())
    }
}

fn damaged() -> Error {
    Error::new(ErrorKind::Format, "the joint model's plan does not match its graph")
        .hint("another tool has changed the joint model; take the file as written")
}

fn intern(lists: &mut Vec<String>, list: String) -> usize {
    lists.iter().position(|l| *l == list).unwrap_or_else(|| {
        lists.push(list);
        lists.len() - 1
    })
}

/// Indices as ranges.
fn ranges(indices: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for index in indices {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == *index => *end = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let text = runs.iter().map(|(start, end)| match start == end {
        true => start.to_string(),
        false => format!("{start}-{end}"),
    });
    text.collect::<Vec<_>>().join(",")
}

/// Most indices a list may have; a guard against hostile ranges.
const MOST_INDICES: usize = 1 << 28;

fn indices(ranges: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for run in ranges.split(',').filter(|r| !r.is_empty()) {
        let (start, end): (usize, usize) = match run.split_once('-') {
            Some((start, end)) => (start.parse().ok()?, end.parse().ok()?),
            None => (run.parse().ok()?, run.parse().ok()?),
        };
        if end < start || end - start >= MOST_INDICES || all.len() + end - start >= MOST_INDICES {
            return None;
        }
        all.extend(start..=end);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn index_lists_round_trip(list in proptest::collection::vec(0usize..50, 0..40)) {
            prop_assert_eq!(indices(&ranges(&list)), Some(list));
        }
    }

    #[test]
    fn hostile_ranges_are_refused() {
        assert_eq!(indices("0-18446744073709551615"), None);
        assert_eq!(indices("5-2"), None);
        assert_eq!(indices("x"), None);
    }
}

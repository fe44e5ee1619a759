//! Recovers the task nets of a joint model. Its file may be hostile: the nets inside its recipe are checked as
//! those of any file are.

use super::assemble::{Assembly, Sums};
use super::format::{self, Recipe, TaskRecipe};
use super::indices::{self, Allowance};
use super::{MOST_TASKS, RECIPE_KEY, damaged};
use crate::align::TaskId;
use crate::canon::{Canonical, compute_filled, dequantise};
use crate::couple::LayerId;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;
use crate::mtz::joint::{Based, JointModel, Neuron, Task};
use crate::naming::{shown, task_fault};

/// Largest number of fused layers and of common parts. Further merges count on from it.
const LARGEST_NUMBER: u32 = u32::MAX / 2;

/// Recovers the task nets of a joint model, and their shared neurons.
///
/// # Errors
/// [`ErrorKind::Format`] if the model is not a joint model of this program, or was changed so that its
/// initializers no longer match its recipe; as [`crate::canon::infer_types`] for a task's net.
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
    let lists = recipe.lists.iter().map(|list| read_list(&recipe, list, &mut allowance));
    let lists = lists.collect::<Option<Vec<_>>>().ok_or_else(damaged)?;
    let mut stored = model.graph.clone();
    dequantise(&mut stored).in_model(&model.name)?;
    compute_filled(&mut stored).in_model(&model.name)?;
    let mut assembly = Assembly::new(&stored, &lists, recipe.tasks.len());
    let (mut tasks, mut differences) = (Vec::new(), Vec::new());
    for task in &recipe.tasks {
        let (net, sums) = assembly.net(task).in_model(&model.name)?;
        differences.push(sums);
        let net = Canonical::stored(net).in_model(&task.name)?;
        tasks.push(Task::new(&task.name, net)?);
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

/// A list of indices.
fn read_list(recipe: &Recipe, text: &str, allowance: &mut Allowance) -> Option<Vec<usize>> {
    let Some(row) = text.strip_prefix('=') else { return indices::read_all(text, allowance) };
    let (task, group) = row.split_once(',')?;
    let task = recipe.tasks.get(task.parse::<usize>().ok()?)?;
    let row = task.sharing.get(group.parse::<usize>().ok()?)?;
    // Many lists may name one row, whose text may be long.
    allowance.take(row.len())?;
    Some(indices::in_order(&indices::read(row, allowance)?))
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

/// The numbers in a text; `None` for invalid text, and for numbers that leave no room for others.
fn numbers(text: &str, allowance: &mut Allowance) -> Option<Vec<Option<u32>>> {
    let small = |n: usize| u32::try_from(n).ok().filter(|n| *n <= LARGEST_NUMBER);
    let all = indices::read(text, allowance)?.into_iter();
    all.map(|n| n.map(small).map_or(Some(None), |n| n.map(Some))).collect()
}

/// Checks the number and names of tasks: they become names of outputs and files, and the file may be hostile.
fn check_names(tasks: &[TaskRecipe]) -> Result<()> {
    let refused = |message: String| {
        Err(Error::new(ErrorKind::Format, message).hint("merge the original models again"))
    };
    if tasks.is_empty() || tasks.len() > MOST_TASKS {
        return refused(format!("the joint model has {} tasks", tasks.len()));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(row: &str) -> Recipe {
        let task = TaskRecipe { sharing: vec![row.to_owned()], ..TaskRecipe::default() };
        Recipe { tasks: vec![task], lists: Vec::new() }
    }

    #[test]
    fn a_list_may_be_a_row_of_shared_neurons() {
        let recipe = recipe("2,_,-3,0");
        let read = |text: &str| read_list(&recipe, text, &mut Allowance::default());
        assert_eq!(read("=0,0"), Some(vec![2, 3, 0]));
        for text in ["=", "=0", "=0,1", "=1,0", "=-1,0", "=0,0,0", "=0,x", "==0,0"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn long_rows_are_read_some_times_only() {
        let (recipe, mut allowance) = (recipe(&",".repeat(1 << 20)), Allowance::default());
        for _ in 0..16 {
            assert_eq!(read_list(&recipe, "=0,0", &mut allowance), Some(Vec::new()));
        }
        assert_eq!(read_list(&recipe, "=0,0", &mut allowance), None);
    }
}

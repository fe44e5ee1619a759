//! The inputs of a joint model: common to all tasks, or each task's own.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::{Dim, Graph, TensorType, ValueId};
use crate::mtz::joint::JointModel;

use super::Form;
use super::builder::Builder;

/// Precedes the names of common inputs that look like names of separate ones.
pub const COMMON_INPUT: &str = "shared/";

/// Whether tasks read one common input or each their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputMode {
    /// Shared if all tasks take inputs of the same types and shapes.
    #[default]
    Auto,
    /// One common input.
    Shared,
    /// `<task>/<input>` each.
    Separate,
}

impl InputMode {
    /// How the graph of a file of `joint` in this form was written.
    pub(super) fn of_file(joint: &JointModel, form: Form, file: &Graph) -> InputMode {
        let tasks: Vec<&str> = joint.tasks().iter().map(|task| task.name()).collect();
        let mut inputs: Vec<&str> =
            file.inputs.iter().map(|id| file.value(*id).name.as_str()).collect();
        if form != Form::Heads {
            // The last one selects a task.
            inputs.pop();
        }
        match inputs_are_separate(&tasks, &inputs) {
            true => InputMode::Separate,
            false => InputMode::Auto,
        }
    }

    /// Whether the tasks of `joint` read the same inputs.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if shared inputs are requested but the tasks' inputs differ.
    pub fn is_shared(self, joint: &JointModel) -> Result<bool> {
        match self {
            InputMode::Auto => Ok(inputs_agree(joint)),
            InputMode::Separate => Ok(false),
            InputMode::Shared if inputs_agree(joint) => Ok(true),
            InputMode::Shared => Err(Error::new(
                ErrorKind::Usage,
                "the models take inputs of different types or shapes and cannot share them",
            )
            .hint(Hint::from("leave out ").option_as("inputs", "shared"))),
        }
    }
}

/// Whether inputs of these names are separate ones, called `<task>/<input>`: each task has some, and
/// there are no others.
pub fn inputs_are_separate<T: AsRef<str>, N: AsRef<str>>(tasks: &[T], inputs: &[N]) -> bool {
    let task = |input: &N| {
        let (name, _) = input.as_ref().split_once('/')?;
        tasks.iter().position(|task| task.as_ref() == name)
    };
    let owners: Option<BTreeSet<usize>> = inputs.iter().map(task).collect();
    owners.is_some_and(|owners| owners.len() == tasks.len())
}

/// Names for common inputs: those of the first task, unless they look like names of separate inputs.
fn common_names(joint: &JointModel) -> Vec<String> {
    let tasks: Vec<&str> = joint.tasks().iter().map(|task| task.name()).collect();
    let first = joint.tasks().first().map(|task| task.graph());
    let name = |(graph, id): (&Graph, ValueId)| graph.value(id).name.clone();
    let ids = first.into_iter().flat_map(|graph| graph.inputs.iter().map(move |id| (graph, *id)));
    let names: Vec<String> = ids.map(name).collect();
    match inputs_are_separate(&tasks, &names) {
        true => names.iter().map(|name| format!("{COMMON_INPUT}{name}")).collect(),
        false => names,
    }
}

/// Adds the graph inputs and returns, per task, the value of each of its inputs.
pub(super) fn add_inputs(
    joint: &JointModel,
    mode: InputMode,
    builder: &mut Builder,
) -> Result<Vec<Vec<ValueId>>> {
    let shared = mode.is_shared(joint)?;
    let common = if shared { common_names(joint) } else { Vec::new() };
    let mut all: Vec<Vec<ValueId>> = Vec::new();
    for task in joint.tasks() {
        if let (true, Some(first)) = (shared, all.first()) {
            all.push(first.clone());
            continue;
        }
        let graph = task.graph();
        let mut ids = Vec::new();
        for (place, input) in graph.inputs.iter().enumerate() {
            let value = graph.value(*input);
            let own = || format!("{}/{}", task.name(), value.name);
            let name = common.get(place).cloned().unwrap_or_else(own);
            ids.push(builder.graph.add_input(&name, typed(value.ty.as_ref())?));
        }
        all.push(ids);
    }
    Ok(all)
}

/// Whether all tasks take inputs of the same types and fixed sizes, and none that another task has under its
/// name at another place.
pub fn inputs_agree(joint: &JointModel) -> bool {
    let signature = |input: ValueId, graph: &Graph| {
        let ty = graph.value(input).ty.as_ref();
        let sizes = ty.and_then(|t| t.shape.as_ref());
        let sizes = sizes.map(|s| s.iter().map(Dim::known).collect::<Vec<_>>());
        (ty.map(|t| t.dtype), sizes)
    };
    let name = |input: &ValueId, graph: &Graph| graph.value(*input).name.clone();
    let graphs: Vec<&Graph> = joint.tasks().iter().map(|task| task.graph()).collect();
    let Some((first, others)) = graphs.split_first() else { return true };
    let theirs: Vec<String> = first.inputs.iter().map(|input| name(input, first)).collect();
    others.iter().all(|graph| {
        let mut pairs = first.inputs.iter().zip(&graph.inputs);
        let fits = |(a, b): (&ValueId, &ValueId)| {
            let own = name(b, graph);
            signature(*a, first) == signature(*b, graph)
                && (own == name(a, first) || !theirs.contains(&own))
        };
        first.inputs.len() == graph.inputs.len() && pairs.all(fits)
    })
}

/// The type of an input, which must be known.
fn typed(ty: Option<&TensorType>) -> Result<TensorType> {
    ty.cloned().ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "a model input is not a tensor of known type")
    })
}

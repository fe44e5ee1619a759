//! Writes each task of a joint model alone, with the initializers of the joint graph.
//!
//! All tasks are written into one graph first, since whether layers are joined depends on all readers of their weights.

use crate::align::TaskId;
use crate::error::Result;
use crate::ir::{Graph, Model, ValueId};
use crate::mtz::joint::{JointModel, Task};

use super::builder::Builder;
use super::filled::fill;
use super::inputs::{InputMode, add_inputs};
use super::joined::join_layers;
use super::task::{Layouts, TaskEmitter};
use super::wrap;

/// The tasks of a joint model as one model each, in pieces. Their equal initializers are those that the joint model
/// stores once.
///
/// # Errors
/// As [`super::emit`].
pub fn emit_tasks(joint: &JointModel) -> Result<Vec<Model>> {
    let mut builder = Builder::new("joint");
    let inputs = add_inputs(joint, InputMode::Auto, &mut builder)?;
    let layouts = Layouts::of(joint);
    let mut outputs = Vec::new();
    for (task, inputs) in (0..).map(TaskId).zip(&inputs) {
        outputs.push(TaskEmitter::new(joint, task, &layouts, &mut builder, None).run(inputs)?);
    }
    let Builder { mut graph, mut placed, .. } = builder;
    graph.outputs = outputs.concat();
    graph.remove_dead_nodes();
    join_layers(&mut graph, &mut placed);
    let alone = |((task, inputs), outputs): ((&Task, &Vec<ValueId>), &Vec<ValueId>)| {
        let mut model = wrap(joint, alone(graph.clone(), task, inputs, outputs));
        task.name().clone_into(&mut model.name);
        model
    };
    Ok(joint.tasks().iter().zip(&inputs).zip(&outputs).map(alone).collect())
}

/// The part of a joint graph that computes the outputs of one task.
fn alone(mut graph: Graph, task: &Task, inputs: &[ValueId], outputs: &[ValueId]) -> Graph {
    let source = task.graph();
    (graph.inputs, graph.outputs) = (inputs.to_vec(), outputs.to_vec());
    task.name().clone_into(&mut graph.name);
    graph.remove_dead_nodes();
    graph.outputs.clear();
    let mut builder = Builder::of(graph);
    for (input, own) in inputs.iter().zip(&source.inputs) {
        builder.rename(*input, &source.value(*own).name);
        builder.graph.set_type_like(*input, source, *own);
    }
    for (output, own) in outputs.iter().zip(&source.outputs) {
        builder.add_output(*output, &source.value(*own).name, source, *own);
    }
    let mut graph = builder.graph;
    fill(&mut graph);
    graph
}

//! Writes a joint model as one ONNX graph. Everything here is exact re-layout.
//!
//! Every tracked value is kept as *pieces*: one tensor per block of channels with the same owner
//! ([`crate::mtz::joint::Owner`]). A layer becomes a sum over input pieces for each output piece, so a
//! shared block of weights is one initializer that the runtime sees as a plain constant weight. Weights
//! are permuted when they are written, so they need no `Concat` or `Gather` at run time. Activations
//! may need them: a layer reads pieces with the same owner side by side. If an operator needs its
//! channels whole, all pieces are joined and put into the task's own order, and the result is cut into
//! pieces again. Equal constants and equal nodes are stored once, so the common trunk needs no search.

mod alone;
mod builder;
mod filled;
mod forms;
mod inputs;
mod joined;
mod names;
mod nodes;
mod recipe;
mod scope;
mod strip;
mod structure;
mod task;
mod trainable;
mod value;

use std::collections::BTreeMap;

use crate::align::TaskId;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::{Graph, Model, ValueId};
use crate::mtz::joint::JointModel;

use builder::Builder;
use inputs::add_inputs;
use task::{Layouts, TaskEmitter};

pub use alone::emit_tasks;
pub use forms::{FORMS, Form};
pub use inputs::{COMMON_INPUT, InputMode, inputs_agree, inputs_are_separate};
pub use recipe::{RECIPE_KEY, SOURCE_KEY, is_joint, plain_task, restore};
pub use strip::stripped;
pub use structure::{STRUCTURE_KEY, is_rewritten};
pub use trainable::{Parameter, PreActivations, Trainable, check_parameters, trainable};

/// How to write a joint model.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmitOptions {
    /// Form of the graph.
    pub form: Form,
    /// Common or separate inputs.
    pub inputs: InputMode,
}

impl EmitOptions {
    /// Checks that these options fit the inputs and outputs of `joint`'s tasks, whatever is shared.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if shared inputs or the masked form are requested but the tasks' inputs
    /// differ, or if a form that runs one task at a time is requested but there is one task only or an
    /// output cannot be zero.
    pub fn check(&self, joint: &JointModel) -> Result<()> {
        if self.form != Form::Heads && joint.tasks().len() < 2 {
            let message = format!("the {} form needs two tasks or more", self.form.name());
            return Err(Error::new(ErrorKind::Usage, message)
                .hint(Hint::from("use ").option_as("form", "heads")));
        }
        if self.form == Form::Masked && !inputs_agree(joint) {
            return Err(Error::new(
                ErrorKind::Usage,
                "the masked form needs models with inputs of the same types and shapes",
            )
            .hint(
                Hint::from("use ")
                    .option_as("form", "heads")
                    .then(" or ")
                    .option_as("form", "switch"),
            ));
        }
        if self.form != Form::Heads {
            joint.tasks().iter().try_for_each(forms::gates::check)?;
        }
        self.inputs.is_shared(joint).map(drop)
    }
}

/// Producer name in written files.
const PRODUCER: &str = concat!("onnx-zip ", env!("CARGO_PKG_VERSION"));

/// Metadata key of the form's name.
pub const FORM_KEY: &str = "onnx_zip.form";

/// Whether a model is a joint model of this program, with its recipe or without.
pub fn is_emitted(model: &Model) -> bool {
    is_joint(model) || model.metadata.contains_key(FORM_KEY)
}

/// The joint model as one ONNX model, with outputs `<task>/<output>`.
///
/// # Errors
/// As [`EmitOptions::check`].
pub fn emit(joint: &JointModel, options: &EmitOptions) -> Result<Model> {
    options.check(joint)?;
    let mut builder = Builder::new("joint");
    let inputs = add_inputs(joint, options.inputs, &mut builder)?;
    let mut sums = match options.form {
        Form::Masked => Some(forms::masked::Sums::new(joint, &mut builder)),
        Form::Heads | Form::Switch => None,
    };
    let layouts = Layouts::of(joint);
    let mut outputs = Vec::new();
    for (task, inputs) in (0..).map(TaskId).zip(&inputs) {
        let sums = sums.as_mut();
        outputs.push(TaskEmitter::new(joint, task, &layouts, &mut builder, sums).run(inputs)?);
    }
    if let Some(sums) = sums {
        outputs = sums.finish(&mut builder, outputs);
    }
    name_outputs(joint, &mut builder, &outputs);
    let Builder { mut graph, mut placed, .. } = builder;
    graph.remove_dead_nodes();
    joined::join_layers(&mut graph, &mut placed);
    let recipe = recipe::write(joint, &graph, &placed)?;
    if options.form == Form::Switch {
        graph = forms::switch::switch(joint, graph, &inputs)?;
    }
    filled::fill(&mut graph);
    let mut model = wrap(joint, graph);
    model.metadata.insert(RECIPE_KEY.to_owned(), recipe);
    model.metadata.insert(STRUCTURE_KEY.to_owned(), structure::structure(&model.graph));
    model.metadata.insert(FORM_KEY.to_owned(), options.form.name().to_owned());
    Ok(model)
}

/// The joint model in the form of an earlier `file` of it, with the inputs and other metadata of that file.
///
/// # Errors
/// As [`EmitOptions::check`].
pub fn emit_like(joint: &JointModel, file: &Model) -> Result<Model> {
    let form = file.metadata.get(FORM_KEY).and_then(|name| Form::named(name)).unwrap_or_default();
    let inputs = InputMode::of_file(joint, form, &file.graph);
    let mut model = emit(joint, &EmitOptions { form, inputs })?;
    for (key, value) in &file.metadata {
        model.metadata.entry(key.clone()).or_insert_with(|| value.clone());
    }
    Ok(model)
}

fn name_outputs(joint: &JointModel, builder: &mut Builder, outputs: &[Vec<ValueId>]) {
    for (task, values) in joint.tasks().iter().zip(outputs) {
        let graph = task.graph();
        for (value, source) in values.iter().zip(&graph.outputs) {
            let name = format!("{}/{}", task.name(), graph.value(*source).name);
            builder.add_output(*value, &name, graph, *source);
        }
    }
}

fn wrap(joint: &JointModel, graph: Graph) -> Model {
    let mut opsets: BTreeMap<String, i64> = BTreeMap::new();
    let mut functions: Vec<Vec<u8>> = Vec::new();
    let mut ir_version = 8;
    for task in joint.tasks() {
        for (domain, version) in &task.model().opsets {
            let entry = opsets.entry(domain.clone()).or_insert(*version);
            *entry = (*entry).max(*version);
        }
        for function in &task.model().functions {
            if !functions.contains(function) {
                functions.push(function.clone());
            }
        }
        ir_version = ir_version.max(task.model().ir_version);
    }
    Model {
        name: graph.name.clone(),
        ir_version,
        opsets,
        producer: PRODUCER.to_owned(),
        metadata: BTreeMap::new(),
        functions,
        defaults: Vec::new(),
        graph,
    }
}

#[cfg(test)]
mod tests;

//! One training step as one graph, and the graph of validation.

use crate::emit::Trainable;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::grad::Tape;
use crate::ir::{Attribute, DataType, Dim, Graph, Model, TensorType, ValueId, ValueKind};
use crate::runtime::{HostArray, State};
use crate::verify::Reading;

use super::loss::{Loss, Written};
use super::optimizer::{self, Knobs};
use super::options::{LossKind, OptimizerKind, RetrainOptions};
use super::scores::scores;

/// The loss of one task.
pub(super) struct TaskLoss {
    /// Name of the task.
    pub(super) task: String,
    /// Weight of its loss.
    pub(super) weight: f64,
    /// Whether its samples have labels, so that it must be a classifier.
    pub(super) labelled: bool,
    /// For each of its outputs and then layers, the mean energy of a sample's targets.
    pub(super) energies: Vec<f32>,
}

/// The inputs of a task's part of a graph.
#[derive(Debug, Clone)]
pub(super) struct Feeds {
    /// Names of the inputs in the task's net, in its order, and in the graph.
    pub(super) inputs: Vec<(String, String)>,
    /// Names of the targets, in the order of its outputs and then layers.
    pub(super) targets: Vec<String>,
    /// How answers are read from the scores of the first output.
    pub(super) reading: Reading,
}

/// Graphs for training.
pub(super) struct Built {
    /// Inputs: samples, targets, the schedule and all state. Outputs: each task's loss and the new state.
    pub(super) step: Model,
    /// Inputs: samples, targets and parameters. Outputs: each task's loss and the scores of its first
    /// output.
    pub(super) check: Model,
    /// Initial parameters, then the optimiser's initial state.
    pub(super) states: Vec<State>,
    /// Places of the parameters that train, among all of the joint model.
    pub(super) trained: Vec<usize>,
    pub(super) feeds: Vec<Feeds>,
    /// Names of the inputs for learning rate and weight decay.
    pub(super) knobs: [String; 2],
}

/// How parameters are updated.
#[derive(Clone, Copy)]
struct Rule {
    optimizer: OptimizerKind,
    knobs: Knobs,
    /// Whether steps are in parts of each parameter's size.
    is_relative: bool,
}

/// A task's losses and scores in a graph.
struct TaskPart {
    feeds: Feeds,
    loss: ValueId,
    first_scores: ValueId,
}

/// Builds the graphs.
///
/// # Errors
/// [`ErrorKind::Unsupported`] naming the node that has no gradient, or where no output can be learnt
/// or no parameter trained.
pub(super) fn build(
    trainable: &Trainable,
    tasks: &[TaskLoss],
    options: &RetrainOptions,
    batch: usize,
) -> Result<Built> {
    let wanted: Vec<ValueId> = trainable.parameters.iter().map(|p| p.value).collect();
    let mut tape = Tape::new(trainable.model.graph.clone(), &wanted)?;
    let parts = losses(&mut tape, trainable, tasks, options, batch)?;
    let feeds = parts.iter().map(|p| p.feeds.clone()).collect();
    let check = check_model(&tape, trainable, &parts, &wanted)?;
    tape.run()?;
    let trained: Vec<usize> =
        (0..wanted.len()).filter(|i| tape.gradient(wanted[*i]).is_some()).collect();
    if trained.is_empty() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the joint model has no parameter to train",
        ));
    }
    let knobs = ["learning_rate", "decay"].map(|name| tape.graph.add_input(name, scalar_type()));
    let mut outputs: Vec<ValueId> = parts.iter().map(|p| p.loss).collect();
    let [rate, decay] = knobs;
    let rule = Rule {
        optimizer: options.optimizer,
        knobs: Knobs { rate, decay },
        is_relative: options.rate.is_relative(),
    };
    let states = updates(&mut tape, trainable, &trained, rule, &mut outputs)?;
    let knobs = knobs.map(|k| tape.graph.value(k).name.clone());
    let step = finished(tape, trainable, outputs)?;
    Ok(Built { step, check, states, trained, feeds, knobs })
}

fn scalar_type() -> TensorType {
    TensorType { dtype: DataType::F32, shape: Some(Vec::new()) }
}

/// Writes all losses and seeds their gradients.
fn losses(
    tape: &mut Tape,
    trainable: &Trainable,
    tasks: &[TaskLoss],
    options: &RetrainOptions,
    batch: usize,
) -> Result<Vec<TaskPart>> {
    let parts = tasks.iter().enumerate().map(|(t, task)| {
        task_part(tape, trainable, (t, task), options, batch).in_model(&task.task)
    });
    parts.collect()
}

fn task_part(
    tape: &mut Tape,
    trainable: &Trainable,
    (number, task): (usize, &TaskLoss),
    options: &RetrainOptions,
    batch: usize,
) -> Result<TaskPart> {
    let inputs = &trainable.inputs[number];
    let inputs = inputs.iter().map(|(own, value)| (own.clone(), name(tape, *value))).collect();
    let mut targets = Vec::new();
    let mut total: Option<ValueId> = None;
    let mut first = None;
    for (output, energy) in trainable.outputs[number].iter().zip(&task.energies) {
        let share = (task.weight / batch.max(1) as f64) as f32;
        let taught = Taught { output: *output, energy: *energy, labelled: task.labelled, share };
        let (scores, target, loss) = taught.write(tape, options, trainable.model.opset())?;
        targets.push(target);
        total = Some(match total {
            Some(sum) => tape.op("Add", &[sum, loss]),
            None => loss,
        });
        first.get_or_insert(scores);
    }
    let (Some(mut loss), Some((first_scores, reading))) = (total, first) else {
        return Err(Error::new(ErrorKind::Unsupported, "the model has no output to learn"));
    };
    if options.layers > 0.0 {
        let layers = layer_losses(tape, trainable, (number, task), options, batch)?;
        for (target, value) in layers {
            targets.push(target);
            loss = tape.op("Add", &[loss, value]);
        }
    }
    Ok(TaskPart { feeds: Feeds { inputs, targets, reading }, loss, first_scores })
}

fn name(tape: &Tape, value: ValueId) -> String {
    tape.graph.value(value).name.clone()
}

/// One output of a task with a loss.
struct Taught {
    output: ValueId,
    /// Mean energy of a sample's targets.
    energy: f32,
    labelled: bool,
    /// Factor of the gradient.
    share: f32,
}

impl Taught {
    /// Writes the loss and seeds its gradient. Returns the scores and how answers are read from them, the
    /// name of the target, and the loss.
    fn write(
        self,
        tape: &mut Tape,
        options: &RetrainOptions,
        opset: i64,
    ) -> Result<((ValueId, Reading), String, ValueId)> {
        let mut found = scores(&tape.graph, self.output, |v| tape.shape(v).ok().map(|s| s.len()));
        if options.loss == LossKind::Mse {
            found.value = self.output;
        }
        let reading = match found.value == self.output {
            true => Reading::of_output(&tape.graph, self.output),
            false => Reading::of_logits(),
        };
        let shape = tape.shape(found.value)?;
        let rank = shape.len();
        let has_classes = rank == 2 && shape[1] != Dim::Known(1);
        let ty = TensorType { dtype: DataType::F32, shape: Some(shape) };
        let target = tape.graph.add_input(&format!("target/{}", name(tape, self.output)), ty);
        let is_classifier = found.softmax || (self.labelled && has_classes);
        let loss = Loss {
            kind: options.loss.of_output(is_classifier),
            axis: found.axis,
            temperature: options.temperature as f32,
            energy: self.energy,
            opset,
        };
        let written = loss.write(tape, (found.value, target), rank)?;
        let gradient = tape.scaled(written.gradient, self.share);
        tape.seed(found.value, gradient);
        Ok(((found.value, reading), name(tape, target), written.value))
    }
}

/// Writes the losses of a task's layers and seeds their gradients. Returns the name of each layer's
/// target, and its weighted loss.
fn layer_losses(
    tape: &mut Tape,
    trainable: &Trainable,
    (number, task): (usize, &TaskLoss),
    options: &RetrainOptions,
    batch: usize,
) -> Result<Vec<(String, ValueId)>> {
    let layers = &trainable.layers[number];
    let part = (options.layers / layers.len().max(1) as f64) as f32;
    let share = (task.weight / batch.max(1) as f64) as f32;
    let energies = task.energies.iter().skip(trainable.outputs[number].len());
    let mut written = Vec::new();
    for (place, (layer, energy)) in layers.iter().zip(energies).enumerate() {
        let Some((first, _)) = layer.pieces.first() else { continue };
        let mut shape = tape.shape(*first)?;
        let rank = shape.len();
        if let Some(extent) = shape.get_mut(layer.axis) {
            *extent = Dim::Known(layer.channels);
        }
        let ty = TensorType { dtype: DataType::F32, shape: Some(shape) };
        let target = tape.graph.add_input(&format!("target/{}/layer{place}", task.task), ty);
        let loss = Loss {
            kind: LossKind::Scores,
            axis: 0,
            temperature: 1.0,
            energy: energy / part,
            opset: trainable.model.opset(),
        };
        let mut total: Option<ValueId> = None;
        for (piece, channels) in &layer.pieces {
            let channels: Vec<i64> = channels.iter().map(|c| *c as i64).collect();
            let channels = tape.ints(&channels);
            let axis = [("axis", Attribute::Int(layer.axis as i64))];
            let own = tape.op_with("Gather", &[target, channels], axis);
            let Written { value, gradient } = loss.write(tape, (*piece, own), rank)?;
            let gradient = tape.scaled(gradient, share);
            tape.seed(*piece, gradient);
            total = Some(total.map_or(value, |sum| tape.op("Add", &[sum, value])));
        }
        let name = tape.graph.value(target).name.clone();
        written.extend(total.map(|total| (name, total)));
    }
    Ok(written)
}

/// The graph so far, as the graph of validation.
fn check_model(
    tape: &Tape,
    trainable: &Trainable,
    parts: &[TaskPart],
    parameters: &[ValueId],
) -> Result<Model> {
    let mut graph = tape.graph.clone();
    graph.outputs.clear();
    for part in parts {
        for value in [part.loss, part.first_scores] {
            let output = graph.add_op("Identity", "check", &[value], []);
            graph.outputs.push(output);
        }
    }
    for value in parameters {
        let Some(tensor) = graph.initializer(*value) else { continue };
        let ty = tensor.ty();
        graph.set_input(*value, ty);
    }
    Ok(Model { graph: without_unread(graph), ..trainable.model.without_graph() })
}

/// Writes the optimiser's updates; the new state is appended to `outputs`.
fn updates(
    tape: &mut Tape,
    trainable: &Trainable,
    trained: &[usize],
    rule: Rule,
    outputs: &mut Vec<ValueId>,
) -> Result<Vec<State>> {
    let (mut parameters, mut moments) = (Vec::new(), Vec::new());
    let mut moment_outputs = Vec::new();
    for parameter in trained.iter().map(|i| &trainable.parameters[*i]) {
        let (Some(tensor), Some(mut gradient)) =
            (tape.graph.initializer(parameter.value), tape.gradient(parameter.value))
        else {
            continue;
        };
        let (value, ty) = (tensor.to_f32()?, tensor.ty());
        if parameter.is_weight && value.iter().any(|w| *w == 0.0) {
            let mask = value.iter().map(|w| f32::from(u8::from(*w != 0.0))).collect();
            let mask = tape.floats(value.shape(), mask)?;
            gradient = tape.op("Mul", &[gradient, mask]);
        }
        tape.graph.set_input(parameter.value, ty.clone());
        let name = tape.graph.value(parameter.value).name.clone();
        let state: Vec<ValueId> = (0..optimizer::states(rule.optimizer))
            .map(|i| tape.graph.add_input(&format!("moment{i}/{name}"), ty.clone()))
            .collect();
        let knobs = match rule.is_relative {
            true => rule.knobs.relative_to(tape, &value),
            false => rule.knobs,
        };
        let values = (parameter.value, gradient);
        let how = (rule.optimizer, knobs);
        let (new, new_state) = optimizer::update(tape, how, values, &state, parameter.is_weight);
        let zeros = ndarray::ArrayD::<f32>::zeros(value.raw_dim());
        parameters.push(link(tape, (parameter.value, new), value.into()));
        outputs.push(new);
        for pair in state.into_iter().zip(new_state) {
            moments.push(link(tape, pair, zeros.clone().into()));
            moment_outputs.push(pair.1);
        }
    }
    outputs.extend(moment_outputs);
    parameters.extend(moments);
    Ok(parameters)
}

fn link(tape: &mut Tape, (input, output): (ValueId, ValueId), value: HostArray) -> State {
    let name = |tape: &Tape, v| tape.graph.value(v).name.clone();
    State { input: name(tape, input), output: name(tape, output), value }
}

fn finished(tape: Tape, trainable: &Trainable, outputs: Vec<ValueId>) -> Result<Model> {
    let mut graph = tape.graph;
    graph.outputs = outputs;
    Ok(Model { graph: without_unread(graph), ..trainable.model.without_graph() })
}

/// The graph without unused nodes, constants and inputs.
fn without_unread(mut graph: Graph) -> Graph {
    graph.remove_dead_nodes();
    let consumers = graph.consumers();
    let unread = |v: &ValueId| consumers[v.index()].is_empty() && !graph.outputs.contains(v);
    let all: Vec<(ValueId, bool)> = graph
        .values()
        .map(|(id, v)| (id, matches!(v.kind, ValueKind::Initializer(_)) && unread(&id)))
        .collect();
    for (id, _) in all.into_iter().filter(|(_, unread)| *unread) {
        graph.drop_initializer(id);
    }
    graph
}

//! Writes a recurrent layer in the place of a loop.

use std::collections::BTreeMap;

use ndarray::{Array, Array2, Axis, Dimension, arr0, concatenate};

use crate::ir::{Attribute, Graph, Node, NodeId, Tensor, ValueId, ValueKind};

use super::super::rewire;
use super::activation::Activation;
use super::cell::{Cell, Gate};
use super::skipped::Order;

/// A loop that is a recurrent layer.
pub(super) struct Layer {
    /// What a step computes.
    pub(super) cell: Cell,
    /// The sequence, and the axis of its steps.
    pub(super) sequence: (ValueId, usize),
    /// The mask of the steps that count, if there is one, and the axis of its steps.
    pub(super) mask: Option<(ValueId, usize)>,
    /// Whether the sequence surely has a step.
    pub(super) has_steps: bool,
    /// The first hidden units, and the first cell state of an LSTM.
    pub(super) initial: Vec<Initial>,
    /// Outputs of the loop that are the hidden units of all steps.
    pub(super) steps: Vec<(ValueId, Elsewhere)>,
    /// The output of the loop with the last value of each state, as far as they are read.
    pub(super) last: Vec<Option<ValueId>>,
    /// Outputs of the loop that are the hidden units after the last step, and zeros if there is none.
    pub(super) copies: Vec<ValueId>,
    /// Outputs of the loop that are constant.
    pub(super) constants: Vec<(ValueId, Tensor)>,
}

/// The first value of a state.
pub(super) struct Initial {
    pub(super) value: ValueId,
    /// Whether it is surely zero.
    pub(super) is_zero: bool,
    /// Whether it surely has one row per sample of the sequence.
    pub(super) is_whole: bool,
}

/// What the hidden units of all steps are where a mask leaves a step out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// No step is left out.
    Nowhere,
    /// Those of the step before; first of all the initial value of the state with this number, which is zero.
    Before(usize),
    /// Zero.
    Zero,
}

impl Layer {
    /// Replaces the loop.
    pub(super) fn write(self, graph: &mut Graph, id: NodeId) -> Option<()> {
        let name = graph.node(id).name.clone();
        let weights = self.cell.weights()?;
        graph.remove_node(id);
        let [first, second] = [0, 1].map(|axis| rewire::ints(graph, "axis", &[axis]));
        let initial: Vec<ValueId> =
            self.initial.iter().map(|own| self.whole_state(graph, &name, own)).collect();
        let order = self.mask.map(|mask| Order::write(graph, &name, mask));
        let mut inputs = vec![Some(self.input(graph, &name, order.as_ref()))];
        for (part, tensor) in ["weight", "recurrence", "bias"].into_iter().zip(weights) {
            inputs.push(Some(graph.add_initializer(&format!("{name}.{part}"), tensor)));
        }
        inputs.push(order.as_ref().map(|order| order.lengths));
        for state in &initial {
            let operands = [*state, first];
            inputs.push(Some(graph.add_op("Unsqueeze", &format!("{name}.state"), &operands, [])));
        }
        let all = self.add_node(graph, name, inputs);
        for (output, elsewhere) in &self.steps {
            give_steps(graph, &[*all.first()?, second], *output, order.as_ref(), *elsewhere);
        }
        for (place, output) in self.last.iter().enumerate() {
            let (Some(output), Some(whole)) = (*output, all.get(place + 1)) else { continue };
            match self.begun(graph, order.as_ref(), self.initial.get(place)?) {
                None => give(graph, "Squeeze", &[*whole, first], output),
                Some(begun) => {
                    let last = graph.add_op("Squeeze", "last", &[*whole, first], []);
                    give(graph, "Where", &[begun, last, *initial.get(place)?], output);
                }
            }
        }
        for output in self.copies {
            give(graph, "Squeeze", &[*all.get(1)?, first], output);
        }
        for (output, tensor) in self.constants {
            let constant = graph.add_initializer("count", tensor);
            give(graph, "Identity", &[constant], output);
        }
        Some(())
    }

    /// Adds the node of the layer; returns the hidden units of all steps and the last value of each state.
    fn add_node(
        &self,
        graph: &mut Graph,
        name: String,
        inputs: Vec<Option<ValueId>>,
    ) -> Vec<ValueId> {
        let parts = ["steps"].into_iter().chain(self.last.iter().map(|_| "last"));
        let outputs: Vec<ValueId> = parts.map(|part| added(graph, &name, part)).collect();
        graph.add_node(Node {
            name,
            op: self.cell.op.to_owned(),
            inputs,
            outputs: outputs.iter().copied().map(Some).collect(),
            attributes: self.cell.attributes(),
            ..Node::default()
        });
        outputs
    }

    /// The layer's input, steps first, with the steps that count in front.
    fn input(&self, graph: &mut Graph, name: &str, order: Option<&Order>) -> ValueId {
        let (mut input, axis) = self.sequence;
        let name = format!("{name}.input");
        if axis == 1 {
            let perm = [("perm", Attribute::Ints(vec![1, 0, 2]))];
            input = graph.add_op("Transpose", &name, &[input], perm);
        }
        match order {
            Some(order) => graph.add_op("GatherND", &name, &[input, order.places], []),
            None => input,
        }
    }

    /// The first value of a state, with one row per sample of the sequence.
    fn whole_state(&self, graph: &mut Graph, name: &str, initial: &Initial) -> ValueId {
        if initial.is_whole {
            return initial.value;
        }
        let (sequence, axis) = self.sequence;
        let samples = self.extent(graph, sequence, 1 - axis);
        let one = rewire::ints(graph, "columns", &[1]);
        let along = [("axis", Attribute::Int(0))];
        let shape = graph.add_op("Concat", &format!("{name}.rows"), &[samples, one], along);
        graph.add_op("Expand", &format!("{name}.state"), &[initial.value, shape], [])
    }

    /// An extent of a value.
    fn extent(&self, graph: &mut Graph, value: ValueId, axis: usize) -> ValueId {
        let shape = graph.add_op("Shape", "extents", &[value], []);
        let place = rewire::ints(graph, "axis", &[if axis == 0 { 0 } else { 1 }]);
        graph.add_op("Gather", "extent", &[shape, place], [])
    }

    /// Whether a last state is not the initial one, where that must be computed: runtimes return zeros if there is no
    /// step. A state that is an input of the model stays so: its channels would have to keep their order, and it comes
    /// from the step before.
    fn begun(
        &self,
        graph: &mut Graph,
        order: Option<&Order>,
        initial: &Initial,
    ) -> Option<ValueId> {
        match order {
            _ if initial.is_zero => None,
            Some(order) => Some(order.any),
            None if self.has_steps || is_input(graph, initial.value) => None,
            None => {
                let (sequence, axis) = self.sequence;
                let (steps, zero) =
                    (self.extent(graph, sequence, axis), rewire::ints(graph, "zero", &[0]));
                Some(graph.add_op("Greater", "begun", &[steps, zero], []))
            }
        }
    }
}

/// Whether a value is an input of the model, perhaps with other axes.
fn is_input(graph: &Graph, mut value: ValueId) -> bool {
    const MOVES: [&str; 5] = ["Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];
    while let Some(node) = graph.producer(value).map(|id| graph.node(id)) {
        match node.input(0).filter(|_| MOVES.iter().any(|op| node.is(op))) {
            Some(input) => value = input,
            None => return false,
        }
    }
    graph.inputs.contains(&value)
}

/// Gives an output of the loop the hidden units of all steps, from those of the layer and its axis of directions.
fn give_steps(
    graph: &mut Graph,
    all: &[ValueId; 2],
    output: ValueId,
    order: Option<&Order>,
    elsewhere: Elsewhere,
) {
    let (Some(order), false) = (order, elsewhere == Elsewhere::Nowhere) else {
        return give(graph, "Squeeze", all, output);
    };
    let in_front = graph.add_op("Squeeze", "in_front", all, []);
    let held = graph.add_op("GatherND", "held", &[in_front, order.held], []);
    let counts = if elsewhere == Elsewhere::Zero { order.mask } else { order.begun };
    let zero = graph.add_initializer("zero", Tensor::from_f32(&arr0(0.0f32).into_dyn()));
    give(graph, "Where", &[counts, held, zero], output);
}

fn added(graph: &mut Graph, name: &str, part: &str) -> ValueId {
    graph.add_value(&format!("{name}.{part}"), ValueKind::Detached, None)
}

/// Makes an output of the loop that of a node.
fn give(graph: &mut Graph, op: &str, inputs: &[ValueId], output: ValueId) {
    let node = Node::standard(op, &graph.value(output).name, inputs, []);
    graph.add_node(Node { outputs: vec![Some(output)], ..node });
}

impl Cell {
    /// W, R and B, of one direction.
    fn weights(&self) -> Option<[Tensor; 3]> {
        let matrix = |part: fn(&Gate) -> &Array2<f32>| {
            let rows: Vec<_> = self.gates.iter().map(|gate| part(gate).t()).collect();
            Some(one_direction(concatenate(Axis(0), &rows).ok()?))
        };
        let hidden = self.gates.iter().map(|gate| gate.hidden_bias.view());
        let biases: Vec<_> = self.gates.iter().map(|gate| gate.bias.view()).chain(hidden).collect();
        Some([
            matrix(|gate| &gate.inputs)?,
            matrix(|gate| &gate.hidden)?,
            one_direction(concatenate(Axis(0), &biases).ok()?),
        ])
    }

    fn attributes(&self) -> BTreeMap<String, Attribute> {
        let units = self.gates.first().map_or(0, |gate| gate.hidden.nrows());
        let mut all = vec![("hidden_size", Attribute::Int(i64::try_from(units).unwrap_or(0)))];
        if self.resets_last {
            all.push(("linear_before_reset", Attribute::Int(1)));
        }
        let defaults: &[Activation] = match self.op {
            "RNN" => &[Activation::TANH],
            "GRU" => &[Activation::SIGMOID, Activation::TANH],
            _ => &[Activation::SIGMOID, Activation::TANH, Activation::TANH],
        };
        if self.activations != defaults {
            let names = self.activations.iter().map(|function| function.name.as_bytes().to_vec());
            all.push(("activations", Attribute::Strs(names.collect())));
            let parameters: [(&str, Vec<f32>); 2] = [
                ("activation_alpha", self.activations.iter().filter_map(|f| f.alpha).collect()),
                ("activation_beta", self.activations.iter().filter_map(|f| f.beta).collect()),
            ];
            let given = parameters.into_iter().filter(|(_, numbers)| !numbers.is_empty());
            all.extend(given.map(|(name, numbers)| (name, Attribute::Floats(numbers))));
        }
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn one_direction<D: Dimension>(array: Array<f32, D>) -> Tensor {
    Tensor::from_f32(&array.into_dyn().insert_axis(Axis(0)))
}

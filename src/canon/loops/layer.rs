//! Writes a recurrent layer in the place of a loop.

use std::collections::BTreeMap;

use ndarray::{Array, Array2, Axis, Dimension, concatenate};

use crate::ir::{Attribute, Graph, Node, NodeId, Tensor, ValueId, ValueKind};

use super::super::rewire;
use super::activation::Activation;
use super::cell::{Cell, Gate};

/// A loop that is a recurrent layer.
pub(super) struct Layer {
    /// What a step computes.
    pub(super) cell: Cell,
    /// The sequence, and the axis of its steps.
    pub(super) sequence: (ValueId, usize),
    /// The first hidden units, and the first cell state of an LSTM.
    pub(super) initial: Vec<ValueId>,
    /// Outputs of the loop that are the hidden units of all steps.
    pub(super) steps: Vec<ValueId>,
    /// The output of the loop with the last value of each state, as far as they are read.
    pub(super) last: Vec<Option<ValueId>>,
    /// Outputs of the loop that are constant.
    pub(super) constants: Vec<(ValueId, Tensor)>,
}

impl Layer {
    /// Replaces the loop.
    pub(super) fn write(self, graph: &mut Graph, id: NodeId) -> Option<()> {
        let name = graph.node(id).name.clone();
        let weights = self.cell.weights()?;
        graph.remove_node(id);
        let (mut input, axis) = self.sequence;
        if axis == 1 {
            let perm = [("perm", Attribute::Ints(vec![1, 0, 2]))];
            input = graph.add_op("Transpose", &format!("{name}.input"), &[input], perm);
        }
        let mut inputs = vec![Some(input)];
        for (part, tensor) in ["weight", "recurrence", "bias"].into_iter().zip(weights) {
            inputs.push(Some(graph.add_initializer(&format!("{name}.{part}"), tensor)));
        }
        inputs.push(None);
        let [first, second] = [0, 1].map(|axis| rewire::ints(graph, "axis", &[axis]));
        for state in &self.initial {
            let operands = [*state, first];
            inputs.push(Some(graph.add_op("Unsqueeze", &format!("{name}.state"), &operands, [])));
        }
        let mut outputs = vec![Some(added(graph, &name, "steps"))];
        for last in &self.last {
            outputs.push(last.map(|_| added(graph, &name, "last")));
        }
        let given = outputs.clone();
        let attributes = self.cell.attributes();
        graph.add_node(Node {
            name,
            op: self.cell.op.to_owned(),
            inputs,
            outputs,
            attributes,
            ..Node::default()
        });
        let steps = self.steps.iter().map(|output| (0, *output, second));
        let last = self.last.iter().enumerate();
        let last = last.filter_map(|(place, output)| Some((place + 1, (*output)?, first)));
        for (slot, output, axis) in steps.chain(last) {
            if let Some(whole) = given.get(slot).copied().flatten() {
                give(graph, "Squeeze", &[whole, axis], output);
            }
        }
        for (output, tensor) in self.constants {
            let constant = graph.add_initializer("count", tensor);
            give(graph, "Identity", &[constant], output);
        }
        Some(())
    }
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

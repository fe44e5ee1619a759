//! Unrolls recurrent layers, so that their gradient follows from the gradients of simple operators.
//!
//! X·Wᵀ of all steps is one product. Each step takes its rows, adds h·Rᵀ and applies the gates.
//! Outputs keep their ids, so the rest of the net does not change.

use crate::ir::{Attribute, Dim, Graph, Node, NodeId, Tensor, ValueId, ValueKind};
use crate::ops::gates;

/// Operators that are unrolled.
pub(super) const UNROLLED: [&str; 3] = ["GRU", "LSTM", "RNN"];

/// Activation functions of gates that have an operator.
const ACTIVATIONS: [&str; 3] = ["Sigmoid", "Tanh", "Relu"];

/// Unrolls every recurrent layer with a known number of steps in canonical form: forward, steps
/// first, without sequence lengths, peepholes and clipping. Others stay. Returns whether there was
/// any.
pub(super) fn unroll(graph: &mut Graph) -> bool {
    let recurrent = |(_, node): &(NodeId, &Node)| {
        node.domain.is_empty() && UNROLLED.contains(&node.op.as_str())
    };
    let ids: Vec<NodeId> = graph.nodes().filter(recurrent).map(|(id, _)| id).collect();
    let mut found = false;
    for id in ids {
        let Some(layer) = Layer::of(graph, id) else { continue };
        found = true;
        let node = graph.node(id).clone();
        graph.remove_node(id);
        Cells { graph, node, layer }.write();
    }
    found
}

/// Inputs and sizes of a layer.
struct Layer {
    /// X, W and R.
    operands: [ValueId; 3],
    steps: usize,
    units: usize,
    activations: Vec<&'static str>,
}

impl Layer {
    fn of(graph: &Graph, id: NodeId) -> Option<Layer> {
        let node = graph.node(id);
        let operands = [node.input(0)?, node.input(1)?, node.input(2)?];
        let dims = |value: ValueId| -> Option<Vec<Dim>> {
            match graph.initializer(value) {
                Some(tensor) => tensor.ty().shape,
                None => graph.value(value).ty.as_ref()?.shape.clone(),
            }
        };
        let (x, r) = (dims(operands[0])?, dims(operands[2])?);
        let is_plain = node.str("direction").is_none_or(|d| d == "forward")
            && node.int("layout", 0) == 0
            && node.int("input_forget", 0) == 0
            && !node.attributes.contains_key("clip")
            && [4, 7].iter().all(|slot| node.input(*slot).is_none());
        let ([steps, _, _], [Dim::Known(1), _, units]) = (x.as_slice(), r.as_slice()) else {
            return None;
        };
        let activations = activations(node)?;
        let (steps, units) = (steps.known()?, units.known()?);
        (is_plain && steps > 0).then_some(Layer { operands, steps, units, activations })
    }
}

/// The operators of a layer's activation functions; `None` if one has no operator.
fn activations(node: &Node) -> Option<Vec<&'static str>> {
    match node.attributes.get("activations") {
        Some(Attribute::Strs(names)) => {
            let known = |name: &Vec<u8>| {
                ACTIVATIONS.into_iter().find(|a| a.as_bytes().eq_ignore_ascii_case(name))
            };
            names.iter().map(known).collect()
        }
        Some(_) => None,
        None if node.is("RNN") => Some(vec!["Tanh"]),
        None => Some(vec!["Sigmoid", "Tanh", "Tanh"]),
    }
}

/// A layer being unrolled.
struct Cells<'a> {
    graph: &'a mut Graph,
    node: Node,
    layer: Layer,
}

/// The state between steps: hidden units, and cells of an LSTM.
#[derive(Clone, Copy)]
struct Passed {
    hidden: ValueId,
    cell: Option<ValueId>,
}

/// Values common to all steps.
struct Common {
    /// Rᵀ, units × rows.
    recurrence: ValueId,
    /// For a GRU that resets hidden units before their product: Rᵀ of the update and reset gates, and
    /// Rᵀ of the hidden gate.
    halves: Option<[ValueId; 2]>,
    /// The bias of the product with the hidden units.
    bias: Option<ValueId>,
}

/// The value that a GRU's reset gate multiplies: the hidden units before their product, or the
/// product.
enum Candidate {
    Weights(ValueId),
    Product(ValueId),
}

impl Cells<'_> {
    fn write(&mut self) {
        let (inputs, common) = self.products();
        let steps = self.split(inputs, 0, &vec![1; self.layer.steps]);
        let mut passed = self.start(steps[0]);
        let mut hidden = Vec::new();
        for step in steps {
            passed = self.step(step, passed, &common);
            hidden.push(passed.hidden);
        }
        let joined =
            |parts: &[ValueId]| self.op_with("Concat", parts, [("axis", Attribute::Int(0))]);
        let all = super::in_groups(hidden, joined);
        let directions = self.ints(&[1]);
        self.give(0, "Unsqueeze", &[all, directions]);
        match self.node.output(0) {
            // Gives the hidden units of all steps a gradient if only the last ones are read.
            Some(all) => {
                let place = self.ints(&[self.layer.steps as i64 - 1]);
                let last = self.op("Gather", &[all, place]);
                let first = self.ints(&[0]);
                self.give(1, "Squeeze", &[last, first]);
            }
            None => self.give(1, "Identity", &[passed.hidden]),
        }
        if let Some(cell) = passed.cell {
            self.give(2, "Identity", &[cell]);
        }
    }

    /// X·Wᵀ with biases, steps × batch × rows, and what the steps have in common.
    fn products(&mut self) -> (ValueId, Common) {
        let [x, w, r] = self.layer.operands;
        let first = self.ints(&[0]);
        let [w, recurrence] = [w, r].map(|weight| {
            let flat = self.op("Squeeze", &[weight, first]);
            self.op_with("Transpose", &[flat], [("perm", Attribute::Ints(vec![1, 0]))])
        });
        let rows = gates(&self.node.op).len() * self.layer.units;
        let mut product = self.op("MatMul", &[x, w]);
        let mut bias = None;
        if let Some(biases) = self.node.input(3) {
            let flat = self.op("Squeeze", &[biases, first]);
            let parts = self.split(flat, 0, &[rows, rows]);
            product = self.op("Add", &[product, parts[0]]);
            bias = Some(parts[1]);
        }
        let halves =
            (self.node.is("GRU") && self.node.int("linear_before_reset", 0) == 0).then(|| {
                let units = self.layer.units;
                let parts = self.split(recurrence, 1, &[2 * units, units]);
                [parts[0], parts[1]]
            });
        if let (Some(_), Some(second)) = (halves, bias) {
            product = self.op("Add", &[product, second]);
            bias = None;
        }
        (product, Common { recurrence, halves, bias })
    }

    /// The initial states; zeros by default.
    fn start(&mut self, step: ValueId) -> Passed {
        let (hidden, cell) = (self.node.input(5), self.node.input(6));
        let is_lstm = self.node.is("LSTM");
        let zeros = |cells: &mut Self| {
            let others = (gates(&cells.node.op).len() - 1) * cells.layer.units;
            let part = match others {
                0 => step,
                others => cells.split(step, 2, &[cells.layer.units, others])[0],
            };
            let zero = cells.scalar(0.0);
            cells.op("Mul", &[part, zero])
        };
        let hidden = hidden.unwrap_or_else(|| zeros(self));
        let cell = is_lstm.then(|| cell.unwrap_or_else(|| zeros(self)));
        Passed { hidden, cell }
    }

    fn step(&mut self, input: ValueId, passed: Passed, common: &Common) -> Passed {
        match (passed.cell, self.node.is("GRU")) {
            (Some(cell), _) => self.lstm(input, passed.hidden, cell, common),
            (None, true) => Passed { hidden: self.gru(input, passed.hidden, common), cell: None },
            (None, false) => {
                let sum = self.recurred(input, passed.hidden, common);
                Passed { hidden: self.activated(0, sum), cell: None }
            }
        }
    }

    /// x·Wᵀ + h·Rᵀ + biases
    fn recurred(&mut self, input: ValueId, hidden: ValueId, common: &Common) -> ValueId {
        let product = self.of_hidden(hidden, common);
        self.op("Add", &[input, product])
    }

    fn of_hidden(&mut self, hidden: ValueId, common: &Common) -> ValueId {
        let product = self.op("MatMul", &[hidden, common.recurrence]);
        match common.bias {
            Some(bias) => self.op("Add", &[product, bias]),
            None => product,
        }
    }

    /// c' = f·c + i·g and h = o·tanh(c'), with the rows in the order i, o, f, g.
    fn lstm(&mut self, input: ValueId, hidden: ValueId, cell: ValueId, common: &Common) -> Passed {
        let sum = self.recurred(input, hidden, common);
        let parts = self.split(sum, 2, &[self.layer.units; 4]);
        let [i, o, f] = [0, 1, 2].map(|gate| self.activated(0, parts[gate]));
        let candidate = self.activated(1, parts[3]);
        let (kept, new) = (self.op("Mul", &[f, cell]), self.op("Mul", &[i, candidate]));
        let cell = self.op("Add", &[kept, new]);
        let squashed = self.activated(2, cell);
        Passed { hidden: self.op("Mul", &[o, squashed]), cell: Some(cell) }
    }

    /// h' = n + z·(h − n), with the rows in the order z, r, n.
    fn gru(&mut self, input: ValueId, hidden: ValueId, common: &Common) -> ValueId {
        let units = self.layer.units;
        let inputs = self.split(input, 2, &[2 * units, units]);
        let (of_hidden, candidate) = match common.halves {
            Some([gates, own]) => (self.op("MatMul", &[hidden, gates]), Candidate::Weights(own)),
            None => {
                let all = self.of_hidden(hidden, common);
                let parts = self.split(all, 2, &[2 * units, units]);
                (parts[0], Candidate::Product(parts[1]))
            }
        };
        let sum = self.op("Add", &[inputs[0], of_hidden]);
        let both = self.activated(0, sum);
        let parts = self.split(both, 2, &[units; 2]);
        let (update, reset) = (parts[0], parts[1]);
        let recurred = match candidate {
            Candidate::Weights(weights) => {
                let left = self.op("Mul", &[reset, hidden]);
                self.op("MatMul", &[left, weights])
            }
            Candidate::Product(product) => self.op("Mul", &[reset, product]),
        };
        let sum = self.op("Add", &[inputs[1], recurred]);
        let new = self.activated(1, sum);
        let change = self.op("Sub", &[hidden, new]);
        let kept = self.op("Mul", &[update, change]);
        self.op("Add", &[new, kept])
    }

    fn activated(&mut self, function: usize, value: ValueId) -> ValueId {
        let op = self.layer.activations.get(function).copied().unwrap_or("Tanh");
        self.op(op, &[value])
    }

    /// Writes the operator's result to output `slot` of the layer, if the output has consumers.
    fn give(&mut self, slot: usize, op: &str, inputs: &[ValueId]) {
        let Some(output) = self.node.output(slot) else { return };
        self.graph.add_node(Node {
            name: format!("{}.output{slot}", self.node.name),
            op: op.to_owned(),
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![Some(output)],
            ..Node::default()
        });
    }

    fn split(&mut self, value: ValueId, axis: i64, sizes: &[usize]) -> Vec<ValueId> {
        let sizes: Vec<i64> = sizes.iter().map(|s| *s as i64).collect();
        let lengths = self.ints(&sizes);
        let first = self.op_with("Split", &[value, lengths], [("axis", Attribute::Int(axis))]);
        let others = sizes
            .iter()
            .skip(1)
            .map(|_| self.graph.add_value(&self.node.name, ValueKind::Detached, None));
        let outputs: Vec<ValueId> = std::iter::once(first).chain(others).collect();
        if let Some(id) = self.graph.producer(first) {
            let all = outputs.iter().copied().map(Some).collect();
            self.graph.edit_node(id, |node| node.outputs = all);
        }
        outputs
    }

    fn op(&mut self, op: &str, inputs: &[ValueId]) -> ValueId {
        self.op_with(op, inputs, [])
    }

    fn op_with<const N: usize>(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        attributes: [(&'static str, Attribute); N],
    ) -> ValueId {
        self.graph.add_op(op, &format!("{}.step", self.node.name), inputs, attributes)
    }

    fn ints(&mut self, values: &[i64]) -> ValueId {
        let tensor = Tensor::from_i64(vec![values.len()], values);
        self.graph.add_initializer(&format!("{}.sizes", self.node.name), tensor)
    }

    fn scalar(&mut self, value: f32) -> ValueId {
        let tensor = Tensor::from_f32(&ndarray::arr0(value).into_dyn());
        self.graph.add_initializer(&format!("{}.zero", self.node.name), tensor)
    }
}

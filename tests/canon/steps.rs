//! Loops over the steps of a sequence, as TensorFlow's exporter writes recurrent layers.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, DataType, Graph, Node, Tensor, TensorType, ValueId, ValueKind};

/// The next states of a step, from its input, the states and the weights.
pub type Cell = fn(&mut Graph, ValueId, &[ValueId], &[ValueId]) -> Vec<ValueId>;

fn ty(dtype: DataType, is_scalar: bool) -> TensorType {
    TensorType { dtype, shape: is_scalar.then(Vec::new) }
}

fn capture(outer: &Graph, inner: &mut Graph, value: ValueId) -> ValueId {
    inner.add_value(&outer.value(value).name, ValueKind::Captured(value), None)
}

/// An extent of a value.
pub fn extent(b: &mut GraphBuilder, x: ValueId, axis: i64) -> ValueId {
    let shape = b.op("Shape", "shape", &[x], []);
    let axis = b.constant("axis", Tensor::from_i64(vec![], &[axis]));
    b.op("Gather", "extent", &[shape, axis], [])
}

/// Zeros for all samples of a sequence, whose samples are on axis 1.
pub fn zeros(b: &mut GraphBuilder, x: ValueId, units: i64) -> ValueId {
    let samples = extent(b, x, 1);
    let axes = b.ints("axes", &[0]);
    let samples = b.op("Unsqueeze", "samples", &[samples, axes], []);
    let units = b.ints("units", &[units]);
    let sizes = b.op("Concat", "sizes", &[samples, units], [("axis", 0.into())]);
    b.op("ConstantOfShape", "zeros", &[sizes], [])
}

/// A loop over the entries of `x` along an axis, which carries a counter, the states and the weights. Returns the
/// last states, and the first one of all steps.
pub fn over_steps(
    b: &mut GraphBuilder,
    sequence: (ValueId, i64),
    steps: ValueId,
    values: [&[ValueId]; 2],
    cell: Cell,
) -> Vec<ValueId> {
    looped(b, sequence, None, steps, values, cell)
}

/// How a loop chooses between the new values of a step and others.
#[derive(Clone, Copy)]
pub enum Choice {
    /// By `Where`.
    Where,
    /// By a sum of products with the mask and its opposite.
    Products,
    /// As `Products`, with hidden units of zeros where a step is left out.
    Zeros,
}

/// As [`over_steps`], in which steps change nothing where a mask of the same axis does not hold. The first state holds
/// what the loop returns, the others are those of the cell.
pub fn over_masked_steps(
    b: &mut GraphBuilder,
    sequence: (ValueId, i64),
    (mask, choice): (ValueId, Choice),
    steps: ValueId,
    values: [&[ValueId]; 2],
    cell: Cell,
) -> Vec<ValueId> {
    looped(b, sequence, Some((mask, choice)), steps, values, cell)
}

/// `new` where a mask of one column holds, and `old` elsewhere.
fn chosen(body: &mut Graph, flag: ValueId, new: ValueId, old: ValueId, choice: Choice) -> ValueId {
    if matches!(choice, Choice::Where) {
        return body.add_op("Where", "chosen", &[flag, new, old], []);
    }
    let opposite = body.add_op("Not", "opposite", &[flag], []);
    let [new, old] = [(flag, new), (opposite, old)].map(|(flag, value)| {
        let factor = body.add_op("Cast", "factor", &[flag], [("to", 1.into())]);
        body.add_op("Mul", "kept", &[factor, value], [])
    });
    body.add_op("Add", "chosen", &[new, old], [])
}

/// The states of a masked step: the result, and those of the cell.
fn masked(
    body: &mut Graph,
    flag: ValueId,
    choice: Choice,
    own: &[ValueId],
    next: &[ValueId],
) -> (Vec<ValueId>, ValueId) {
    let states: Vec<ValueId> = [next[0]]
        .iter()
        .chain(next)
        .zip(own)
        .map(|(new, old)| chosen(body, flag, *new, *old, choice))
        .collect();
    let result = match choice {
        Choice::Zeros => {
            let factor = body.add_op("Cast", "factor", &[flag], [("to", 1.into())]);
            body.add_op("Mul", "result", &[next[0], factor], [])
        }
        _ => states[0],
    };
    (states, result)
}

fn looped(
    b: &mut GraphBuilder,
    (x, axis): (ValueId, i64),
    mask: Option<(ValueId, Choice)>,
    steps: ValueId,
    [states, weights]: [&[ValueId]; 2],
    cell: Cell,
) -> Vec<ValueId> {
    let mut body = Graph::new("body");
    let count = body.add_input("count", ty(DataType::I64, true));
    body.add_input("goes_on", ty(DataType::Bool, true));
    let place = body.add_input("place", ty(DataType::I64, true));
    let [own, shared] = [("state", states), ("weight", weights)].map(|(name, all)| {
        let input = |_: &ValueId| body.add_input(name, ty(DataType::F32, false));
        all.iter().map(input).collect::<Vec<ValueId>>()
    });
    let [x, limit] = [x, steps].map(|value| capture(b.graph(), &mut body, value));
    let input = body.add_op("Gather", "input", &[x, place], [("axis", axis.into())]);
    let (next, result) = match mask {
        None => {
            let next = cell(&mut body, input, &own, &shared);
            (next.clone(), next[0])
        }
        Some((mask, choice)) => {
            let mask = capture(b.graph(), &mut body, mask);
            let flag = body.add_op("Gather", "flag", &[mask, place], [("axis", axis.into())]);
            let next = cell(&mut body, input, &own[1..], &shared);
            masked(&mut body, flag, choice, &own, &next)
        }
    };
    let one = body.add_initializer("one", Tensor::from_i64(vec![], &[1]));
    let further = body.add_op("Add", "further", &[place, one], []);
    let conditions = [count, further].map(|number| {
        let sides =
            [number, limit].map(|side| body.add_op("Cast", "side", &[side], [("to", 1.into())]));
        body.add_op("Less", "below", &sides, [])
    });
    let both = body.add_op("And", "both", &conditions, []);
    let collected = body.add_op("Identity", "collected", &[result], []);
    body.outputs = [&[both, further], next.as_slice(), shared.as_slice(), &[collected]].concat();
    let outputs: Vec<ValueId> = (1..body.outputs.len())
        .map(|_| b.graph().add_value("result", ValueKind::Detached, None))
        .collect();
    let start = b.constant("start", Tensor::from_i64(vec![], &[0]));
    let begins = b.op("Less", "begins", &[start, steps], []);
    b.graph().add_node(Node {
        name: "loop".to_owned(),
        op: "Loop".to_owned(),
        inputs: [&[steps, begins, start], states, weights].concat().into_iter().map(Some).collect(),
        outputs: outputs.iter().copied().map(Some).collect(),
        attributes: [("body".to_owned(), Attribute::Graph(Box::new(body)))].into(),
        ..Node::default()
    });
    let last = outputs.last().copied();
    outputs[1..=states.len()].iter().copied().chain(last).collect()
}

/// Equal parts of a value along an axis.
pub fn split(graph: &mut Graph, x: ValueId, axis: i64, parts: usize) -> Vec<ValueId> {
    let outputs: Vec<ValueId> =
        (0..parts).map(|_| graph.add_value("part", ValueKind::Detached, None)).collect();
    graph.add_node(Node {
        name: "split".to_owned(),
        op: "Split".to_owned(),
        inputs: vec![Some(x)],
        outputs: outputs.iter().copied().map(Some).collect(),
        attributes: [("axis".to_owned(), Attribute::Int(axis))].into(),
        ..Node::default()
    });
    outputs
}

fn op(graph: &mut Graph, op: &str, inputs: &[ValueId]) -> ValueId {
    graph.add_op(op, op, inputs, [])
}

/// An LSTM of one product for the input and one for the hidden units, whose gates are i, f, c and o.
pub fn lstm(g: &mut Graph, x: ValueId, states: &[ValueId], weights: &[ValueId]) -> Vec<ValueId> {
    let recurred = op(g, "MatMul", &[states[0], weights[1]]);
    let sum = op(g, "Gemm", &[x, weights[0], recurred]);
    let sum = op(g, "Add", &[sum, weights[2]]);
    let gates = split(g, sum, 1, 4);
    let [i, f, o] = [0, 1, 3].map(|gate| op(g, "Sigmoid", &[gates[gate]]));
    let candidate = op(g, "Tanh", &[gates[2]]);
    let [kept, new] = [(f, states[1]), (i, candidate)].map(|(a, b)| op(g, "Mul", &[a, b]));
    let memory = op(g, "Add", &[kept, new]);
    let squashed = op(g, "Tanh", &[memory]);
    vec![op(g, "Mul", &[o, squashed]), memory]
}

/// A GRU whose reset gate comes after the weights. Its biases are the rows of one matrix.
pub fn gru(g: &mut Graph, x: ValueId, states: &[ValueId], weights: &[ValueId]) -> Vec<ValueId> {
    let axes = g.add_initializer("axes", Tensor::from_i64(vec![1], &[0]));
    let biases = split(g, weights[2], 0, 2);
    let products = [(x, 0), (states[0], 1)].map(|(factor, side)| {
        let bias = op(g, "Squeeze", &[biases[side], axes]);
        let product = op(g, "MatMul", &[factor, weights[side]]);
        let sum = op(g, "Add", &[product, bias]);
        split(g, sum, -1, 3)
    });
    let [update, reset] = [0, 1].map(|gate| {
        let sum = op(g, "Add", &[products[0][gate], products[1][gate]]);
        op(g, "Sigmoid", &[sum])
    });
    let recurred = op(g, "Mul", &[reset, products[1][2]]);
    let sum = op(g, "Add", &[products[0][2], recurred]);
    let candidate = op(g, "Tanh", &[sum]);
    let one = Tensor::from_f32(&ndarray::arr0(1.0f32).into_dyn());
    let one = g.add_initializer("one", one);
    let rest = op(g, "Sub", &[one, update]);
    let [kept, new] = [(update, states[0]), (rest, candidate)].map(|(a, b)| op(g, "Mul", &[a, b]));
    vec![op(g, "Add", &[kept, new])]
}

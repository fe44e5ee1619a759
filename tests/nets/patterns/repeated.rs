//! Layers that a net applies several times: branches of siamese nets, heads on all levels of a pyramid, one layer in
//! place of a stack, steps of an unrolled recurrence.

use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, DataType, Node, ValueId, ValueKind};

use super::net::{Pattern, conv, images, relu};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("siamese branches", siamese),
    ("siamese branches side by side", side_by_side),
    ("one head on three levels", |b| pyramid(b, false)),
    ("one head with a normalisation per level", |b| pyramid(b, true)),
    ("one depthwise layer on two maps", depthwise),
    ("one transformer layer three times", transformer),
    ("unrolled recurrence", unrolled),
    ("one table for two texts", texts),
    ("one recurrent layer for two inputs", sequences),
];

/// Patterns whose only constants of numbers are weights and biases of layers.
pub const PLAIN: &[&str] = &[
    "siamese branches",
    "siamese branches side by side",
    "one head on three levels",
    "one depthwise layer on two maps",
    "one table for two texts",
];

/// A weight and a bias.
type Stored = (ValueId, ValueId);

fn stored(b: &mut GraphBuilder, name: &str, weight: &[usize], bias: usize) -> Stored {
    (b.weights(&format!("{name}.w"), weight), b.weights(&format!("{name}.b"), &[bias]))
}

fn convolved(b: &mut GraphBuilder, x: ValueId, (w, bias): Stored, stride: i64) -> ValueId {
    let attributes = [("pads", [1, 1, 1, 1].into()), ("strides", [stride, stride].into())];
    b.op("Conv", "conv", &[x, w, bias], attributes)
}

/// Five scores of `inputs` features.
fn scores(b: &mut GraphBuilder, x: ValueId, inputs: usize) -> ValueId {
    let (w, bias) = stored(b, "head", &[5, inputs], 5);
    b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])
}

fn siamese(b: &mut GraphBuilder) -> Vec<ValueId> {
    let inputs = [images(b), b.input("z", "n,3,8,8")];
    branches(b, inputs)
}

/// [`siamese`], with the branch of the second input before that of the first one.
pub fn other_way_round(b: &mut GraphBuilder) -> Vec<ValueId> {
    let inputs = [images(b), b.input("z", "n,3,8,8")];
    branches(b, [inputs[1], inputs[0]])
}

fn branches(b: &mut GraphBuilder, inputs: [ValueId; 2]) -> Vec<ValueId> {
    let first = stored(b, "first", &[6, 3, 3, 3], 6);
    let second = stored(b, "second", &[8, 6, 3, 3], 8);
    let branches = inputs.map(|x| {
        let x = convolved(b, x, first, 1);
        let x = relu(b, x);
        let x = convolved(b, x, second, 1);
        let x = relu(b, x);
        let x = b.op("GlobalAveragePool", "pool", &[x], []);
        b.op("Flatten", "flat", &[x], [])
    });
    let x = b.op("Sub", "difference", &branches, []);
    let x = b.op("Abs", "distance", &[x], []);
    vec![scores(b, x, 8)]
}

/// One layer reads the features of both branches.
fn side_by_side(b: &mut GraphBuilder) -> Vec<ValueId> {
    let inputs = ["x", "z"].map(|name| b.input(name, "n,6"));
    let (w, bias) = stored(b, "branch", &[4, 6], 4);
    let both = inputs.map(|x| {
        let x = b.op("Gemm", "branch", &[x, w, bias], [("transB", 1.into())]);
        relu(b, x)
    });
    let x = b.op("Concat", "both", &both, [("axis", 1.into())]);
    vec![scores(b, x, 8)]
}

/// As in RetinaNet; with a `BatchNormalization` for each level as in EfficientDet.
fn pyramid(b: &mut GraphBuilder, is_normalised: bool) -> Vec<ValueId> {
    let x = images(b);
    let x = conv(b, "level0", x, 6, 3);
    let mut levels = vec![relu(b, x)];
    for name in ["level1", "level2"] {
        let own = stored(b, name, &[6, 6, 3, 3], 6);
        let x = convolved(b, levels[levels.len() - 1], own, 2);
        levels.push(relu(b, x));
    }
    let tower = stored(b, "tower", &[8, 6, 3, 3], 8);
    let (w, bias) = stored(b, "boxes", &[5, 8, 1, 1], 5);
    let boxes = levels.into_iter().map(|x| {
        let mut x = convolved(b, x, tower, 1);
        if is_normalised {
            let [scale, variance] = ["scale", "variance"].map(|name| b.positive(name, &[8]));
            let [shift, mean] = ["shift", "mean"].map(|name| b.weights(name, &[8]));
            let inputs = [x, scale, shift, mean, variance];
            x = b.op("BatchNormalization", "normal", &inputs, []);
        }
        let x = relu(b, x);
        b.op("Conv", "boxes", &[x, w, bias], [])
    });
    boxes.collect()
}

fn depthwise(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = images(b);
    let (filters, bias) = stored(b, "each", &[6, 1, 3, 3], 6);
    let deeper = conv(b, "deeper", x, 3, 3);
    let maps = [("one", x), ("two", deeper)].map(|(name, x)| {
        let x = conv(b, name, x, 6, 3);
        let x = relu(b, x);
        b.op("Conv", "each", &[x, filters, bias], [("group", 6.into())])
    });
    let x = b.op("Mul", "both", &maps, []);
    let x = b.op("GlobalAveragePool", "pool", &[x], []);
    let x = b.op("Flatten", "flat", &[x], []);
    vec![scores(b, x, 6)]
}

fn linear(b: &mut GraphBuilder, x: ValueId, (w, bias): Stored) -> ValueId {
    let x = b.op("MatMul", "product", &[x, w], []);
    b.op("Add", "biased", &[x, bias], [])
}

/// Weights of a transformer's layer for eight channels, in two heads of four.
struct Block {
    queries_keys_values: [Stored; 3],
    mixed: Stored,
    up: Stored,
    down: Stored,
    normal: [ValueId; 2],
}

impl Block {
    fn new(b: &mut GraphBuilder) -> Block {
        Block {
            queries_keys_values: ["q", "k", "v"].map(|name| stored(b, name, &[8, 8], 8)),
            mixed: stored(b, "o", &[8, 8], 8),
            up: stored(b, "up", &[8, 12], 12),
            down: stored(b, "down", &[12, 8], 8),
            normal: [b.positive("scale", &[8]), b.weights("shift", &[8])],
        }
    }

    fn apply(&self, b: &mut GraphBuilder, x: ValueId) -> ValueId {
        let mut orders = [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]].into_iter();
        let [q, k, v] = self.queries_keys_values.map(|own| {
            let x = linear(b, x, own);
            let shape = b.ints("shape", &[0, 4, 2, 4]);
            let x = b.op("Reshape", "heads", &[x, shape], []);
            let order: [i64; 4] = orders.next().unwrap();
            b.op("Transpose", "stacked", &[x], [("perm", order.into())])
        });
        let weights = b.op("MatMul", "scores", &[q, k], []);
        let weights = b.op("Softmax", "weights", &[weights], [("axis", (-1).into())]);
        let y = b.op("MatMul", "mixed", &[weights, v], []);
        let y = b.op("Transpose", "tokens", &[y], [("perm", [0, 2, 1, 3].into())]);
        let shape = b.ints("shape", &[0, 4, 8]);
        let y = b.op("Reshape", "joined", &[y, shape], []);
        let y = linear(b, y, self.mixed);
        let x = b.op("Add", "residual", &[x, y], []);
        let y = linear(b, x, self.up);
        let y = relu(b, y);
        let y = linear(b, y, self.down);
        let x = b.op("Add", "residual", &[x, y], []);
        let inputs = [x, self.normal[0], self.normal[1]];
        b.op("LayerNormalization", "normal", &inputs, [])
    }
}

/// As in ALBERT.
fn transformer(b: &mut GraphBuilder) -> Vec<ValueId> {
    let ids = b.typed_input("ids", DataType::I64, "n,4");
    let table = b.weights("embedding", &[10, 8]);
    let x = b.op("Gather", "embedding", &[table, ids], []);
    let block = Block::new(b);
    let x = (0..3).fold(x, |x, _| block.apply(b, x));
    let w = b.weights("head.w", &[8, 5]);
    vec![b.op("MatMul", "head", &[x, w], [])]
}

fn unrolled(b: &mut GraphBuilder) -> Vec<ValueId> {
    let inputs = ["x0", "x1", "x2", "x3"].map(|name| b.input(name, "n,3"));
    let (read, again) = (stored(b, "read", &[8, 3], 8), b.weights("again.w", &[8, 8]));
    let mut state: Option<ValueId> = None;
    for x in inputs {
        let mut x = b.op("Gemm", "read", &[x, read.0, read.1], [("transB", 1.into())]);
        if let Some(state) = state {
            let y = b.op("Gemm", "again", &[state, again], [("transB", 1.into())]);
            x = b.op("Add", "sum", &[x, y], []);
        }
        state = Some(b.op("Tanh", "state", &[x], []));
    }
    vec![scores(b, state.unwrap(), 8)]
}

fn texts(b: &mut GraphBuilder) -> Vec<ValueId> {
    let inputs = ["one", "two"].map(|name| b.typed_input(name, DataType::I64, "n,4"));
    let table = b.weights("embedding", &[10, 8]);
    let means = inputs.map(|ids| {
        let x = b.op("Gather", "embedding", &[table, ids], []);
        b.op("ReduceMean", "mean", &[x], [("axes", [1].into()), ("keepdims", 0.into())])
    });
    let x = b.op("Sub", "difference", &means, []);
    let (w, bias) = stored(b, "middle", &[7, 8], 7);
    let x = b.op("Gemm", "middle", &[x, w, bias], [("transB", 1.into())]);
    let x = relu(b, x);
    vec![scores(b, x, 7)]
}

fn sequences(b: &mut GraphBuilder) -> Vec<ValueId> {
    let inputs = ["x", "z"].map(|name| b.input(name, "n,4"));
    let weights = [[1, 24, 4], [1, 24, 6]].map(|dims| b.weights("recurrent", &dims));
    let bias = b.weights("recurrent.b", &[1, 48]);
    let units = inputs.map(|x| {
        let axes = b.ints("axes", &[0]);
        let x = b.op("Unsqueeze", "one_step", &[x, axes], []);
        let y = b.graph().add_value("steps", ValueKind::Detached, None);
        b.graph().add_node(Node {
            name: "recurrent".to_owned(),
            op: "LSTM".to_owned(),
            inputs: [x, weights[0], weights[1], bias].map(Some).to_vec(),
            outputs: vec![Some(y)],
            attributes: [("hidden_size".to_owned(), Attribute::Int(6))].into(),
            ..Node::default()
        });
        let axes = b.ints("axes", &[0, 1]);
        b.op("Squeeze", "only_step", &[y, axes], [])
    });
    let x = b.op("Sub", "difference", &units, []);
    vec![scores(b, x, 6)]
}

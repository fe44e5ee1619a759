//! Layers that read several model inputs, or parts of one.

use onnx_zip::ir::ValueId;
use onnx_zip::ir::builder::GraphBuilder;

use super::net::{Pattern, dense, relu};

/// The patterns of this file.
pub const PATTERNS: &[Pattern] = &[
    ("two inputs side by side", two),
    ("an input beside features of another", beside_features),
    ("parts of an input in another order", parts),
];

fn rest(b: &mut GraphBuilder, x: ValueId, width: usize) -> Vec<ValueId> {
    let x = dense(b, "first", x, [width, 8]);
    let x = relu(b, x);
    let x = dense(b, "second", x, [8, 8]);
    let x = relu(b, x);
    vec![dense(b, "head", x, [8, 5])]
}

fn join(b: &mut GraphBuilder, parts: &[ValueId]) -> ValueId {
    b.op("Concat", "joined", parts, [("axis", 1.into())])
}

fn two(b: &mut GraphBuilder) -> Vec<ValueId> {
    let inputs = [b.input("x", "n,6"), b.input("z", "n,7")];
    let x = join(b, &inputs);
    rest(b, x, 13)
}

fn beside_features(b: &mut GraphBuilder) -> Vec<ValueId> {
    let (x, z) = (b.input("x", "n,6"), b.input("z", "n,7"));
    let features = dense(b, "features", z, [7, 8]);
    let features = relu(b, features);
    let x = join(b, &[x, features]);
    rest(b, x, 14)
}

fn parts(b: &mut GraphBuilder) -> Vec<ValueId> {
    let x = b.input("x", "n,13");
    let parts = [[0, 6], [6, 13]].map(|[from, to]| {
        let bounds = [from, to, 1].map(|bound| b.ints("bound", &[bound]));
        b.op("Slice", "part", &[x, bounds[0], bounds[1], bounds[2]], [])
    });
    let parts = [relu(b, parts[1]), parts[0]];
    let x = join(b, &parts);
    rest(b, x, 13)
}

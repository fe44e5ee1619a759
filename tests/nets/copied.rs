//! Laws on heads of queries that share heads of keys and values, and on tables that scores meet: a copy whose heads
//! and depths stand in another order loses nothing.

use onnx_zip::emit::{self, EmitOptions};
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, Model, ValueId};
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions};

use crate::exact::{alike, batch, check, run, samples};
use crate::patterns::rotary::rotated;
use crate::support;

/// Parameters of the last layer of each net, which stays its task's own.
const HEAD: usize = 7 * 5;

/// Writes copies of two heads on axis 1 for four heads.
type Repeat = fn(&mut GraphBuilder, ValueId) -> ValueId;

const REPEATS: &[(&str, Repeat)] = &[
    ("Gather", |b, x| {
        let heads = b.ints("heads", &[0, 0, 1, 1]);
        b.op("Gather", "repeated", &[x, heads], [("axis", 1.into())])
    }),
    ("Expand", |b, x| {
        let (axis, copies) = (b.ints("axis", &[2]), b.ints("copies", &[1, 1, 2, 1, 1]));
        let x = b.op("Unsqueeze", "one", &[x, axis], []);
        let x = b.op("Expand", "two", &[x, copies], []);
        shaped(b, x, &[-1, 4, 5, 4])
    }),
    ("Tile", |b, x| {
        let (axis, copies) = (b.ints("axis", &[2]), b.ints("copies", &[1, 1, 2, 1, 1]));
        let x = b.op("Unsqueeze", "one", &[x, axis], []);
        let x = b.op("Tile", "two", &[x, copies], []);
        shaped(b, x, &[-1, 4, 5, 4])
    }),
    ("Concat", |b, x| {
        let axis = b.ints("axis", &[1]);
        let parts = [0, 0, 1, 1].map(|head| {
            let (start, end) = (b.ints("start", &[head]), b.ints("end", &[head + 1]));
            b.op("Slice", "part", &[x, start, end, axis], [])
        });
        b.op("Concat", "repeated", &parts, [("axis", 1.into())])
    }),
];

/// For each row of the copy, the row of the net that it is.
struct Orders {
    queries: Vec<usize>,
    keys: Vec<usize>,
    values: Vec<usize>,
    mixed: Vec<usize>,
}

impl Orders {
    /// Those of the net itself.
    fn own() -> Orders {
        let (wide, narrow): (Vec<usize>, Vec<usize>) = ((0..16).collect(), (0..8).collect());
        Orders { queries: wide.clone(), keys: narrow.clone(), values: narrow, mixed: wide }
    }

    /// Exchanged groups, exchanged heads in the first one, and depths in an order of each group, except those of queries
    /// and keys that `is_turned`.
    fn moved(is_turned: bool) -> Orders {
        let keys = if is_turned { [[0, 1, 2, 3]; 2] } else { [[2, 0, 3, 1], [1, 3, 2, 0]] };
        let (values, heads) = ([[3, 2, 0, 1], [1, 0, 3, 2]], [[1, 0], [0, 1]]);
        let narrow = |depths: [[usize; 4]; 2]| -> Vec<usize> {
            [1, 0]
                .into_iter()
                .flat_map(|group| depths[group].map(|depth| group * 4 + depth))
                .collect()
        };
        let wide = |depths: [[usize; 4]; 2]| -> Vec<usize> {
            let of_group = |group: usize| {
                let of_head = move |head| depths[group].map(|depth| (group * 2 + head) * 4 + depth);
                heads[group].into_iter().flat_map(of_head).collect::<Vec<usize>>()
            };
            [1, 0].into_iter().flat_map(of_group).collect()
        };
        Orders {
            queries: wide(keys),
            keys: narrow(keys),
            values: narrow(values),
            mixed: wide(values),
        }
    }
}

pub fn shaped(b: &mut GraphBuilder, x: ValueId, sizes: &[i64]) -> ValueId {
    let sizes = b.ints("sizes", sizes);
    b.op("Reshape", "shaped", &[x, sizes], [])
}

pub fn turned(b: &mut GraphBuilder, x: ValueId, perm: &[i64]) -> ValueId {
    b.op("Transpose", "turned", &[x], [("perm", Attribute::Ints(perm.to_vec()))])
}

/// A product with a drawn matrix whose rows or columns have another order.
pub fn dense(
    b: &mut GraphBuilder,
    (name, x): (&str, ValueId),
    dims: [usize; 2],
    order: Option<(usize, &[usize])>,
) -> ValueId {
    let drawn = b.weights(&format!("{name}.drawn"), &dims);
    let mut tensor = b.graph().initializer(drawn).unwrap().clone();
    if let Some((axis, order)) = order {
        tensor = tensor.select(axis, order).unwrap();
    }
    let w = b.constant(&format!("{name}.w"), tensor);
    b.op("MatMul", name, &[x, w], [])
}

pub fn stream(b: &mut GraphBuilder) -> ValueId {
    let x = b.input("x", "n,5,3");
    let x = dense(b, ("first", x), [3, 6], None);
    b.op("LeakyRelu", "bent", &[x], [])
}

/// What is behind four heads of mixed values.
pub fn behind(b: &mut GraphBuilder, x: ValueId, mixed: ValueId, order: &[usize]) -> Model {
    let mixed = turned(b, mixed, &[0, 2, 1, 3]);
    let mixed = shaped(b, mixed, &[-1, 5, 16]);
    let y = dense(b, ("proj", mixed), [16, 6], Some((0, order)));
    let x = b.op("Add", "stream", &[x, y], []);
    let x = dense(b, ("last", x), [6, 7], None);
    let x = b.op("LeakyRelu", "bent", &[x], []);
    let y = dense(b, ("head", x), [7, 5], None);
    std::mem::replace(b, GraphBuilder::new("net", 17)).build(&[y])
}

/// Four heads of queries, of which two share a head of keys and values. A rotary embedding turns queries and keys where
/// that `is_turned`.
fn grouped(repeat: Repeat, orders: &Orders, is_turned: bool) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let x = stream(&mut b);
    let parts = [("q", 4, &orders.queries), ("k", 2, &orders.keys), ("v", 2, &orders.values)];
    let [q, k, v] = parts.map(|(name, heads, order)| {
        let own = dense(&mut b, (name, x), [6, 4 * heads], Some((1, order)));
        let own = shaped(&mut b, own, &[-1, 5, heads as i64, 4]);
        turned(&mut b, own, &[0, 2, 1, 3])
    });
    let [q, k] = [q, k].map(|x| if is_turned { rotated(&mut b, x, &[5, 4]) } else { x });
    let (k, v) = (repeat(&mut b, k), repeat(&mut b, v));
    let k = turned(&mut b, k, &[0, 1, 3, 2]);
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    behind(&mut b, x, mixed, &orders.mixed)
}

/// Four heads whose scores meet a table of values of these extents: one for each head, or one for each token and all heads.
fn with_table(dims: &[usize], heads: [usize; 4], depths: [usize; 4]) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let x = stream(&mut b);
    let order: Vec<usize> =
        heads.iter().flat_map(|head| depths.map(|depth| head * 4 + depth)).collect();
    let plain: Vec<usize> =
        heads.iter().flat_map(|head| (0..4).map(move |depth| head * 4 + depth)).collect();
    let [q, k, v] = [("q", &plain), ("k", &plain), ("v", &order)].map(|(name, order)| {
        let own = dense(&mut b, (name, x), [6, 16], Some((1, order)));
        let own = shaped(&mut b, own, &[-1, 5, 4, 4]);
        turned(&mut b, own, &[0, 2, 1, 3])
    });
    let k = turned(&mut b, k, &[0, 1, 3, 2]);
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let drawn = b.weights("table.drawn", dims);
    let mut table = b.graph().initializer(drawn).unwrap().select(dims.len() - 1, &depths).unwrap();
    if dims.len() == 4 {
        table = table.select(1, &heads).unwrap();
    }
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    let (table, axis) = (b.constant("table", table), b.ints("axis", &[3]));
    let more = match dims.len() {
        4 => b.op("MatMul", "more", &[scores, table], []),
        _ => {
            let rows = b.op("Unsqueeze", "rows", &[scores, axis], []);
            let rows = b.op("MatMul", "more", &[rows, table], []);
            b.op("Squeeze", "less", &[rows, axis], [])
        }
    };
    let mixed = b.op("Add", "both", &[mixed, more], []);
    behind(&mut b, x, mixed, &order)
}

pub fn is_recognised([a, b]: [Model; 2], name: &str) {
    let batch = batch(&a);
    let wanted = run(&a, &batch);
    run(&b, &batch).iter().zip(&wanted).for_each(|(found, wanted)| alike(found, wanted, name));
    let budget = Budget::uniform(Share::Fraction(1.0));
    let options = MergeOptions { budget, common_tables: true, ..MergeOptions::default() };
    let stored = |model: &Model| -> usize {
        let constants = model.graph.values().filter_map(|(id, _)| model.graph.initializer(id));
        constants.filter(|tensor| tensor.dtype.is_float()).map(|tensor| tensor.len()).sum()
    };
    let nets = [a, b].map(|net| {
        let data = samples(&net);
        (net, data)
    });
    let joint = support::merge_in(nets, &options, 6).0;
    check(&joint, &batch, &[wanted.clone(), wanted], name);
    let alone = stored(joint.tasks()[0].model());
    let joint = emit::emit(&joint, &EmitOptions::default()).unwrap();
    assert!(stored(&joint) <= alone + HEAD + 16, "{name}: {} of {alone}", stored(&joint));
}

#[test]
fn heads_of_queries_that_share_keys_may_stand_in_any_order() {
    for (name, repeat) in REPEATS {
        for is_turned in [false, true] {
            let orders = [Orders::own(), Orders::moved(is_turned)];
            let nets = orders.map(|orders| grouped(*repeat, &orders, is_turned));
            is_recognised(nets, &format!("{name}, turned: {is_turned}"));
        }
    }
}

#[test]
fn a_table_of_values_moves_with_their_depths() {
    for dims in [[1, 4, 5, 4].as_slice(), &[5, 5, 4]] {
        let orders = [([0, 1, 2, 3], [0, 1, 2, 3]), ([2, 0, 3, 1], [3, 1, 0, 2])];
        let nets = orders.map(|(heads, depths)| with_table(dims, heads, depths));
        is_recognised(nets, &format!("a table of extents {dims:?}"));
    }
}

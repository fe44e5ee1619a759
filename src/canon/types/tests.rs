use super::*;
use crate::ir::builder::{GraphBuilder, shape as dims};
use crate::ir::{Attribute, DataType};

fn declared(dims_text: &str) -> Option<TensorType> {
    Some(TensorType { dtype: DataType::F32, shape: Some(dims(dims_text)) })
}

#[test]
fn inference_wins_and_the_file_fills_gaps() {
    assert_eq!(refined(declared("n,?,4"), declared("1,3,5")), declared("n,3,4"));
    assert_eq!(refined(None, declared("2")), declared("2"));
    let rank_unknown = Some(TensorType { dtype: DataType::F32, shape: None });
    assert_eq!(refined(rank_unknown.clone(), declared("2")), declared("2"));
    assert_eq!(refined(declared("2"), rank_unknown), declared("2"));
}

#[test]
fn unnamed_leading_extents_are_one_batch() {
    let mut b = GraphBuilder::new("net", 13);
    let (x, y) = (b.input("x", "?,3,?"), b.input("y", "?,5"));
    let mut model = b.build(&[]);
    name_extents(&mut model.graph);
    assert_eq!(shape(&model.graph, x), Some(dims("batch,3,x.2")));
    assert_eq!(shape(&model.graph, y), Some(dims("batch,5")));
}

#[test]
fn an_unnamed_extent_beside_a_named_one_stays_apart() {
    let mut b = GraphBuilder::new("net", 13);
    let (x, y) = (b.input("x", "N,3"), b.input("y", "?,5"));
    let mut model = b.build(&[]);
    name_extents(&mut model.graph);
    assert_eq!(shape(&model.graph, x), Some(dims("N,3")));
    assert_eq!(shape(&model.graph, y), Some(dims("y.0,5")));
}

#[test]
fn a_stale_batch_size_is_forgotten() {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "?,3");
    let y = b.op("Mystery", "y", &[x], []);
    b.graph().set_type(y, declared("1,7"));
    let mut model = b.build(&[y]);
    name_extents(&mut model.graph);
    infer(&mut model.graph).unwrap();
    assert_eq!(shape(&model.graph, y), Some(dims("?,7")));
}

/// The shape of a value after inference.
fn inferred(b: GraphBuilder, value: ValueId) -> Option<Vec<Dim>> {
    let mut graph = b.build(&[value]).graph;
    infer(&mut graph).unwrap();
    shape(&graph, value)
}

fn text(shape: Option<Vec<Dim>>) -> String {
    let Some(shape) = shape else { return "of unknown rank".to_owned() };
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn ints(b: &mut GraphBuilder, values: &[i64]) -> ValueId {
    b.constant("c", crate::ir::Tensor::from_i64(vec![values.len()], values))
}

fn int(b: &mut GraphBuilder, value: i64) -> ValueId {
    b.constant("c", crate::ir::Tensor::from_i64(Vec::new(), &[value]))
}

/// The extents that a `ConstantOfShape` gets from an operator on lists of numbers.
fn computed(op: &str, operands: &[&[i64]], fmod: i64) -> String {
    let mut b = GraphBuilder::new("net", 13);
    let operands: Vec<ValueId> = operands.iter().map(|values| ints(&mut b, values)).collect();
    let sizes = match op {
        "Mod" => b.op(op, "sizes", &operands, [("fmod", fmod.into())]),
        _ => b.op(op, "sizes", &operands, []),
    };
    let y = b.op("ConstantOfShape", "y", &[sizes], []);
    text(inferred(b, y))
}

#[test]
fn sizes_have_any_number_of_operands() {
    assert_eq!(computed("Max", &[&[6, 1], &[3, 1], &[9, 4]], 0), "9,4");
    assert_eq!(computed("Min", &[&[6, 2], &[3, 5], &[9, 1]], 0), "3,1");
    assert_eq!(computed("Max", &[&[6, 2]], 0), "6,2");
    assert_eq!(computed("Sum", &[&[6, 1], &[3, 1], &[9, 4]], 0), "18,6");
}

/// As nets with padding of TensorFlow's kind compute widths.
#[test]
fn sizes_are_bounded_and_have_signs() {
    assert_eq!(computed("Clip", &[&[6, 1, 9], &[3], &[8]], 0), "6,3,8");
    assert_eq!(computed("Clip", &[&[6, 1], &[3]], 0), "6,3");
    assert_eq!(computed("Relu", &[&[-2, 5]], 0), "0,5");
    assert_eq!(computed("Sign", &[&[0, 5]], 0), "0,1");
    assert_eq!(computed("Pow", &[&[3, 5], &[2]], 0), "9,25");
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "length,4");
    let shape = b.op("Shape", "shape", &[x], []);
    let (low, high) = (int(&mut b, 0), int(&mut b, 9));
    let sizes = b.op("Clip", "sizes", &[shape, low, high], []);
    let y = b.op("ConstantOfShape", "y", &[sizes], []);
    assert_eq!(text(inferred(b, y)), "min(length, 9),4");
}

#[test]
fn remainders_have_the_sign_of_the_divisor_or_of_the_dividend() {
    assert_eq!(computed("Mod", &[&[-7, 7, 6], &[3, 3, 3]], 0), "2,1,0");
    assert_eq!(computed("Mod", &[&[7], &[3]], 1), "1");
    let truncated = computed("Mod", &[&[-7], &[3]], 1);
    assert_ne!(truncated, "2");
}

/// As PyTorch exports `x.view(x.size(0), -1, 12, 32)` and its way back.
#[test]
fn heads_are_split_and_joined_with_open_extents() {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "batch,length,384");
    let shape = b.op("Shape", "shape", &[x], []);
    let zero = int(&mut b, 0);
    let batch = b.op("Gather", "batch", &[shape, zero], [("axis", 0.into())]);
    let axes = ints(&mut b, &[0]);
    let batch = b.op("Unsqueeze", "batch1", &[batch, axes], []);
    let rest = ints(&mut b, &[-1, 12, 32]);
    let target = b.op("Concat", "target", &[batch, rest], [("axis", 0.into())]);
    let heads = b.op("Reshape", "heads", &[x, target], []);
    let turned = b.op("Transpose", "turned", &[heads], [("perm", [0, 2, 1, 3].into())]);
    let scores = b.op("Transpose", "keys", &[heads], [("perm", [0, 2, 3, 1].into())]);
    let scores = b.op("MatMul", "scores", &[turned, scores], []);
    let mixed = b.op("MatMul", "mixed", &[scores, turned], []);
    let back = b.op("Transpose", "back", &[mixed], [("perm", [0, 2, 1, 3].into())]);
    let whole = ints(&mut b, &[-1, 384]);
    let rows = b.op("Reshape", "rows", &[back, whole], []);
    let model = b.build(&[rows, scores]);
    let mut graph = model.graph;
    infer(&mut graph).unwrap();
    assert_eq!(text(super::shape(&graph, heads)), "batch,length,12,32");
    assert_eq!(text(super::shape(&graph, scores)), "batch,12,length,length");
    assert_eq!(text(super::shape(&graph, rows)), "batch*length,384");
}

/// As PyTorch exports `mask.expand(batch, 1, length, length)`, in which -1 would stand for an extent.
#[test]
fn masks_are_expanded_to_computed_targets() {
    let mut b = GraphBuilder::new("net", 13);
    let mask = b.input("mask", "batch,length");
    let shape = b.op("Shape", "shape", &[mask], []);
    let one = ints(&mut b, &[1]);
    let (start, end) = (ints(&mut b, &[1]), ints(&mut b, &[2]));
    let length = b.op("Slice", "length", &[shape, start, end], []);
    let (start, end) = (ints(&mut b, &[0]), ints(&mut b, &[1]));
    let batch = b.op("Slice", "batch", &[shape, start, end], []);
    let target = b.op("Concat", "target", &[batch, one, length, length], [("axis", 0.into())]);
    let rank = ints(&mut b, &[4]);
    let ones = b.op(
        "ConstantOfShape",
        "ones",
        &[rank],
        [("value", Attribute::Tensor(crate::ir::Tensor::from_i64(vec![1], &[1])))],
    );
    let minus = int(&mut b, -1);
    let minuses = b.op("Mul", "minuses", &[ones, minus], []);
    let open = b.op("Equal", "open", &[target, minuses], []);
    let target = b.op("Where", "fixed", &[open, ones, target], []);
    let axes = ints(&mut b, &[1, 2]);
    let wide = b.op("Unsqueeze", "wide", &[mask, axes], []);
    let y = b.op("Expand", "y", &[wide, target], []);
    assert_eq!(text(inferred(b, y)), "batch,1,length,length");
}

#[test]
fn positions_are_as_many_as_tokens() {
    let mut b = GraphBuilder::new("net", 13);
    let ids = b.input("ids", "batch,length");
    let shape = b.op("Shape", "shape", &[ids], []);
    let one = int(&mut b, 1);
    let length = b.op("Gather", "length", &[shape, one], []);
    let zero = int(&mut b, 0);
    let positions = b.op("Range", "positions", &[zero, length, one], []);
    let next = b.op("Add", "next", &[length, one], []);
    let more = b.op("Range", "more", &[zero, next, one], []);
    let both = b.op("Concat", "both", &[positions, more], [("axis", 0.into())]);
    assert_eq!(text(inferred(b, both)), "2*length + 1");
}

#[test]
fn windows_over_open_images_have_formulas() {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "n,3,height,64");
    let w = b.weights("w", &[8, 3, 3, 3]);
    let conv = [("strides", [2, 2].into()), ("pads", [1, 1, 1, 1].into())];
    let a = b.op("Conv", "a", &[x, w], conv);
    let w = b.weights("w1", &[8, 3, 1, 1]);
    let short = b.op("Conv", "short", &[x, w], [("strides", [2, 2].into())]);
    let sum = b.op("Add", "sum", &[a, short], []);
    assert_eq!(text(inferred(b, sum)), "n,8,floor((height + 1)/2),32");
}

#[test]
fn types_come_out_of_branches() {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "n,4");
    let condition = b.input("condition", "");
    let branch = |op: &str| {
        let mut sub = Graph::new(op);
        let outer = sub.add_value("outer", ValueKind::Captured(x), None);
        let y = sub.add_op(op, "y", &[outer], []);
        sub.outputs.push(y);
        Attribute::Graph(Box::new(sub))
    };
    let (then, other) = (branch("Relu"), branch("Neg"));
    let y = b.op("If", "y", &[condition], [("then_branch", then), ("else_branch", other)]);
    assert_eq!(text(inferred(b, y)), "n,4");
}

/// Exporters have several numbers for the end of an axis.
#[test]
fn slices_to_a_number_that_no_extent_reaches_go_to_the_end() {
    let cut = |start: i64, end: i64, step: i64| {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,4");
        let [start, end, step] = [start, end, step].map(|bound| ints(&mut b, &[bound]));
        let axis = ints(&mut b, &[0]);
        let y = b.op("Slice", "y", &[x, start, end, axis, step], []);
        text(inferred(b, y))
    };
    for end in [1_000_000_000, i64::from(i32::MAX), i64::MAX] {
        assert_eq!((cut(0, end, 1), cut(-2, end, 1)), ("n,4".into(), "2,4".into()));
        assert_eq!((cut(-1, -end, -1), cut(end, -end, -1)), ("n,4".into(), "n,4".into()));
    }
    assert_eq!((cut(0, 1_000_000, 1), cut(-1, -1_000_000, -1)), ("?,4".into(), "?,4".into()));
}

/// As positions of a table for as many tokens as a text has.
#[test]
fn the_beginning_of_a_constant_is_no_longer_than_the_constant() {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "batch,length,8");
    let table = b.weights("table", &[1, 40, 8]);
    let shape = b.op("Shape", "shape", &[x], []);
    let [zero, one, two] = [0, 1, 2].map(|n| ints(&mut b, &[n]));
    let length = b.op("Slice", "length", &[shape, one, two], []);
    let first = b.op("Slice", "first", &[table, zero, length, one], []);
    let twice = b.op("Add", "twice", &[first, first], []);
    let sum = b.op("Add", "sum", &[twice, x], []);
    let product = b.op("Mul", "product", &[sum, first], []);
    let behind = b.op("Slice", "behind", &[table, length, two, one], []);
    let mut graph = b.build(&[product, behind]).graph;
    infer(&mut graph).unwrap();
    let told = |value| text(super::shape(&graph, value));
    assert_eq!((told(first), told(twice)), ("1,min(length, 40),8".into(), told(first)));
    assert_eq!((told(sum), told(product)), ("batch,length,8".into(), told(sum)));
    assert_eq!(told(behind), "1,?,8");
}

#[test]
fn an_extent_of_which_nothing_is_known_may_be_the_larger_one() {
    let mut b = GraphBuilder::new("net", 13);
    let (x, y) = (b.input("x", "batch,length,8"), b.input("y", "batch,?,8"));
    let sum = b.op("Add", "sum", &[x, y], []);
    assert_eq!(text(inferred(b, sum)), "batch,?,8");
}

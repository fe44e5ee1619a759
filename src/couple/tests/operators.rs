//! Groups around operators whose operands have different roles.

use super::*;
use crate::ir::{Node, ValueKind};

fn tokens(g: &mut Graph, features: usize) -> ValueId {
    let mut shape = ["n", "tokens"].map(|name| Dim::Symbol(name.into())).to_vec();
    shape.push(Dim::Known(features));
    g.add_input("x", TensorType { dtype: DataType::F32, shape: Some(shape) })
}

/// A product over tokens, with a bias behind it.
fn product(g: &mut Graph, name: &str, x: ValueId, [inputs, out]: [usize; 2]) -> ValueId {
    let w = g.add_initializer(&format!("{name}.w"), zeros(&[inputs, out]));
    let y = g.add_op("MatMul", name, &[x, w], []);
    let bias = g.add_initializer(&format!("{name}.b"), zeros(&[out]));
    g.add_op("Add", &format!("{name}.biased"), &[y, bias], [])
}

#[test]
fn a_quantisation_by_the_range_of_all_elements_keeps_channels() {
    let mut g = Graph::new("rounded");
    let x = image(&mut g, 3);
    let a = conv(&mut g, "a", x, [6, 3, 1, 1], 1);
    let parts = ["codes", "step", "zero"].map(|name| g.add_value(name, ValueKind::Detached, None));
    let rounded = g.add_node(Node {
        name: "rounded".to_owned(),
        op: "DynamicQuantizeLinear".to_owned(),
        inputs: vec![Some(a)],
        outputs: parts.map(Some).to_vec(),
        ..Node::default()
    });
    let floats = g.add_op("DequantizeLinear", "floats", &parts, []);
    let y = conv(&mut g, "y", floats, [4, 6, 1, 1], 1);
    g.outputs.push(y);
    let c = coupled(&mut g);
    assert_eq!(summary(&c), [row("x", 3, 0, true), row("a", 6, 1, false), row("y", 4, 1, true)]);
    assert_eq!(c.groups[1].consumers, [LayerId(1)]);
    assert!(parts[1..].iter().all(|number| c.axis(*number).is_none()));
    assert!(matches!(c.flows.get(&rounded), Some(Flow::Together(_))));
    let Some(Flow::Partwise(back)) = c.flows.get(&g.producer(floats).unwrap()) else { panic!() };
    assert_eq!(back.operands, [Operand::Channels, Operand::Plain, Operand::Plain]);
}

#[test]
fn nothing_behind_a_product_with_a_bias_is_like_an_input() {
    let mut g = Graph::new("unknown");
    let x = tokens(&mut g, 3);
    let a = product(&mut g, "a", x, [3, 6]);
    // An operator without a rule, which canonical form removes.
    let unknown = g.add_op("Dropout", "unknown", &[a], []);
    let y = product(&mut g, "y", unknown, [6, 4]);
    g.outputs.push(y);
    let c = coupled(&mut g);
    assert_eq!(summary(&c), [row("x", 3, 0, true), row("a", 6, 1, false), row("y", 4, 1, true)]);
    assert_eq!(c.layer(LayerId(1)).inputs, None);
}

fn numbers(g: &mut Graph, name: &str, dims: &[usize], values: &[i64]) -> ValueId {
    g.add_initializer(name, Tensor::from_i64(dims.to_vec(), values))
}

fn flow_of<'c>(g: &Graph, c: &'c Coupling, value: ValueId) -> &'c Flow {
    &c.flows[&g.producer(value).unwrap()]
}

#[test]
fn rows_that_are_written_at_places_keep_their_channels() {
    let mut g = Graph::new("levels");
    let x = image(&mut g, 3);
    let levels = ["a", "b"].map(|name| conv(&mut g, name, x, [6, 3, 1, 1], 1));
    let places = [[0, 2], [1, 3]].map(|rows| numbers(&mut g, "places", &[2, 1], &rows));
    let none = g.add_initializer("none", zeros(&[4, 6, 8, 8]));
    let some = g.add_op("ScatterND", "some", &[none, places[0], levels[0]], []);
    let all = g.add_op("ScatterND", "all", &[some, places[1], levels[1]], []);
    let y = conv(&mut g, "y", all, [4, 6, 1, 1], 1);
    g.outputs.push(y);
    let c = coupled(&mut g);
    assert_eq!(summary(&c), [row("x", 3, 0, true), row("a", 6, 2, false), row("y", 4, 1, true)]);
    let operands = [some, all].map(|value| match flow_of(&g, &c, value) {
        Flow::Partwise(flow) => flow.operands.clone(),
        other => panic!("{other:?}"),
    });
    let (plain, channels) = (Operand::Plain, Operand::Channels);
    assert_eq!(operands[0], [Operand::Param { axis: 1 }, plain, channels]);
    assert_eq!(operands[1], [channels, plain, channels]);
}

#[test]
fn rows_that_are_written_at_the_same_places_of_all_channels_keep_these() {
    let mut g = Graph::new("levels");
    let x = image(&mut g, 3);
    let a = conv(&mut g, "a", x, [6, 3, 1, 1], 1);
    let sizes = numbers(&mut g, "sizes", &[4], &[2, 6, 8, 8]);
    let none = g.add_op("ConstantOfShape", "none", &[sizes], []);
    let rows = numbers(&mut g, "rows", &[2, 1, 1, 1], &[1, 0]);
    let places = g.add_op("Expand", "places", &[rows, sizes], []);
    let all = g.add_op("ScatterElements", "all", &[none, places, a], []);
    let y = conv(&mut g, "y", all, [4, 6, 1, 1], 1);
    g.outputs.push(y);
    let c = coupled(&mut g);
    assert_eq!(summary(&c), [row("x", 3, 0, true), row("a", 6, 1, false), row("y", 4, 1, true)]);
    let counted = Operand::Shape { entry: 1, width: 1 };
    for (value, wanted) in [
        (none, vec![counted]),
        (places, vec![Operand::Plain, counted]),
        (all, vec![Operand::Channels; 3]),
    ] {
        let Flow::Partwise(flow) = flow_of(&g, &c, value) else { panic!() };
        assert_eq!(flow.operands, wanted);
    }
}

#[test]
fn what_is_written_along_the_channels_or_at_places_among_them_is_whole() {
    for (op, places) in [("ScatterElements", vec![2, 6, 8, 8]), ("ScatterND", vec![1, 2])] {
        let mut g = Graph::new("mixed");
        let x = image(&mut g, 3);
        let a = conv(&mut g, "a", x, [6, 3, 1, 1], 1);
        let none = g.add_initializer("none", zeros(&[2, 6, 8, 8]));
        let count = places.iter().product();
        let places = numbers(&mut g, "places", &places, &vec![0; count]);
        let axis = [("axis", Attribute::Int(1))];
        let axis = if op == "ScatterND" { None } else { Some(axis) };
        let all = g.add_op(op, "all", &[none, places, a], axis.into_iter().flatten());
        let y = conv(&mut g, "y", all, [4, 6, 1, 1], 1);
        g.outputs.push(y);
        let c = coupled(&mut g);
        assert!(matches!(flow_of(&g, &c, all), Flow::Whole(_)), "{op}");
        assert_eq!(c.layer(LayerId(1)).inputs, None, "{op}");
    }
}

#[test]
fn rows_that_are_added_to_an_input_reach_an_answer_or_a_layer() {
    for is_answer in [false, true] {
        let mut g = Graph::new("residual");
        let x = image(&mut g, 3);
        let a = conv(&mut g, "a", x, [6, 3, 1, 1], 1);
        let b = conv(&mut g, "b", a, [3, 6, 1, 1], 1);
        let sum = g.add_op("Add", "sum", &[x, b], []);
        let y = if is_answer { sum } else { conv(&mut g, "y", sum, [4, 3, 1, 1], 1) };
        g.outputs.push(y);
        let c = coupled(&mut g);
        let group = &c.groups[c.axis(sum).unwrap().channels[0].group.0];
        assert_eq!((group.end(), group.producers.len()), (Some(End::Input), 1));
        assert_eq!(group.reaches_answer, is_answer);
    }
}

#[test]
fn a_state_that_begins_with_zeros_keeps_no_order() {
    for is_repeated in [true, false] {
        let mut g = Graph::new("cell");
        let x = image(&mut g, 3);
        let sizes = numbers(&mut g, "sizes", &[4], &[2, 8, 8, 6]);
        let none = g.add_op("ConstantOfShape", "none", &[sizes], []);
        let perm = [("perm", Attribute::Ints(vec![0, 3, 1, 2]))];
        let none = g.add_op("Transpose", "first", &[none], perm);
        let w = g.add_initializer("w", zeros(&[6, 6, 1, 1]));
        let before = g.add_op("Conv", "before", &[none, w], []);
        let a = conv(&mut g, "a", x, [6, 3, 1, 1], 1);
        let sum = g.add_op("Add", "sum", &[a, before], []);
        let read = if is_repeated { w } else { g.add_initializer("v", zeros(&[6, 6, 1, 1])) };
        let again = g.add_op("Conv", "again", &[sum, read], []);
        let y = conv(&mut g, "y", again, [4, 6, 1, 1], 1);
        g.outputs.push(y);
        let c = coupled(&mut g);
        let layer = c.layers.iter().find(|layer| layer.name == "before").unwrap();
        let read = &layer.inputs.as_ref().unwrap()[0];
        assert_eq!(c.group(read.group).frozen.is_some(), !is_repeated);
    }
}

#[test]
fn channels_that_become_positions_of_one_channel_move_as_a_block() {
    for (mode, is_cut) in [("CRD", true), ("DCR", false)] {
        let mut g = Graph::new("shuffle");
        let x = image(&mut g, 3);
        let a = conv(&mut g, "a", x, [8, 3, 1, 1], 1);
        let mode = Attribute::Str(mode.as_bytes().to_vec());
        let attributes = [("blocksize", Attribute::Int(2)), ("mode", mode)];
        let wide = g.add_op("DepthToSpace", "wide", &[a], attributes);
        let b = conv(&mut g, "b", wide, [5, 2, 1, 1], 1);
        let y = conv(&mut g, "y", b, [4, 5, 1, 1], 1);
        g.outputs.push(y);
        let c = coupled(&mut g);
        let flow = c.flows.get(&g.producer(wide).unwrap());
        assert_eq!(matches!(flow, Some(Flow::Partwise(_))), is_cut);
        let blocks: Vec<_> = c.nests.iter().map(Nest::blocks).collect();
        let expected = if is_cut { vec![vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7]]] } else { vec![] };
        assert_eq!(blocks, expected);
        assert!(c.nests.iter().all(|nest| nest.is_fixed));
        assert!(c.layers.iter().all(|layer| layer.inputs.is_some()));
    }
}

#[test]
fn each_feature_of_an_input_becomes_a_token() {
    let mut g = Graph::new("table");
    let dims = [Dim::Symbol("n".into()), Dim::Known(4)];
    let x = g.add_input("x", TensorType { dtype: DataType::F32, shape: Some(dims.into()) });
    let axis = numbers(&mut g, "axis", &[1], &[2]);
    let x = g.add_op("Unsqueeze", "numbers", &[x, axis], []);
    let (rows, one) = (zeros(&[4, 6]), zeros(&[1, 6]));
    let (rows, one) = (g.add_initializer("rows", rows), g.add_initializer("one", one));
    let tokens = g.add_op("Mul", "tokens", &[x, rows], []);
    let up = product(&mut g, "up", tokens, [6, 9]);
    let down = product(&mut g, "down", up, [9, 6]);
    let sum = g.add_op("Add", "sum", &[tokens, down], []);
    let y = product(&mut g, "y", sum, [6, 3]);
    // One row for all numbers, as of frequencies, makes no channels.
    let waves = g.add_op("Mul", "waves", &[x, one], []);
    g.outputs.extend([y, waves]);
    let c = coupled(&mut g);
    let of = |value: ValueId| c.axis(value).map(|axis| (axis.axis, axis.channels.len()));
    assert_eq!([of(tokens), of(sum)], [Some((2, 6)); 2]);
    assert_eq!(of(waves), None);
    let group = c.group(c.axis(tokens).unwrap().channels[0].group);
    assert_eq!((group.producers.len(), group.consumers.len(), &group.frozen), (1, 2, &None));
    assert!(c.layers.iter().all(|layer| layer.inputs.is_some()));
}

/// A mixer of nine tokens with six channels and seven hidden units; returns its products over tokens.
fn mixer(graph: &mut Graph) -> [NodeId; 2] {
    let dims = [Dim::Symbol("n".into()), Dim::Known(9), Dim::Known(4)];
    let ty = TensorType { dtype: DataType::F32, shape: Some(dims.to_vec()) };
    let x = graph.add_input("x", ty);
    let product = |graph: &mut Graph, name: &str, x: ValueId, dims: [usize; 2]| {
        let w = graph.add_initializer(&format!("{name}.w"), zeros(&dims));
        graph.add_op("MatMul", name, &[x, w], [])
    };
    let swapped = |graph: &mut Graph, x: ValueId| {
        graph.add_op("Transpose", "swapped", &[x], [("perm", Attribute::Ints(vec![0, 2, 1]))])
    };
    let x = product(graph, "embed", x, [4, 6]);
    let y = swapped(graph, x);
    let up = product(graph, "up", y, [9, 7]);
    let y = graph.add_op("Relu", "relu", &[up], []);
    let down = product(graph, "down", y, [7, 9]);
    let y = swapped(graph, down);
    let x = graph.add_op("Add", "sum", &[x, y], []);
    let y = product(graph, "head", x, [6, 5]);
    graph.outputs.push(y);
    [up, down].map(|value| graph.producer(value).unwrap())
}

#[test]
fn channels_go_on_behind_products_over_more_tokens_than_channels() {
    let mut g = Graph::new("mixer");
    mixer(&mut g);
    let c = coupled(&mut g);
    let names: Vec<&str> = c.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["embed", "head"]);
    assert!(summary(&c).contains(&row("embed", 6, 1, false)));
}

#[test]
fn a_view_follows_hidden_units_beside_the_channels() {
    let mut g = Graph::new("mixer");
    let products = BTreeSet::from(mixer(&mut g));
    coupled(&mut g);
    let c = Coupling::viewed(&g, View { nodes: &products, alone: true }).unwrap();
    let units = c.groups.iter().find(|group| group.name == "up").unwrap();
    assert_eq!((units.size, units.producers.len(), units.consumers.len()), (7, 1, 1));
    assert!(units.frozen.is_none());
    assert!(c.groups.iter().all(|group| group.name != "embed"));
}

#[test]
fn a_slice_that_takes_nothing_returns_no_channels() {
    let mut g = Graph::new("nothing");
    let x = image(&mut g, 3);
    let a = conv(&mut g, "a", x, [6, 3, 1, 1], 1);
    let [from, axis] = [("from", 0), ("axis", 1)]
        .map(|(name, n)| g.add_initializer(name, Tensor::from_i64(vec![1], &[n])));
    let none = g.add_op("Slice", "none", &[a, from, from, axis], []);
    let all = g.add_op("Concat", "all", &[none, a], [("axis", Attribute::Int(1))]);
    let y = conv(&mut g, "y", all, [4, 6, 1, 1], 1);
    g.outputs = vec![y, none];
    let c = coupled(&mut g);
    assert!(c.axis(none).is_none());
    assert_eq!(c.axis(all).unwrap().channels.len(), 6);
    let Some(Flow::Whole(whole)) = c.flows.get(&g.producer(none).unwrap()) else { panic!() };
    assert_eq!(whole.reason, "a value without elements");
}

#[test]
fn padding_adds_few_channels() {
    for (width, is_followed) in [(2, true), (1 << 20, false), (i64::MAX, false)] {
        let mut g = Graph::new("padded");
        let x = image(&mut g, 3);
        let a = conv(&mut g, "a", x, [6, 3, 1, 1], 1);
        let widths = Tensor::from_i64(vec![8], &[0, width, 0, 0, 0, width, 0, 0]);
        let widths = g.add_initializer("widths", widths);
        let y = g.add_op("Pad", "y", &[a, widths], []);
        g.outputs.push(y);
        assert_eq!(coupled(&mut g).axis(y).is_some(), is_followed, "{width}");
    }
}

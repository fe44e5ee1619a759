//! Flows of channels through single nodes.

use super::*;
use crate::ir::Attribute;
use crate::ir::builder::GraphBuilder;

#[test]
fn every_operator_has_one_rule() {
    let ops = known_ops();
    let mut unique = ops.clone();
    unique.dedup();
    assert_eq!(ops, unique);
}

/// Three channels on an axis, or none.
const THREE: [u32; 3] = [0, 1, 2];
/// Two others.
const TWO: [u32; 2] = [3, 4];

fn atoms(numbers: &[u32]) -> Vec<Atom> {
    numbers.iter().copied().map(Atom).collect()
}

/// The extents of an operand, and its channels with the axis of these.
type Given<'a> = (&'a str, Option<(usize, &'a [u32])>);

/// The flow through a node of operator set 18 with these operands.
fn flow<const N: usize>(
    op: &str,
    operands: &[Given<'_>],
    attributes: [(&'static str, Attribute); N],
) -> Flow {
    let mut b = GraphBuilder::new("net", 18);
    let inputs: Vec<_> = operands.iter().map(|(dims, _)| b.input("x", dims)).collect();
    let y = b.op(op, "y", &inputs, attributes);
    let mut graph = b.build(&[y]).graph;
    let id = graph.producer(y).unwrap();
    let ty = infer(&NodeView::new(&graph, id, &[])).remove(0);
    graph.set_type(y, ty);
    let mut labels = vec![None; graph.value_count()];
    for (input, (_, own)) in inputs.iter().zip(operands) {
        let own = own.map(|(axis, numbers)| Labels::along(axis, atoms(numbers)));
        labels[input.index()] = own;
    }
    rule(op).unwrap().flow(&NodeView::new(&graph, id, &labels))
}

/// The axis of the channels behind a node, which they are, and the roles of its operands.
fn partwise(flow: Flow) -> Option<(usize, Vec<Atom>, Vec<Operand>)> {
    match flow {
        Flow::Partwise(partwise) => {
            Some((partwise.output.axis, partwise.output.atoms, partwise.operands))
        }
        _ => None,
    }
}

#[test]
fn channels_on_two_axes_of_a_product_of_elements_leave_one_of_them() {
    let three = ("n,3,1", Some((1, &THREE[..])));
    let two = ("n,1,2", Some((2, &TWO[..])));
    let roles = [Operand::Channels, Operand::Plain];
    let found = partwise(flow("Mul", &[three, two], []));
    assert_eq!(found, Some((1, atoms(&THREE), roles.to_vec())));
    let turned = partwise(flow("Mul", &[two, three], []));
    assert_eq!(turned, Some((1, atoms(&THREE), vec![roles[1], roles[0]])));
    let wide = ("n,3,2", Some((2, &TWO[..])));
    assert!(matches!(flow("Mul", &[three, wide], []), Flow::Whole(_)));
}

#[test]
fn rows_or_columns_of_a_product_of_matrices_go_on() {
    let roles = |first| match first {
        true => vec![Operand::Channels, Operand::Plain],
        false => vec![Operand::Plain, Operand::Channels],
    };
    let rows = ("n,3,8", Some((1, &THREE[..])));
    let columns = ("n,8,2", Some((2, &TWO[..])));
    let found = partwise(flow("MatMul", &[rows, columns], []));
    assert_eq!(found, Some((1, atoms(&THREE), roles(true))));
    let few = ("n,2,8", Some((1, &TWO[..])));
    let many = ("n,8,3", Some((2, &THREE[..])));
    let found = partwise(flow("MatMul", &[few, many], []));
    assert_eq!(found, Some((2, atoms(&THREE), roles(false))));
    // The summed channels of the left operand are in an order of their own.
    let summed = ("n,8,2", Some((2, &TWO[..])));
    let found = partwise(flow("MatMul", &[summed, ("n,2,3", Some((2, &THREE[..])))], []));
    assert_eq!(found, Some((2, atoms(&THREE), roles(false))));
}

#[test]
fn stacks_of_matrices_are_coupled_where_both_have_channels() {
    let own: [u32; 3] = [5, 6, 7];
    let (left, right) = (("n,3,4,8", Some((1, &THREE[..]))), ("n,3,8,2", Some((1, &own[..]))));
    let Flow::Partwise(both) = flow("MatMul", &[left, right], []) else { panic!("not partwise") };
    // Of equal numbers, those of the right operand go on.
    let wanted = [(atoms(&own), atoms(&THREE)), (atoms(&own), atoms(&own))];
    assert_eq!(both.coupled, wanted);
    let mask = ("n,1,8,2", Some((1, &[9][..])));
    let Flow::Partwise(one) = flow("MatMul", &[left, mask], []) else { panic!("not partwise") };
    assert_eq!(one.coupled, [(atoms(&THREE), atoms(&THREE))]);
}

#[test]
fn largest_elements_along_another_axis_are_of_each_channel() {
    let maps = ("n,3,8", Some((1, &THREE[..])));
    let count = ("1", None);
    let found = partwise(flow("TopK", &[maps, count], [("axis", 2.into())]));
    let roles = vec![Operand::Channels, Operand::Plain];
    assert_eq!(found, Some((1, atoms(&THREE), roles)));
    for op in ["ArgMax", "ArgMin"] {
        let found = |axis: i64, keeps: i64| {
            let attributes = [("axis", axis.into()), ("keepdims", keeps.into())];
            partwise(flow(op, &[("n,8,3,2", Some((2, &THREE[..])))], attributes)).map(|own| own.0)
        };
        assert_eq!([found(1, 1), found(1, 0), found(-1, 0)], [Some(2), Some(1), Some(2)]);
    }
}

#[test]
fn places_of_channels_need_their_order_and_values_do_not() {
    let reason = Flow::whole("a comparison of channels");
    let channels = ("n,3,8", Some((1, &THREE[..])));
    assert_eq!(flow("ArgMax", &[channels], [("axis", 1.into())]), reason);
    let axis = ("axis", 1.into());
    let values = flow("TopK", &[channels, ("1", None)], [axis]);
    assert!(matches!(values, Flow::Together(together) if together.outputs.is_empty()));
    let unsorted = [("axis", 1.into()), ("sorted", 0.into())];
    assert_eq!(flow("TopK", &[channels, ("1", None)], unsorted), reason);
}

#[test]
fn the_first_of_equal_channels_is_told_by_their_order() {
    let channels = ("n,3,8", Some((1, &THREE[..])));
    let found = flow("Hardmax", &[channels], [("axis", 1.into())]);
    let labels = Labels::along(1, atoms(&THREE));
    assert_eq!(found, Flow::whole_with("a maximum over channels", labels));
    assert!(partwise(flow("Hardmax", &[channels], [("axis", 2.into())])).is_some());
}

#[test]
fn indices_of_each_channel_pick_along_another_axis() {
    let data = ("n,3,8", Some((1, &THREE[..])));
    let own: [u32; 3] = [5, 6, 7];
    let places = ("n,3,4", Some((1, &own[..])));
    let Flow::Partwise(found) = flow("GatherElements", &[data, places], [("axis", 2.into())])
    else {
        panic!("not partwise")
    };
    assert_eq!(found.coupled, [(atoms(&THREE), atoms(&own))]);
    assert_eq!(found.operands, [Operand::Channels; 2]);
    for (places, axis) in [(places, 1), (("n,1,4", None), 2), (("n,3,4", None), 2)] {
        let found = flow("GatherElements", &[data, places], [("axis", axis.into())]);
        assert_eq!(found, Flow::whole("a gather of channels with computed indices"));
    }
}

#[test]
fn places_before_the_channels_pick_all_of_them() {
    let picked = |data: &'static str, axis: usize, places: &'static str, same: i64| {
        let data = (data, Some((axis, &THREE[..])));
        partwise(flow("GatherND", &[data, (places, None)], [("batch_dims", same.into())]))
    };
    let found = |axis| Some((axis, atoms(&THREE), vec![Operand::Channels, Operand::Plain]));
    assert_eq!(picked("7,n,3", 2, "5,n,2", 0), found(2));
    assert_eq!(picked("n,7,3", 2, "n,1", 1), found(1));
    assert_eq!(picked("n,7,8,3", 3, "n,2,4,1", 1), found(4));
    assert_eq!(picked("n,3,7", 1, "n,4,2", 0), None);
    assert_eq!(picked("n,3,7", 1, "n,4,m", 0), None);
}

#[test]
fn parts_of_another_axis_have_all_channels() {
    let found = partwise(flow("Split", &[("n,3,8", Some((1, &THREE[..])))], [("axis", 2.into())]));
    assert_eq!(found, Some((1, atoms(&THREE), vec![Operand::Channels])));
}

#[test]
fn operators_along_other_axes_leave_channels_apart() {
    let maps = ("n,3,8,8", Some((1, &THREE[..])));
    let roles = vec![Operand::Channels, Operand::Plain];
    let points = ("n,4,4,2", None);
    assert_eq!(
        partwise(flow("GridSample", &[maps, points], [])),
        Some((1, atoms(&THREE), roles.clone()))
    );
    let last = ("n,8,8,3", Some((3, &THREE[..])));
    assert!(partwise(flow("GridSample", &[last, points], [])).is_none());
    let lengths = ("8", None);
    let axes = [("batch_axis", 0.into()), ("time_axis", 2.into())];
    let found = partwise(flow("ReverseSequence", &[maps, lengths], axes));
    assert_eq!(found, Some((1, atoms(&THREE), roles)));
    assert!(partwise(flow("Trilu", &[maps], [])).is_some());
    assert!(partwise(flow("Trilu", &[last], [])).is_none());
}

/// Three channels as rows of maps, in place of which stand two rows.
const ROWS: (&str, Option<(usize, &[u32])>) = ("n,2,3,8", Some((2, &THREE)));

#[test]
fn windows_of_one_row_leave_rows_apart() {
    for op in ["MaxPool", "AveragePool", "LpPool"] {
        let pooled = |kernel: [i64; 2], strides: [i64; 2]| {
            let attributes = [("kernel_shape", kernel.into()), ("strides", strides.into())];
            partwise(flow(op, &[ROWS], attributes)).is_some()
        };
        assert!(pooled([1, 2], [1, 2]));
        assert!(!pooled([1, 2], [2, 2]) && !pooled([2, 1], [1, 1]));
    }
    let attributes = [("kernel_shape", [1, 3].into()), ("pads", [0, 1, 0, 1].into())];
    assert!(partwise(flow("MaxPool", &[ROWS], attributes)).is_some());
    let attributes = [("kernel_shape", [1, 3].into()), ("pads", [1, 1, 0, 1].into())];
    assert!(partwise(flow("MaxPool", &[ROWS], attributes)).is_none());
}

#[test]
fn statistics_over_channels_as_rows_take_them_in_any_order() {
    let numbers = [("2", None), ("2", None)];
    let operands = [ROWS, numbers[0], numbers[1]];
    let roles = vec![Operand::Channels, Operand::Plain, Operand::Plain];
    let labels = Labels::along(2, atoms(&THREE));
    let found = flow("InstanceNormalization", &operands, []);
    let wanted = Together { operands: roles, coupled: None, outputs: vec![Some(labels)] };
    assert_eq!(found, Flow::Together(wanted));
    for op in ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"] {
        let found = flow(op, &[ROWS], []);
        assert!(matches!(found, Flow::Together(sum) if sum.outputs.is_empty()), "{op}");
    }
    let four = [ROWS, numbers[0], numbers[0], numbers[0], numbers[0]];
    assert!(partwise(flow("BatchNormalization", &four, [])).is_some());
    assert!(partwise(flow("LRN", &[ROWS], [("size", 3.into())])).is_some());
}

#[test]
fn a_join_of_values_without_channels_lists_none() {
    let plain = ("n,4", None);
    let Flow::Whole(whole) = flow("Concat", &[plain, plain], [("axis", 1.into())]) else {
        panic!()
    };
    assert_eq!(whole.outputs, []);
}

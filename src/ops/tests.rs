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

/// The flow through a node of operator set 18 with these operands: their extents, and their channels with the
/// axis of these.
fn flow<const N: usize>(
    op: &str,
    operands: &[(&str, Option<(usize, &[u32])>)],
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
    let wanted = [(atoms(&THREE), atoms(&THREE)), (atoms(&THREE), atoms(&own))];
    assert_eq!(both.coupled, wanted);
    let mask = ("n,1,8,2", Some((1, &[9][..])));
    let Flow::Partwise(one) = flow("MatMul", &[left, mask], []) else { panic!("not partwise") };
    assert_eq!(one.coupled, [(atoms(&THREE), atoms(&THREE))]);
}

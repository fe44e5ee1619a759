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

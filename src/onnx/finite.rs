//! Checks weights for NaN and infinity.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{DataType, Graph, Model, Tensor, ValueId};

/// Checks that no floating-point initializer contains NaN or infinities, sub-graphs included. A
/// single infinite element is allowed: it is a bound or a mask, not a weight.
///
/// # Errors
/// [`ErrorKind::Numeric`] naming the model, the initializer and a node that reads it.
pub fn check_finite(model: &Model) -> Result<()> {
    check_graph(&model.graph).in_model(&model.name)
}

fn check_graph(graph: &Graph) -> Result<()> {
    for (id, value) in graph.values() {
        if graph.initializer(id).is_some_and(|tensor| !is_finite(tensor)) {
            let message = format!("initializer '{}' holds NaN or infinite values", value.name);
            let error =
                Error::new(ErrorKind::Numeric, message).hint("train or export the model again");
            return Err(match reader(graph, id) {
                Some(name) => error.at_node(name),
                None => error,
            });
        }
    }
    graph.nodes().flat_map(|(_, node)| node.subgraphs()).try_for_each(check_graph)
}

fn reader(graph: &Graph, id: ValueId) -> Option<&str> {
    graph.nodes().find(|(_, node)| node.reads().any(|v| v == id)).map(|(_, n)| n.name.as_str())
}

/// Looks at exponents only, so that nothing is converted: all ones mean NaN or infinity.
fn is_finite(tensor: &Tensor) -> bool {
    let (size, mask) = match tensor.dtype {
        DataType::F32 => (4, 0x7f80),
        DataType::F64 => (8, 0x7ff0),
        DataType::F16 => (2, 0x7c00),
        DataType::BF16 => (2, 0x7f80),
        _ => return true,
    };
    let finite = tensor.data.chunks_exact(size).all(|element| match element {
        [.., low, high] => u16::from_le_bytes([*low, *high]) & mask != mask,
        _ => true,
    });
    finite
        || (tensor.len() == 1 && tensor.to_f32().is_ok_and(|one| !one.iter().any(|v| v.is_nan())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Attribute;

    /// Two elements with the same bytes.
    fn tensor(dtype: DataType, element: &[u8]) -> Tensor {
        Tensor { dtype, dims: vec![2], data: element.repeat(2).into() }
    }

    #[test]
    fn nan_and_infinity_are_told_from_large_numbers() {
        for v in [0.0, -1.5, f32::MAX, f32::MIN_POSITIVE / 2.0, f32::NAN, f32::NEG_INFINITY] {
            let brain = half::bf16::from_bits((v.to_bits() >> 16) as u16);
            for tensor in [
                tensor(DataType::F32, &v.to_le_bytes()),
                tensor(DataType::F64, &f64::from(v).to_le_bytes()),
                tensor(DataType::BF16, &brain.to_le_bytes()),
            ] {
                assert_eq!(is_finite(&tensor), v.is_finite(), "{v} {:?}", tensor.dtype);
            }
        }
        for v in [half::f16::MAX, half::f16::INFINITY, half::f16::NAN] {
            assert_eq!(is_finite(&tensor(DataType::F16, &v.to_le_bytes())), v.is_finite());
        }
        assert!(is_finite(&tensor(DataType::I32, &[0xff; 4])));
    }

    #[test]
    fn one_infinite_element_is_a_bound() {
        let one = |v: f32| {
            let data = v.to_le_bytes().to_vec().into();
            Tensor { dtype: DataType::F32, dims: Vec::new(), data }
        };
        assert!(is_finite(&one(f32::NEG_INFINITY)));
        assert!(!is_finite(&one(f32::NAN)));
    }

    #[test]
    fn the_error_names_initializer_and_reader_in_sub_graphs_too() {
        let mut sub = Graph::new("then");
        let w = sub.add_initializer("w", tensor(DataType::F32, &f32::NAN.to_le_bytes()));
        let y = sub.add_op("Neg", "negate", &[w], []);
        sub.outputs.push(y);
        let mut graph = Graph::new("g");
        let c = graph.add_initializer("c", tensor(DataType::Bool, &[1]));
        graph.add_op("If", "y", &[c], [("then_branch", Attribute::Graph(Box::new(sub)))]);
        let model = Model { name: "a".into(), graph, ..Model::default() };
        assert_eq!(
            check_finite(&model).unwrap_err().to_string(),
            "a: node 'negate': initializer 'w' holds NaN or infinite values; \
             train or export the model again"
        );
    }
}

//! A product with a constant matrix that is written as `Einsum` becomes a `MatMul`.

use crate::error::Result;
use crate::ir::{Attribute, Graph, Model, NodeId, ValueId};

use super::CanonOptions;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some((data, weight)) = product(graph, id) else { continue };
        graph.edit_node(id, |node| {
            node.op = "MatMul".to_owned();
            node.inputs = vec![Some(data), Some(weight)];
            node.attributes.remove("equation");
        });
        modified = true;
    }
    Ok(modified)
}

/// The data and the matrix, its columns last, of a node that contracts the last axis of its data.
fn product(graph: &mut Graph, id: NodeId) -> Option<(ValueId, ValueId)> {
    let node = graph.node(id);
    let (data, weight) = (node.input(0)?, node.input(1)?);
    if !node.is("Einsum") || node.inputs.len() != 2 {
        return None;
    }
    let Some(Attribute::Str(equation)) = node.attributes.get("equation") else { return None };
    let equation: String = String::from_utf8(equation.clone()).ok()?.split_whitespace().collect();
    let (operands, result) = equation.split_once("->")?;
    let (first, second) = operands.split_once(',')?;
    let is_plain = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        let repeats = letters.windows(2).any(|pair| pair[0] == pair[1]);
        !repeats && letters.iter().all(char::is_ascii_alphabetic)
    };
    let (rest, contracted) = first.split_at_checked(first.len().checked_sub(1)?)?;
    let new = result.strip_prefix(rest).filter(|new| new.len() == 1)?;
    if rest.is_empty() || !is_plain(first) || !is_plain(result) || first.contains(new) {
        return None;
    }
    let tensor = graph.initializer(weight).filter(|tensor| tensor.dims.len() == 2)?;
    if second == format!("{contracted}{new}") {
        return Some((data, weight));
    }
    if second != format!("{new}{contracted}") {
        return None;
    }
    let turned = tensor.transposed()?;
    let name = graph.value(weight).name.clone();
    Some((data, graph.add_initializer(&name, turned)))
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::GraphBuilder;

    fn ops(equation: &str, weight: [usize; 2]) -> Vec<String> {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,4,6");
        let w = b.weights("w", &weight);
        let y = b.op("Einsum", "y", &[x, w], [("equation", equation.into())]);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        model.graph.nodes().map(|(_, node)| node.op.clone()).collect()
    }

    #[test]
    fn products_with_a_matrix_are_layers_and_other_sums_are_left() {
        assert!(!ops("nti, io -> nto", [6, 8]).contains(&"Einsum".to_owned()));
        assert!(!ops("nti,oi->nto", [8, 6]).contains(&"Einsum".to_owned()));
        assert_eq!(ops("nti,to->nio", [4, 8]), ["Einsum"]);
        assert_eq!(ops("nti,io->not", [6, 8]), ["Einsum"]);
    }
}

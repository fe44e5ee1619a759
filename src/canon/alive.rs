//! Limit of the values that a model holds at once.
//!
//! Each value may be as large as a value may be, and a file of a few bytes can ask for many of them side by side.

use std::collections::HashMap;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Dim, Graph, ValueId};

/// Limit of elements of computed values that are alive at once, over their fixed extents: 4 GiB of single precision.
const MOST_ELEMENTS: u64 = 1 << 30;

/// Checks that the values of a graph with known types, those of sub-graphs included, fit a usual machine if its nodes
/// run in topological order.
///
/// # Errors
/// [`ErrorKind::Memory`] naming the node at which they do not.
pub(super) fn check(graph: &Graph) -> Result<()> {
    hold(graph, 0)
}

/// Runs through a graph beside values of `held` elements.
fn hold(graph: &Graph, mut held: u64) -> Result<()> {
    let order = graph.topological_order()?;
    let mut last: HashMap<ValueId, usize> = HashMap::new();
    for (place, id) in order.iter().enumerate() {
        let node = graph.node(*id);
        last.extend(node.reads().chain(node.outputs.iter().flatten().copied()).map(|v| (v, place)));
    }
    last.extend(graph.outputs.iter().map(|value| (*value, usize::MAX)));
    let mut ends: Vec<Vec<ValueId>> = vec![Vec::new(); order.len()];
    for (value, place) in &last {
        if let Some(values) = ends.get_mut(*place).filter(|_| graph.producer(*value).is_some()) {
            values.push(*value);
        }
    }
    for (id, ends) in order.into_iter().zip(ends) {
        let node = graph.node(id);
        node.subgraphs().try_for_each(|body| hold(body, held)).at_node(&node.name)?;
        let made = node.outputs.iter().flatten().map(|value| elements(graph, *value));
        held = made.fold(held, u64::saturating_add);
        if held > MOST_ELEMENTS {
            let message = format!(
                "with the result of this {}, values of more than {MOST_ELEMENTS} elements are needed at once",
                node.op
            );
            return Err(Error::new(ErrorKind::Memory, message)
                .at_node(&node.name)
                .hint("check the sizes in the model"));
        }
        held = ends.iter().fold(held, |held, value| held.saturating_sub(elements(graph, *value)));
    }
    Ok(())
}

/// The number of elements of a computed value over its fixed extents; none where its type is unknown.
fn elements(graph: &Graph, value: ValueId) -> u64 {
    let shape = graph.value(value).ty.as_ref().and_then(|ty| ty.shape.as_ref());
    let extents = shape.map(|shape| shape.iter().filter_map(Dim::known));
    extents.map_or(0, |all| all.fold(1, |n: u64, extent| n.saturating_mul(extent as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::check_sizes;
    use crate::ir::Model;
    use crate::ir::builder::GraphBuilder;

    /// A layer whose result is expanded to 2²⁷ elements this often; each is summed at once, or all at the end.
    fn expanded(count: usize, each: bool) -> Model {
        let mut b = GraphBuilder::new("net", 17);
        let (x, w) = (b.input("x", "n,1"), b.weights("w", &[1, 1]));
        let hidden = b.op("MatMul", "hidden", &[x, w], []);
        let sizes = b.ints("sizes", &[1, 1 << 27]);
        let mut parts = Vec::new();
        for at in 0..count {
            let wide = b.op("Expand", &format!("wide{at}"), &[hidden, sizes], []);
            parts.push(if each { b.op("ReduceSum", "sum", &[wide], []) } else { wide });
        }
        let y = b.op("Sum", "y", &parts, []);
        b.build(&[y])
    }

    #[test]
    fn values_that_are_large_together_are_refused() {
        assert!(check_sizes(&expanded(7, false)).is_ok());
        let error = check_sizes(&expanded(8, false)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Memory);
        assert!(
            error.to_string().contains("node 'wide7': with the result of this Expand"),
            "{error}"
        );
    }

    #[test]
    fn values_that_follow_each_other_are_not() {
        assert!(check_sizes(&expanded(20, true)).is_ok());
    }
}

//! Limits of what the constants of a model demand together.
//!
//! Nodes that read no input of the model return the same for every sample. Runtimes compute them on loading or in
//! every run, and may hold all of them at once. Each may be as large as a value may be, so a file of a few
//! bytes could ask for any amount of memory and time. Real nets derive constants from stored weights, a few nodes
//! for each, so the limits grow with what is stored.

use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Dim, Graph, Node, NodeId, ValueId, ValueKind};

/// Limit of elements that such nodes return: masks and tables for long sequences, and half a value of the largest
/// size.
const MOST_ELEMENTS: u64 = 1 << 27;

/// Further elements for each stored one: weights are decoded, cast, moved and normalised.
const PER_STORED: u64 = 16;

/// Limit of products of elements that such nodes sum: a second of work.
const MOST_PRODUCTS: u64 = 1 << 36;

/// Further products for each stored element: products of stored matrices.
const PRODUCTS_PER_STORED: u64 = 1 << 14;

/// Checks that the constant nodes of a graph with known types, sub-graphs included, fit a usual machine.
///
/// # Errors
/// [`ErrorKind::Memory`] naming the node at which they do not.
pub(super) fn check(graph: &Graph) -> Result<()> {
    let stored = stored(graph);
    Demand {
        elements: stored.saturating_mul(PER_STORED).saturating_add(MOST_ELEMENTS),
        products: stored.saturating_mul(PRODUCTS_PER_STORED).saturating_add(MOST_PRODUCTS),
    }
    .spend(graph)
}

/// What may still be demanded.
struct Demand {
    elements: u64,
    products: u64,
}

impl Demand {
    fn spend(&mut self, graph: &Graph) -> Result<()> {
        let mut constant = vec![false; graph.value_count()];
        for (value, _) in graph.values() {
            let is_stored = graph.initializer(value).is_some();
            if let Some(place) = constant.get_mut(value.index()) {
                *place = is_stored;
            }
        }
        for id in graph.topological_order()? {
            let node = graph.node(id);
            node.subgraphs().try_for_each(|sub| self.spend(sub))?;
            if !node.reads().all(|v| constant.get(v.index()).copied().unwrap_or(false)) {
                continue;
            }
            for output in node.outputs.iter().flatten() {
                if let Some(place) = constant.get_mut(output.index()) {
                    *place = true;
                }
            }
            if !node.is("Constant") {
                self.take(graph, id)?;
            }
        }
        Ok(())
    }

    /// Spends what a constant node demands.
    fn take(&mut self, graph: &Graph, id: NodeId) -> Result<()> {
        let node = graph.node(id);
        let outputs = node.outputs.iter().flatten();
        let elements = outputs.fold(0, |n: u64, v| n.saturating_add(elements(graph, *v)));
        let products = elements.saturating_mul(taps(graph, node));
        let left = (self.elements.checked_sub(elements), self.products.checked_sub(products));
        let (Some(elements), Some(products)) = left else {
            let (what, most) = match left.0 {
                None => ("elements", MOST_ELEMENTS),
                Some(_) => ("products of elements", MOST_PRODUCTS),
            };
            let message = format!(
                "with this {}, nodes that read no input of the model compute more than {most} {what}",
                node.op
            );
            return Err(Error::new(ErrorKind::Memory, message).at_node(&node.name).hint(
                "check the sizes in the model, or store the results of these nodes as weights",
            ));
        };
        (self.elements, self.products) = (elements, products);
        Ok(())
    }
}

/// The number of stored elements, in sub-graphs, too.
fn stored(graph: &Graph) -> u64 {
    let weights = graph.values().filter_map(|(id, _)| graph.initializer(id));
    let own = weights.fold(0, |n: u64, tensor| n.saturating_add(tensor.len() as u64));
    graph.nodes().fold(own, |n, (_, node)| {
        let inside = node.subgraphs().fold(0, |n: u64, sub| n.saturating_add(stored(sub)));
        let constant = node.output(0).filter(|_| node.is("Constant"));
        let written = constant.map_or(0, |value| elements(graph, value));
        n.saturating_add(inside).saturating_add(written)
    })
}

/// The number of elements of a value over its fixed extents; none where its type is unknown.
fn elements(graph: &Graph, value: ValueId) -> u64 {
    shape(graph, value).map_or(0, |shape| product(&shape))
}

/// The number of products that a node sums in each element of its result.
fn taps(graph: &Graph, node: &Node) -> u64 {
    let of = |slot: usize| node.input(slot).and_then(|value| shape(graph, value));
    let window = |shape: &[Dim]| product(shape.get(1..).unwrap_or_default());
    let kernel = || {
        let extents = node.ints("kernel_shape").unwrap_or_default();
        extents.iter().fold(1, |n: u64, k| n.saturating_mul(k.unsigned_abs().max(1)))
    };
    if !node.domain.is_empty() {
        return 1;
    }
    let taps = match node.op.as_str() {
        "MatMul" | "MatMulInteger" | "QLinearMatMul" => {
            of(0).map(|shape| product(shape.last().map(std::slice::from_ref).unwrap_or_default()))
        }
        "Gemm" => of(0).map(|shape| {
            let inner = shape.get(usize::from(node.int("transA", 0) == 0));
            product(inner.map(std::slice::from_ref).unwrap_or_default())
        }),
        "Conv" | "ConvTranspose" | "ConvInteger" | "DeformConv" => {
            of(1).map(|shape| window(&shape))
        }
        "QLinearConv" => of(3).map(|shape| window(&shape)),
        "MaxPool" | "AveragePool" | "LpPool" => Some(kernel()),
        _ => None,
    };
    taps.unwrap_or(1)
}

fn shape(graph: &Graph, value: ValueId) -> Option<Vec<Dim>> {
    let known = graph.value(value);
    match &known.kind {
        ValueKind::Initializer(tensor) => {
            Some(tensor.dims.iter().map(|extent| Dim::Known(*extent)).collect())
        }
        _ => known.ty.as_ref()?.shape.clone(),
    }
}

fn product(shape: &[Dim]) -> u64 {
    shape.iter().filter_map(Dim::known).fold(1, |n: u64, extent| n.saturating_mul(extent as u64))
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;

    use super::*;
    use crate::canon::{CanonOptions, canonicalise, check_sizes};
    use crate::ir::Tensor;
    use crate::ir::builder::GraphBuilder;

    /// A layer, and a sum of constants of this many elements.
    fn beside(count: usize, extents: &[i64], chain: &[&str]) -> crate::ir::Model {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,4");
        let (w, shape) = (b.weights("w", &[4, 3]), b.ints("shape", extents));
        let mut y = b.op("MatMul", "y", &[x, w], []);
        for at in 0..count {
            let mut value = b.op("ConstantOfShape", &format!("c{at}"), &[shape], []);
            for op in chain {
                let inputs = if *op == "MatMul" { vec![value, value] } else { vec![value] };
                value = b.op(op, &format!("{op}{at}"), &inputs, []);
            }
            let sum = b.op("ReduceSum", &format!("s{at}"), &[value], [("keepdims", 0.into())]);
            y = b.op("Add", &format!("y{at}"), &[y, sum], []);
        }
        b.build(&[y])
    }

    #[test]
    fn many_large_constants_are_refused_where_one_is_not() {
        assert!(check_sizes(&beside(1, &[1 << 26], &[])).is_ok());
        for model in [beside(3, &[1 << 26], &[]), beside(1, &[1 << 26], &["Exp", "Neg"])] {
            let error = check_sizes(&model).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Memory);
            assert!(error.to_string().contains("more than 134217728 elements"), "{error}");
            assert!(canonicalise(model, &CanonOptions::default()).is_err());
        }
    }

    #[test]
    fn products_of_large_constants_are_refused() {
        assert!(check_sizes(&beside(1, &[1 << 11, 1 << 11], &["MatMul"])).is_ok());
        let error = check_sizes(&beside(1, &[1 << 13, 1 << 13], &["MatMul"])).unwrap_err();
        assert!(error.to_string().contains("node 'MatMul0': with this MatMul"), "{error}");
        assert!(error.to_string().contains("products of elements"), "{error}");
    }

    #[test]
    fn what_is_derived_from_weights_is_not_limited() {
        assert_eq!(stored(&beside(1, &[4], &[]).graph), 12 + 1);
        let derived = |stored: bool| {
            let mut b = GraphBuilder::new("net", 17);
            let (x, shape) = (b.input("x", "n,2048"), b.ints("shape", &[2048, 4096]));
            let mut value = match stored {
                true => b.constant("w", Tensor::from_f32(&ArrayD::zeros(vec![2048, 4096]))),
                false => b.op("ConstantOfShape", "w", &[shape], []),
            };
            for at in 0..20 {
                value = b.op("Neg", &format!("neg{at}"), &[value], []);
            }
            let y = b.op("MatMul", "y", &[x, value], []);
            check_sizes(&b.build(&[y]))
        };
        assert!(derived(true).is_ok());
        assert_eq!(derived(false).unwrap_err().kind(), ErrorKind::Memory);
    }
}

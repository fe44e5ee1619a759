//! Follows computed shapes through the graph.

use crate::error::Result;
use crate::ir::{Graph, Node, NodeId, ValueId};
use crate::ops::{normal_axis, picked, slices};

use super::super::types;
use super::size::Size;

/// Constants of more elements are no shapes.
const LONGEST: usize = 64;

/// A scalar or vector of sizes, as far as they are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    /// Whether this is a scalar, not a vector of one.
    pub scalar: bool,
    /// The elements.
    pub elements: Vec<Option<Size>>,
}

impl Sizes {
    fn vector(elements: Vec<Option<Size>>) -> Self {
        Sizes { scalar: false, elements }
    }

    fn single(&self) -> Option<&Option<Size>> {
        match self.elements.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The elements as numbers, if all are known.
    pub fn numbers(&self) -> Option<Vec<i64>> {
        self.elements.iter().map(|e| e.as_ref()?.value()).collect()
    }
}

/// What is known of every value that is a scalar or vector of sizes, indexed by
/// [`ValueId::index`].
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub fn trace(graph: &Graph) -> Result<Vec<Option<Sizes>>> {
    let mut known: Vec<Option<Sizes>> = vec![None; graph.value_count()];
    for (id, _) in graph.values() {
        known[id.index()] = constant(graph, id);
    }
    for id in graph.topological_order()? {
        let node = graph.node(id);
        if let (true, Some(output)) = (node.domain.is_empty(), node.output(0)) {
            known[output.index()] = result(graph, id, node, &known)
                .filter(|sizes| sizes.elements.len() <= LONGEST && fits(graph, output, sizes));
        }
    }
    Ok(known)
}

/// Whether inference agrees that the value is a scalar, or a vector of this length.
fn fits(graph: &Graph, value: ValueId, sizes: &Sizes) -> bool {
    match types::shape(graph, value).as_deref() {
        Some([]) => sizes.scalar,
        Some([length]) => !sizes.scalar && length.known().is_none_or(|n| n == sizes.elements.len()),
        Some(_) => false,
        None => true,
    }
}

fn constant(graph: &Graph, id: ValueId) -> Option<Sizes> {
    let tensor = graph.initializer(id).filter(|t| t.dims.len() <= 1 && t.len() <= LONGEST)?;
    let elements = tensor.to_i64()?.into_iter().map(|v| Some(Size::number(v))).collect();
    Some(Sizes { scalar: tensor.dims.is_empty(), elements })
}

fn result(graph: &Graph, id: NodeId, node: &Node, known: &[Option<Sizes>]) -> Option<Sizes> {
    let input = |i: usize| node.input(i).and_then(|v| known.get(v.index())?.as_ref());
    match node.op.as_str() {
        "Shape" => shape_of(graph, node),
        "Size" => {
            let dims = types::shape(graph, node.input(0)?)?;
            let sizes: Vec<_> = dims.iter().map(Size::of).collect();
            Some(Sizes { scalar: true, elements: vec![product(&sizes)] })
        }
        "Identity" => input(0).cloned(),
        "Cast" => matches!(node.int("to", 0), 6 | 7).then(|| input(0).cloned())?,
        "Gather" => gather(input(0)?, input(1)?),
        "Slice" => slice(graph, id, input(0)?),
        "Squeeze" => input(0)?.single().map(|e| Sizes { scalar: true, elements: vec![e.clone()] }),
        "Unsqueeze" => input(0).filter(|s| s.scalar).map(|s| Sizes::vector(s.elements.clone())),
        "Reshape" => reshape(input(0)?, input(1)?),
        "Concat" => {
            let parts: Option<Vec<&Sizes>> = (0..node.inputs.len()).map(input).collect();
            Some(Sizes::vector(parts?.iter().flat_map(|p| p.elements.clone()).collect()))
        }
        "Add" => combine(input(0)?, input(1)?, Size::plus),
        "Sub" => combine(input(0)?, input(1)?, |a, b| a.plus(&b.negated()?)),
        "Mul" => combine(input(0)?, input(1)?, Size::times),
        "Div" => combine(input(0)?, input(1)?, Size::over),
        "ReduceProd" => reduce_product(node, input(0)?),
        _ => None,
    }
}

fn shape_of(graph: &Graph, node: &Node) -> Option<Sizes> {
    let dims = types::shape(graph, node.input(0)?)?;
    let rank = dims.len() as i64;
    let bound = |v: i64| usize::try_from((if v < 0 { v + rank } else { v }).clamp(0, rank)).ok();
    let (start, end) = (bound(node.int("start", 0))?, bound(node.int("end", rank))?);
    Some(Sizes::vector(dims.get(start..end).unwrap_or_default().iter().map(Size::of).collect()))
}

fn product(sizes: &[Option<Size>]) -> Option<Size> {
    sizes.iter().try_fold(Size::number(1), |all, size| all.times(size.as_ref()?))
}

fn gather(data: &Sizes, indices: &Sizes) -> Option<Sizes> {
    let pick = |index: &Option<Size>| {
        let index = normal_axis(index.as_ref()?.value()?, data.elements.len())?;
        data.elements.get(index).cloned()
    };
    let elements: Option<Vec<_>> = indices.elements.iter().map(pick).collect();
    (!data.scalar).then_some(Sizes { scalar: indices.scalar, elements: elements? })
}

fn slice(graph: &Graph, id: NodeId, data: &Sizes) -> Option<Sizes> {
    let view = crate::ops::NodeView::new(graph, id, &[]);
    match slices(&view, 1)?.as_slice() {
        [(0, start, end, step)] if !data.scalar => {
            let indices = picked(data.elements.len(), *start, *end, *step);
            Some(Sizes::vector(indices.iter().map(|i| data.elements[*i].clone()).collect()))
        }
        _ => None,
    }
}

/// Between scalars and vectors only.
fn reshape(data: &Sizes, target: &Sizes) -> Option<Sizes> {
    let scalar = match target.numbers()?.as_slice() {
        [] => true,
        [n] if *n == -1 || *n == data.elements.len() as i64 => false,
        _ => return None,
    };
    Some(Sizes { scalar, elements: data.elements.clone() })
}

fn combine(a: &Sizes, b: &Sizes, op: fn(&Size, &Size) -> Option<Size>) -> Option<Sizes> {
    let length = match (a.elements.len(), b.elements.len()) {
        (n, m) if n == m => n,
        (1, n) | (n, 1) => n,
        _ => return None,
    };
    let at =
        |s: &Sizes, i: usize| s.elements.get(if s.elements.len() == 1 { 0 } else { i }).cloned();
    let element = |i: usize| op(&at(a, i)??, &at(b, i)??);
    Some(Sizes { scalar: a.scalar && b.scalar, elements: (0..length).map(element).collect() })
}

fn reduce_product(node: &Node, data: &Sizes) -> Option<Sizes> {
    if node.int("noop_with_empty_axes", 0) != 0 {
        return None;
    }
    let scalar = data.scalar || node.int("keepdims", 1) == 0;
    Some(Sizes { scalar, elements: vec![product(&data.elements)] })
}

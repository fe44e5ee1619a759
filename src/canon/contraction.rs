//! Turns an `Einsum` of two computed values into a `MatMul` between `Transpose`s, and one with a
//! constant into a product with a matrix.
//!
//! Libraries with named axes write attention this way. Heads and layers are found in products only.

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Model, NodeId, Tensor, ValueId};

use super::types::shape;
use super::{CanonOptions, rewire};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some(terms) = Terms::of(graph, id) else { continue };
        modified |= products(graph, id, &terms).is_some() || layer(graph, id, &terms).is_some();
    }
    Ok(modified)
}

/// The letters of an equation of two operands.
struct Terms {
    left: Vec<char>,
    right: Vec<char>,
    result: Vec<char>,
}

impl Terms {
    fn of(graph: &Graph, id: NodeId) -> Option<Terms> {
        let node = graph.node(id);
        if !node.is("Einsum") || node.inputs.len() != 2 {
            return None;
        }
        let equation: String = node.str("equation")?.split_whitespace().collect();
        let (operands, result) = equation.split_once("->")?;
        let (left, right) = operands.split_once(',')?;
        let letters = |term: &str| -> Option<Vec<char>> {
            let mut sorted: Vec<char> = term.chars().collect();
            sorted.sort_unstable();
            let is_plain = sorted.iter().all(char::is_ascii_alphabetic);
            let is_once = sorted.windows(2).all(|pair| pair[0] != pair[1]);
            (is_plain && is_once).then(|| term.chars().collect())
        };
        let terms =
            Terms { left: letters(left)?, right: letters(right)?, result: letters(result)? };
        // A sum over letters of one operand alone is not a product.
        let is_used = |own: &[char], other: &[char]| {
            own.iter().all(|c| other.contains(c) || terms.result.contains(c))
        };
        let (a, b) = (shape(graph, node.input(0)?)?, shape(graph, node.input(1)?)?);
        // `Einsum` repeats an axis of one element, which a product or a reshape does not.
        let is_same = |(c, extent): (&char, &Dim)| {
            let other = terms.right.iter().position(|own| own == c);
            other.is_none_or(|place| b.get(place).is_some_and(|other| other.is_surely(extent)))
        };
        let fits = is_used(&terms.left, &terms.right)
            && is_used(&terms.right, &terms.left)
            && a.len() == terms.left.len()
            && b.len() == terms.right.len()
            && terms.left.iter().zip(&a).all(is_same);
        fits.then_some(terms)
    }

    /// The letters of `own` that are or are not in the other operand, and are or are not in the result.
    fn pick(&self, own: &[char], other: &[char], in_other: bool, in_result: bool) -> Vec<char> {
        let is_picked =
            |c: &&char| other.contains(c) == in_other && self.result.contains(c) == in_result;
        own.iter().filter(is_picked).copied().collect()
    }
}

/// Rewrites stacked products of matrices; each operand has one axis of its own.
fn products(graph: &mut Graph, id: NodeId, terms: &Terms) -> Option<()> {
    let node = graph.node(id);
    let (a, b, output) = (node.input(0)?, node.input(1)?, node.output(0)?);
    if [a, b].iter().any(|value| graph.initializer(*value).is_some()) {
        return None;
    }
    let Terms { left, right, result } = terms;
    let summed = terms.pick(left, right, true, false);
    let [rows, columns] =
        [terms.pick(left, right, false, true), terms.pick(right, left, false, true)];
    if [&summed, &rows, &columns].iter().any(|letters| letters.len() != 1) {
        return None;
    }
    // Common axes in the order of the result, so that they need no transpose there.
    let shared: Vec<char> =
        result.iter().filter(|c| left.contains(c) && right.contains(c)).copied().collect();
    let name = graph.node(id).name.clone();
    let a = ordered(graph, &name, a, left, &[&shared[..], &rows, &summed].concat())?;
    let b = ordered(graph, &name, b, right, &[&shared[..], &summed, &columns].concat())?;
    let y = graph.add_op("MatMul", &format!("{name}.product"), &[a, b], []);
    let y = ordered(graph, &name, y, &[&shared[..], &rows, &columns].concat(), result)?;
    rewire::bypass(graph, output, y).then_some(())
}

/// Rewrites a layer whose weight has several axes of channels. Input channels are the last axes of the
/// data, and output channels the last axes of the result.
fn layer(graph: &mut Graph, id: NodeId, terms: &Terms) -> Option<()> {
    let node = graph.node(id);
    let (data, weight, output) = (node.input(0)?, node.input(1)?, node.output(0)?);
    let Terms { left, right, result } = terms;
    let tensor = graph.initializer(weight).filter(|tensor| tensor.dtype.is_float())?.clone();
    let summed = terms.pick(left, right, true, false);
    let made = terms.pick(right, left, false, true);
    let kept = left.len().checked_sub(summed.len())?;
    let fits = !summed.is_empty()
        && !made.is_empty()
        && left[kept..] == summed
        && result[..] == [&left[..kept], &made].concat()
        && right.len() == summed.len() + made.len()
        && kept > 0
        && graph.initializer(data).is_none();
    if !fits {
        return None;
    }
    let extents = |letters: &[char]| -> Option<Vec<usize>> {
        let place = |c: &char| right.iter().position(|own| own == c);
        letters.iter().map(|c| tensor.dims.get(place(c)?).copied()).collect()
    };
    let (read, new) = (extents(&summed)?, extents(&made)?);
    let matrix = matrix(&tensor, right, &[summed.clone(), made.clone()].concat())?;
    let dims = vec![read.iter().product(), new.iter().product()];
    let name = graph.node(id).name.clone();
    let matrix = graph.add_initializer(&format!("{name}.matrix"), Tensor { dims, ..matrix });
    let data = match read.len() {
        1 => data,
        _ => {
            let target = kept_and(graph, &name, kept, &[read.iter().product()]);
            graph.add_op("Reshape", &format!("{name}.merged"), &[data, target], [])
        }
    };
    let mut y = graph.add_op("MatMul", &format!("{name}.product"), &[data, matrix], []);
    let mut end = output;
    if new.len() > 1 {
        // The bias is added before channels are split over several axes, too.
        if let Some((bias, sum)) = bias(graph, output, kept, &new) {
            let bias = graph.add_initializer(&format!("{name}.bias"), bias);
            y = graph.add_op("Add", &format!("{name}.biased"), &[y, bias], []);
            end = sum;
        }
        let target = kept_and(graph, &name, kept, &new);
        y = graph.add_op("Reshape", &format!("{name}.split"), &[y, target], []);
    }
    rewire::bypass(graph, end, y).then_some(())
}

/// The constant with one entry per channel that the only consumer of a value adds, and the sum. The value
/// has `kept` axes, and then channels on axes of the extents `dims`; an addend of more axes widens it.
fn bias(graph: &Graph, value: ValueId, kept: usize, dims: &[usize]) -> Option<(Tensor, ValueId)> {
    let sum = graph.node(graph.only_use(value)?);
    let slot = usize::from(sum.input(0) == Some(value));
    let tensor = graph.initializer(sum.input(slot).filter(|_| sum.is("Add"))?)?;
    let skipped = tensor.dims.iter().take_while(|extent| **extent == 1).count();
    let own = tensor.dims.get(skipped.min(tensor.dims.len().checked_sub(dims.len())?)..)?;
    let flat = Tensor { dims: vec![dims.iter().product()], ..tensor.clone() };
    let fits = own == dims && tensor.dims.len() <= kept + dims.len();
    fits.then_some((flat, sum.output(0)?))
}

/// The target of a reshape that copies the first `kept` extents.
fn kept_and(graph: &mut Graph, name: &str, kept: usize, rest: &[usize]) -> ValueId {
    let rest = rest.iter().map(|n| *n as i64);
    let target: Vec<i64> = std::iter::repeat_n(0, kept).chain(rest).collect();
    graph.add_initializer(&format!("{name}.target"), Tensor::from_i64(vec![target.len()], &target))
}

/// The elements of a constant as a matrix, after a permutation of its axes.
fn matrix(tensor: &Tensor, from: &[char], to: &[char]) -> Option<Tensor> {
    let perm: Option<Vec<usize>> =
        to.iter().map(|c| from.iter().position(|own| own == c)).collect();
    let values = tensor.to_f64().ok()?.permuted_axes(perm?).as_standard_layout().into_owned();
    Tensor::from_f64(tensor.dtype, &values).ok()
}

/// A value with its axes permuted.
fn ordered(
    graph: &mut Graph,
    name: &str,
    value: ValueId,
    from: &[char],
    to: &[char],
) -> Option<ValueId> {
    let place = |c: &char| Some(from.iter().position(|own| own == c)? as i64);
    let perm: Vec<i64> = to.iter().map(place).collect::<Option<_>>()?;
    if from == to {
        return Some(value);
    }
    let perm = [("perm", Attribute::Ints(perm))];
    Some(graph.add_op("Transpose", &format!("{name}.ordered"), &[value], perm))
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

    #[test]
    fn a_weight_that_einsum_repeats_is_left() {
        assert_eq!(ops("nti,io->nto", [1, 8]), ["Einsum"]);
    }

    #[test]
    fn a_product_of_values_needs_equal_extents() {
        let has_product = |other: &str| {
            let mut b = GraphBuilder::new("net", 17);
            let (x, z) = (b.input("x", "n,4,6"), b.input("z", other));
            let y = b.op("Einsum", "y", &[x, z], [("equation", "bti,bsi->bts".into())]);
            let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
            model.graph.nodes().any(|(_, node)| node.is("MatMul"))
        };
        assert!(has_product("n,5,6"));
        assert!(!has_product("n,5,1"));
    }

    #[test]
    fn an_addend_of_more_axes_than_the_result_stays_behind_it() {
        let last = |addend: &[usize]| {
            let mut b = GraphBuilder::new("net", 17);
            let x = b.input("x", "n,4,6");
            let (w, c) = (b.weights("w", &[6, 2, 4]), b.weights("c", addend));
            let y = b.op("Einsum", "heads", &[x, w], [("equation", "nti,ihd->nthd".into())]);
            let y = b.op("Add", "y", &[y, c], []);
            let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
            let producer = model.graph.producer(model.graph.outputs[0]).unwrap();
            model.graph.node(producer).op.clone()
        };
        assert_eq!(last(&[1, 1, 2, 4]), "Reshape");
        assert_eq!(last(&[1, 1, 1, 2, 4]), "Add");
    }
}

//! Layers whose weight has several axes of channels, or whose channels are not on the last axis.

use crate::canon::fold;
use crate::canon::rewire::ints;
use crate::ir::{Graph, Tensor, ValueId};

use super::factor::Factor;
use super::terms::{Letters, agree};

/// Whether the product of a value with a constant is a layer: each letter of the constant is summed or new.
pub(super) fn fits(graph: &Graph, [data, weight]: [&Factor; 2], letters: &Letters) -> bool {
    let Letters { summed, rows, columns, .. } = letters;
    weight.letters.len() == summed.len() + columns.len()
        && ![summed, rows, columns].iter().any(|letters| letters.is_empty())
        && graph.initializer(data.value).is_none()
        && agree(graph, [data, weight], summed)
}

/// Writes a layer. Returns the value that it stands for, and its result.
pub(super) fn write(
    graph: &mut Graph,
    name: &str,
    [data, weight]: [Factor; 2],
    letters: &Letters,
    (result, output): (&[char], ValueId),
) -> Option<(ValueId, ValueId)> {
    let (kept, made) = (&letters.rows, &letters.columns);
    let tensor = graph.initializer(weight.value)?.clone();
    let extents = |of: &[char]| -> Option<Vec<usize>> {
        let place = |c: &char| weight.letters.iter().position(|own| own == c);
        of.iter().map(|c| tensor.dims.get(place(c)?).copied()).collect()
    };
    let (read, new) = (extents(&letters.summed)?, extents(made)?);
    let order = [&letters.summed[..], made].concat();
    let places: Option<Vec<usize>> =
        order.iter().map(|c| weight.letters.iter().position(|own| own == c)).collect();
    let places = places?;
    let matrix = matrix(&tensor, &places)?;
    let dims = vec![read.iter().product(), new.iter().product()];
    let codes = graph.codes(weight.value);
    let codes = codes.and_then(|codes| fold::rearranged(codes, &tensor.dims, &places, &dims));
    let matrix = graph.add_stored(&format!("{name}.matrix"), Tensor { dims, ..matrix }, codes);
    let data = data.ordered(graph, name, &[&kept[..], &letters.summed].concat()).value;
    let data = match read.len() {
        1 => data,
        _ => {
            let target = kept_and(graph, name, kept.len(), &[read.iter().product()]);
            graph.add_op("Reshape", &format!("{name}.merged"), &[data, target], [])
        }
    };
    let mut y = graph.add_op("MatMul", &format!("{name}.product"), &[data, matrix], []);
    let product = [&kept[..], made].concat();
    let mut end = output;
    if new.len() > 1 {
        // The bias is added before channels are split over several axes, too.
        let found = bias(graph, output, kept.len(), &new).filter(|_| product == result);
        if let Some((bias, sum)) = found {
            let bias = graph.add_initializer(&format!("{name}.bias"), bias);
            y = graph.add_op("Add", &format!("{name}.biased"), &[y, bias], []);
            end = sum;
        }
        let target = kept_and(graph, name, kept.len(), &new);
        y = graph.add_op("Reshape", &format!("{name}.split"), &[y, target], []);
    }
    let y = Factor { value: y, letters: product };
    Some((end, y.ordered(graph, name, result).value))
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
    ints(graph, &format!("{name}.target"), &target)
}

/// The elements of a constant as a matrix, after a permutation of its axes.
fn matrix(tensor: &Tensor, order: &[usize]) -> Option<Tensor> {
    let values = tensor.to_f64().ok()?.permuted_axes(order).as_standard_layout().into_owned();
    Tensor::from_f64(tensor.dtype, &values).ok()
}

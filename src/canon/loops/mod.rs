//! Replaces loops that are recurrent layers by `LSTM`, `GRU` and `RNN`.
//!
//! TensorFlow and older exporters write a recurrent layer as a `Loop` or `Scan` over the steps of a sequence, with the
//! cell as its body. Channels are not followed inside sub-graphs, so such a layer could not be shared. What the body
//! computes is followed as sums of products and functions of them, and compared with the cells of the standard
//! layers. Gates may come from one product or several, in any order, and biases may be added anywhere. A loop that is
//! not exactly such a layer over the whole sequence stays.

mod activation;
mod arithmetic;
mod body;
mod carried;
mod cell;
mod constants;
mod count;
mod layer;
mod repeated;
mod terms;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use ndarray::arr0;

use crate::error::Result;
use crate::ir::{DataType, Dim, Graph, Model, Node, NodeId, Size, Tensor, ValueId};

use self::body::Body;
use self::cell::Cell;
use self::count::Scalars;
use self::layer::Layer;
use self::repeated::{Outside, Repeated};
use self::terms::{Shared, Source};
use super::{CanonOptions, types};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let repeats = |node: &Node| node.is("Loop") || node.is("Scan");
    let loops: Vec<NodeId> =
        graph.nodes().filter(|(_, node)| repeats(node)).map(|(id, _)| id).collect();
    let mut modified = false;
    for id in &loops {
        modified |= carried::capture_unchanged(graph, *id);
    }
    // What captured values are is known inside after types have been inferred again.
    if modified || loops.is_empty() {
        return Ok(modified);
    }
    let sizes = types::follow(graph)?;
    let order = graph.topological_order()?;
    let scalars = {
        let outer: &Graph = graph;
        let nodes = order.into_iter().map(|id| outer.node(id));
        count::follow(nodes, Scalars::new(), |value| repeated::fixed(outer, &sizes, value))
    };
    for id in loops {
        let outside = Outside { graph: &*graph, sizes: &sizes, scalars: &scalars };
        if let Some(layer) = recognise(&outside, id)? {
            modified |= layer.write(graph, id).is_some();
        }
    }
    Ok(modified)
}

/// The recurrent layer that a loop is, if it is one.
fn recognise(outside: &Outside<'_>, id: NodeId) -> Result<Option<Layer>> {
    let graph = outside.graph;
    let Some(repeated) = Repeated::of(graph.node(id)) else { return Ok(None) };
    let Some(scalars) = repeated.scalars(outside) else { return Ok(None) };
    let mut body = Body::new(graph, repeated.body, &scalars);
    for place in 0..repeated.states {
        let rows = repeated.initial(place).and_then(|initial| rows(graph, initial));
        if let (Some((_, columns)), Some(value)) = (rows, repeated.state(place)) {
            body.set(value, Source::State(place), columns);
        }
    }
    for scanned in repeated.scanned() {
        let known = scanned.and_then(|(outer, axis, inner)| body.set_step(inner, outer, axis));
        if known.is_none() {
            return Ok(None);
        }
    }
    body.follow()?;
    Ok(layer(outside, &repeated, &scalars, &body))
}

/// The layer whose steps a body computes.
fn layer(
    outside: &Outside<'_>,
    repeated: &Repeated<'_>,
    scalars: &Scalars,
    body: &Body<'_>,
) -> Option<Layer> {
    let graph = outside.graph;
    let term = |output: usize| body.term(repeated.result(output)?).cloned();
    let next: Vec<Option<Shared>> = (0..repeated.states).map(term).collect();
    let sequence = body.sequence()?;
    let shape = types::shape(graph, sequence.0)?;
    let (length, batch) = (Size::of(shape.get(sequence.1)?)?, shape.get(1 - sequence.1)?);
    let cell = Cell::of(&next, shape.get(2)?.known()?)?;
    if !repeated.runs(outside, scalars, &length) {
        return None;
    }
    let states: Vec<usize> = [cell.hidden].into_iter().chain(cell.memory).collect();
    let mut initial = Vec::new();
    for place in &states {
        let value = repeated.initial(*place)?;
        let (samples, columns) = rows(graph, value)?;
        let fits = samples.is_surely(batch) && columns == cell.gates.first()?.bias.len();
        initial.push(fits.then_some(value)?);
    }
    let hidden = next.get(cell.hidden)?.as_ref()?;
    let mut layer = Layer {
        sequence,
        initial,
        steps: Vec::new(),
        last: vec![None; states.len()],
        constants: Vec::new(),
        cell,
    };
    for (number, output) in repeated.node.outputs.iter().enumerate() {
        let Some(output) = output.filter(|output| graph.is_used(*output)) else { continue };
        // A result with another axis of one is followed like the matrix that it holds.
        let ty = repeated.body.type_of(repeated.result(number)?);
        let is_matrix = ty.and_then(|ty| ty.shape).is_none_or(|shape| shape.len() == 2);
        if let Some(place) = states.iter().position(|state| *state == number) {
            is_matrix.then_some(())?;
            *layer.last.get_mut(place)? = Some(output);
        } else if number < repeated.states {
            let start = repeated.counts_from(graph, number)?;
            let last = start.checked_add(length.value()?)?;
            let ty = graph.type_of(repeated.initial(number)?)?;
            layer.constants.push((output, count(ty.dtype, last, ty.shape?.len())?));
        } else {
            let all = term(number).filter(|all| is_matrix && Rc::ptr_eq(all, hidden));
            layer.steps.push(all.map(|_| output)?);
        }
    }
    Some(layer)
}

/// The rows and columns of a matrix of floats.
fn rows(graph: &Graph, value: ValueId) -> Option<(Dim, usize)> {
    let ty = graph.type_of(value).filter(|ty| ty.dtype == DataType::F32)?;
    match ty.shape?.as_slice() {
        [rows, Dim::Known(columns)] => Some((rows.clone(), *columns)),
        _ => None,
    }
}

/// A counter of `rank` axes of one.
fn count(dtype: DataType, number: i64, rank: usize) -> Option<Tensor> {
    let scalar = Tensor::from_ints(dtype, &arr0(number).into_dyn())?;
    Some(Tensor { dims: vec![1; rank], ..scalar })
}

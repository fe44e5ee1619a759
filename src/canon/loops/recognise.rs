//! Recognises the loops that are recurrent layers.

use crate::error::Result;
use crate::ir::{DataType, Dim, Graph, NodeId, Size, TensorType, ValueId};

use super::super::{types, zeros};
use super::body::Body;
use super::cell::Cell;
use super::count::Scalars;
use super::layer::{Initial, Layer};
use super::repeated::{Outside, Repeated};
use super::results;
use super::terms::{Shared, Source, is_chosen, keeps_state, new_part};

/// The recurrent layer that a loop is, if it is one.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the body has a cycle.
pub(super) fn recognise(outside: &Outside<'_>, id: NodeId) -> Result<Option<Layer>> {
    let graph = outside.graph;
    let Some(repeated) = Repeated::of(graph.node(id)) else { return Ok(None) };
    let Some(scalars) = repeated.scalars(outside) else { return Ok(None) };
    let Some(body) = followed(graph, &repeated, &scalars)? else { return Ok(None) };
    let Some(samples) = samples(graph, &body) else { return Ok(None) };
    let Some(typed) = with_samples(graph, &repeated, &samples)? else {
        return Ok(layer(outside, &repeated, &scalars, &body));
    };
    let repeated = Repeated { body: &typed, ..repeated };
    let body = followed(graph, &repeated, &scalars)?;
    Ok(body.and_then(|body| layer(outside, &repeated, &scalars, &body)))
}

/// The body with the meaning of its values; `None` if it reads anything else by steps than one sequence and one mask.
fn followed<'a>(
    graph: &'a Graph,
    repeated: &Repeated<'a>,
    scalars: &'a Scalars,
) -> Result<Option<Body<'a>>> {
    let mut body = Body::new(graph, repeated.body, scalars);
    for place in 0..repeated.states {
        let rows = repeated.initial(place).and_then(|initial| rows(graph, initial));
        if let (Some((_, columns)), Some(value)) = (rows, repeated.state(place)) {
            body.set(value, Source::State(place), columns);
        }
    }
    for scanned in repeated.scanned() {
        let known = scanned.and_then(|(outer, axis, inner)| {
            body.set_mask(inner, outer, axis).or_else(|| body.set_step(inner, outer, axis))
        });
        if known.is_none() {
            return Ok(None);
        }
    }
    body.follow()?;
    Ok(Some(body))
}

/// The number of samples of the sequence.
fn samples(graph: &Graph, body: &Body<'_>) -> Option<Dim> {
    let (sequence, axis) = body.sequence()?;
    types::shape(graph, sequence)?.get(1 - axis).cloned()
}

/// The body with states of so many samples, if some initial states may have another number. A step gives them the
/// sequence's number, and so does the layer before the first one.
fn with_samples(graph: &Graph, repeated: &Repeated<'_>, samples: &Dim) -> Result<Option<Graph>> {
    let open = |place: usize| {
        let (own, columns) = rows(graph, repeated.initial(place)?)?;
        let value = repeated.state(place).filter(|_| !own.is_surely(samples))?;
        Some((value, vec![samples.clone(), Dim::Known(columns)]))
    };
    let open: Vec<(ValueId, Vec<Dim>)> = (0..repeated.states).filter_map(open).collect();
    if open.is_empty() || *samples == Dim::Unknown {
        return Ok(None);
    }
    let mut body = repeated.body.clone();
    for (value, shape) in open {
        body.set_type(value, Some(TensorType { dtype: DataType::F32, shape: Some(shape) }));
    }
    types::infer(&mut body)?;
    Ok(Some(body))
}

/// The layer whose steps a body computes.
fn layer(
    outside: &Outside<'_>,
    repeated: &Repeated<'_>,
    scalars: &Scalars,
    body: &Body<'_>,
) -> Option<Layer> {
    let graph = outside.graph;
    let sequence = body.sequence()?;
    let shape = types::shape(graph, sequence.0)?;
    let (steps, samples) = (shape.get(sequence.1)?, shape.get(1 - sequence.1)?);
    let length = Size::of(steps)?;
    let next: Vec<Option<Shared>> =
        (0..repeated.states).map(|place| body.term(repeated.result(place)?).cloned()).collect();
    // Where a mask chooses, the cell is what it chooses from.
    let computed: Vec<Option<Shared>> =
        next.iter().map(|term| term.as_ref().map(|term| new_part(term).clone())).collect();
    let cell = Cell::of(&computed, shape.get(2)?.known()?)?;
    if !repeated.runs(outside, scalars, &length) {
        return None;
    }
    let states: Vec<usize> = [cell.hidden].into_iter().chain(cell.memory).collect();
    let mask = match is_masked(&next, &states)? {
        true => Some(body.mask.all.filter(|mask| fits(graph, *mask, [steps, samples]))?),
        false => None,
    };
    let mut initial = Vec::new();
    for place in &states {
        let value = repeated.initial(*place)?;
        let (own, columns) = rows(graph, value)?;
        (columns == cell.gates.first()?.bias.len()).then_some(())?;
        let is_zero = zeros::is_zero(graph, value);
        initial.push(Initial { value, is_zero, is_whole: own.is_surely(samples) });
    }
    let has_steps = length.minus(&Size::number(1)).is_some_and(|more| more.is_natural());
    let layer = Layer {
        sequence,
        mask,
        has_steps,
        initial,
        steps: Vec::new(),
        last: vec![None; states.len()],
        copies: Vec::new(),
        constants: Vec::new(),
        cell,
    };
    results::given(layer, outside, repeated, body, (&next, &length))
}

/// Whether a mask chooses between the new states and the old ones; `None` if it does so in another way.
fn is_masked(next: &[Option<Shared>], states: &[usize]) -> Option<bool> {
    let own = |place: usize| next.get(place).and_then(Option::as_ref);
    let keeps = |place: &usize| own(*place).is_some_and(|term| keeps_state(term, *place));
    let is_masked = states.iter().any(|place| own(*place).is_some_and(is_chosen));
    (!is_masked || states.iter().all(keeps)).then_some(is_masked)
}

/// Whether a mask surely has this number of steps and of samples.
fn fits(graph: &Graph, (mask, axis): (ValueId, usize), [steps, samples]: [&Dim; 2]) -> bool {
    let extents = types::shape(graph, mask).unwrap_or_default();
    let is_surely =
        |axis: usize, wanted: &Dim| extents.get(axis).is_some_and(|own| own.is_surely(wanted));
    is_surely(axis, steps) && is_surely(1 - axis, samples)
}

/// The rows and columns of a matrix of floats.
fn rows(graph: &Graph, value: ValueId) -> Option<(Dim, usize)> {
    let ty = graph.type_of(value).filter(|ty| ty.dtype == DataType::F32)?;
    match ty.shape?.as_slice() {
        [rows, Dim::Known(columns)] => Some((rows.clone(), *columns)),
        _ => None,
    }
}

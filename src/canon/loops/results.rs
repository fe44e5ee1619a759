//! What the outputs of a loop are, as those of a recurrent layer.

use std::rc::Rc;

use ndarray::arr0;

use crate::ir::{DataType, Size, Tensor};

use super::super::zeros;
use super::body::Body;
use super::layer::{Elsewhere, Layer};
use super::repeated::{Outside, Repeated};
use super::terms::{Shared, Term, keeps_state, new_part};

/// Adds the outputs of the loop that are read to a layer; `None` if one of them is none of the layer's.
pub(super) fn given(
    mut layer: Layer,
    outside: &Outside<'_>,
    repeated: &Repeated<'_>,
    body: &Body<'_>,
    (next, length): (&[Option<Shared>], &Size),
) -> Option<Layer> {
    let graph = outside.graph;
    let states: Vec<usize> = [layer.cell.hidden].into_iter().chain(layer.cell.memory).collect();
    let hidden = new_part(next.get(layer.cell.hidden)?.as_ref()?).clone();
    for (number, output) in repeated.node.outputs.iter().enumerate() {
        let Some(output) = output.filter(|output| graph.is_used(*output)) else { continue };
        // A result with another axis of one is followed like the matrix that it holds.
        let ty = body.graph().type_of(repeated.result(number)?);
        let is_matrix = ty.and_then(|ty| ty.shape).is_none_or(|shape| shape.len() == 2);
        if let Some(place) = states.iter().position(|state| *state == number) {
            is_matrix.then_some(())?;
            *layer.last.get_mut(place)? = Some(output);
        } else if number < repeated.states
            && let Some(start) = repeated.counts_from(graph, number)
        {
            let last = start.checked_add(length.value()?)?;
            let ty = graph.type_of(repeated.initial(number)?)?;
            layer.constants.push((output, count(ty.dtype, last, ty.shape?.len())?));
        } else if number < repeated.states {
            let is_last = is_matrix
                && outside_of(next, number, &hidden).is_some()
                && zeros::is_zero(graph, repeated.initial(number)?);
            layer.copies.push(is_last.then_some(output)?);
        } else {
            let term = body.term(repeated.result(number)?).filter(|_| is_matrix)?;
            let elsewhere = match layer.mask {
                None => Rc::ptr_eq(term, &hidden).then_some(Elsewhere::Nowhere)?,
                Some(_) => of_steps(term, next, &hidden)?,
            };
            if let Elsewhere::Before(place) = elsewhere {
                zeros::is_zero(graph, repeated.initial(place)?).then_some(())?;
            }
            layer.steps.push((output, elsewhere));
        }
    }
    Some(layer)
}

/// What the hidden units of all steps are where a mask leaves a step out.
fn of_steps(term: &Shared, next: &[Option<Shared>], hidden: &Shared) -> Option<Elsewhere> {
    match term.as_ref() {
        Term::Chosen(new, old) if Rc::ptr_eq(new, hidden) && old.is_zero() => Some(Elsewhere::Zero),
        Term::Kept(true, new) if Rc::ptr_eq(new, hidden) => Some(Elsewhere::Zero),
        _ => (0..next.len()).find_map(|place| {
            let is_next = next.get(place)?.as_ref().is_some_and(|own| Rc::ptr_eq(own, term));
            outside_of(next, place, hidden).filter(|_| is_next)
        }),
    }
}

/// What a state is where a mask leaves a step out, if it is that of the hidden units elsewhere.
fn outside_of(next: &[Option<Shared>], place: usize, hidden: &Shared) -> Option<Elsewhere> {
    let own = next.get(place)?.as_ref()?;
    let is_hidden = Rc::ptr_eq(new_part(own), hidden);
    (is_hidden && keeps_state(own, place)).then_some(Elsewhere::Before(place))
}

/// A counter of `rank` axes of one.
fn count(dtype: DataType, number: i64, rank: usize) -> Option<Tensor> {
    let scalar = Tensor::from_ints(dtype, &arr0(number).into_dyn())?;
    Some(Tensor { dims: vec![1; rank], ..scalar })
}

//! The axis of each input that counts samples.
//!
//! It is the first axis, except for states of recurrent layers, [layers, batch, features], and inputs of nets
//! that take steps first. Names and sizes of extents tell them apart.

use super::Dim;

/// The axis that counts samples, for each of a net's inputs; `None` stands for an open rank.
///
/// If an extent has the name of another input's first extent, it is the number of samples. If first extents are
/// fixed and differ, it is the size that all inputs have on their first or second axis.
pub fn sample_axes(shapes: &[Option<&[Dim]>]) -> Vec<usize> {
    let ranked: Vec<&[Dim]> = shapes.iter().flatten().copied().filter(|s| !s.is_empty()).collect();
    let axis = axis_rule(&ranked);
    shapes.iter().map(|shape| shape.map_or(0, |dims| axis.of(dims))).collect()
}

/// The number of samples that the inputs fix, if any.
pub fn fixed_batch(shapes: &[Option<&[Dim]>]) -> Option<usize> {
    let axes = sample_axes(shapes);
    shapes.iter().zip(axes).find_map(|(shape, axis)| shape.as_ref()?.get(axis)?.known())
}

/// How to find the axis in a shape.
enum Rule<'a> {
    First,
    Second,
    /// The axis of this name, else by [`is_state`].
    Named(&'a str),
    /// By [`is_state`].
    States,
    /// The axis of this size.
    Sized(usize),
}

impl Rule<'_> {
    fn of(&self, dims: &[Dim]) -> usize {
        let second = |is: bool| usize::from(is && dims.len() > 1);
        match self {
            Rule::First => 0,
            Rule::Second => second(true),
            Rule::Named(name) => named(dims, name).unwrap_or(second(is_state(dims))),
            Rule::States => second(is_state(dims)),
            Rule::Sized(size) => second(dims.first().and_then(Dim::known) != Some(*size)),
        }
    }
}

fn axis_rule<'a>(shapes: &[&'a [Dim]]) -> Rule<'a> {
    let firsts = || shapes.iter().filter_map(|dims| dims.first());
    if let Some(name) = shapes.iter().find_map(|dims| state_name(dims))
        && shapes.iter().all(|dims| dims.len() < 2 || dims.get(1).and_then(symbol) == Some(name))
    {
        return Rule::Second;
    }
    let holders = |name: &str| shapes.iter().filter(|dims| named(dims, name).is_some()).count();
    // Of names that as many inputs have, the first one counts.
    let names: Vec<&str> = firsts().filter_map(symbol).collect();
    if let Some(name) = names.into_iter().rev().max_by_key(|name| holders(name)) {
        return Rule::Named(name);
    }
    if firsts().any(|dim| dim.known().is_none()) {
        return Rule::States;
    }
    let sizes: Vec<usize> = firsts().filter_map(Dim::known).collect();
    if sizes.windows(2).all(|pair| pair.first() == pair.last()) {
        return Rule::First;
    }
    let seconds = shapes.iter().filter_map(|dims| dims.get(1)?.known());
    let has = |dims: &[Dim], size| dims.iter().take(2).any(|dim| dim.known() == Some(size));
    let common =
        sizes.iter().copied().chain(seconds).find(|size| shapes.iter().all(|s| has(s, *size)));
    common.map_or(Rule::First, Rule::Sized)
}

fn symbol(dim: &Dim) -> Option<&str> {
    match dim {
        Dim::Symbol(name) => Some(name),
        _ => None,
    }
}

fn named(dims: &[Dim], name: &str) -> Option<usize> {
    dims.iter().position(|dim| symbol(dim) == Some(name))
}

/// The name of the second extent of a state, [layers, batch, features].
fn state_name(dims: &[Dim]) -> Option<&str> {
    match dims {
        [Dim::Known(_), Dim::Symbol(name), Dim::Known(_)] => Some(name),
        _ => None,
    }
}

/// Whether these are the sizes of a state of several layers or directions, or of one with an open second size.
fn is_state(dims: &[Dim]) -> bool {
    match dims {
        [Dim::Known(_), Dim::Unknown, Dim::Known(_)] => true,
        [Dim::Known(layers), Dim::Known(1), Dim::Known(_)] => *layers != 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::shape;

    #[test]
    fn samples_are_found_by_names_and_sizes() {
        let cases: [(&[&str], &[usize], Option<usize>); 17] = [
            (&["N,3,8,8"], &[0], None),
            (&["4,3,8,8"], &[0], Some(4)),
            (&["N,512", "2,N,64", "2,N,64"], &[0, 1, 1], None),
            (&["2,N,64", "N,512"], &[1, 0], None),
            (&["1,N,64", "N,512", "1"], &[1, 0, 0], Some(1)),
            (&["?,512", "1,?,64"], &[0, 1], None),
            (&["1,512", "2,1,64"], &[0, 1], Some(1)),
            (&["2,1,64", "1,512"], &[1, 0], Some(1)),
            (&["1,512", "1,1,64"], &[0, 0], Some(1)),
            (&["N,512", "2,1,64"], &[0, 1], Some(1)),
            (&["L,N,64", "N,512", "N,4"], &[1, 0, 0], None),
            (&["T,N,40", "2,N,64"], &[1, 1], None),
            (&["16,1,40", "2,1,64"], &[1, 1], Some(1)),
            (&["N,length", "N,length"], &[0, 0], None),
            (&["N,length", "1,length"], &[0, 0], Some(1)),
            (&["2,3,8,8", "5,4"], &[0, 0], Some(2)),
            (&[], &[], None),
        ];
        for (dims, axes, batch) in cases {
            let shapes: Vec<Vec<Dim>> = dims.iter().map(|dims| shape(dims)).collect();
            let shapes: Vec<Option<&[Dim]>> = shapes.iter().map(|s| Some(s.as_slice())).collect();
            assert_eq!(sample_axes(&shapes), axes, "{dims:?}");
            assert_eq!(fixed_batch(&shapes), batch, "{dims:?}");
        }
        assert_eq!(sample_axes(&[None, Some(&[])]), [0, 0]);
    }
}

//! `Einsum`: extents by their letters; those of an ellipsis are broadcast.

use crate::ir::{Dim, TensorType};

use super::super::NodeView;
use super::elementwise::broadcast;
use super::{Rows, agreed, of_input};

pub(super) const RULES: Rows = &[(&["Einsum"], einsum)];

fn einsum(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let equation = node.node.str("equation").unwrap_or_default();
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (operands, output) = match equation.split_once("->") {
        Some((operands, output)) => (operands, output.to_owned()),
        None => (equation.as_str(), implied_result(&equation)),
    };
    of_input(node, 0, Letters::of(node, operands).and_then(|letters| letters.shape(&output)))
}

/// The extents of the letters in the operands' terms.
#[derive(Default)]
struct Letters {
    extents: Vec<(char, Dim)>,
    /// The shapes of ellipses.
    ellipses: Vec<Vec<Dim>>,
}

impl Letters {
    fn of(node: &NodeView<'_>, operands: &str) -> Option<Letters> {
        let mut letters = Letters::default();
        for (index, term) in operands.split(',').enumerate() {
            let shape = node.shape(index)?;
            let (before, behind) = term.split_once("...").unwrap_or((term, ""));
            let tail = shape.len().checked_sub(behind.chars().count())?;
            let head = before.chars().count();
            letters.ellipses.push(shape.get(head..tail)?.to_vec());
            let dims = shape.get(..head)?.iter().chain(shape.get(tail..)?);
            before.chars().chain(behind.chars()).zip(dims).for_each(|(c, dim)| letters.add(c, dim));
        }
        Some(letters)
    }

    fn add(&mut self, letter: char, dim: &Dim) {
        match self.extents.iter_mut().find(|(own, _)| *own == letter) {
            // An extent of 1 is broadcast.
            Some((_, own)) if *own == Dim::Known(1) => *own = dim.clone(),
            Some((_, own)) if *dim != Dim::Known(1) => *own = agreed(own, dim),
            Some(_) => {}
            None => self.extents.push((letter, dim.clone())),
        }
    }

    /// The shape of the term `output`.
    fn shape(&self, output: &str) -> Option<Vec<Dim>> {
        let extent = |letter: char| {
            self.extents.iter().find(|(own, _)| *own == letter).map(|(_, dim)| dim.clone())
        };
        let of = |term: &str| term.chars().map(extent).collect::<Option<Vec<Dim>>>();
        match output.split_once("...") {
            Some((before, behind)) => {
                Some([of(before)?, broadcast(&self.ellipses), of(behind)?].concat())
            }
            None => of(output),
        }
    }
}

/// The output term of an equation of `Einsum` without one: all letters that occur once, sorted.
pub fn implied_result(operands: &str) -> String {
    let letters = || operands.chars().filter(|c| c.is_alphabetic());
    let mut once: Vec<char> =
        letters().filter(|c| letters().filter(|other| other == c).count() == 1).collect();
    once.sort_unstable();
    let ellipsis = if operands.contains("...") { "..." } else { "" };
    ellipsis.chars().chain(once).collect()
}

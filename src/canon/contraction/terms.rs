//! The equation of an `Einsum`.

use crate::ir::{Dim, Graph, NodeId};
use crate::ops::implied_result;

use super::super::types::{of, shape};
use super::factor::Factor;

/// The letters of an equation of one or two operands: one per axis, none twice in a term.
pub(super) struct Terms {
    pub(super) operands: Vec<Vec<char>>,
    pub(super) result: Vec<char>,
}

impl Terms {
    /// The equation of a node that computes with floats. The axes of an ellipsis have letters of their own.
    pub(super) fn of(graph: &Graph, id: NodeId) -> Option<Terms> {
        let node = graph.node(id);
        if !node.is("Einsum") {
            return None;
        }
        let equation: String = node.str("equation")?.split_whitespace().collect();
        let (operands, result) = match equation.split_once("->") {
            Some((operands, result)) => (operands, result.to_owned()),
            None => (equation.as_str(), implied_result(&equation)),
        };
        let operands: Vec<&str> = operands.split(',').collect();
        let mut ranks = Vec::new();
        for input in &node.inputs {
            let is_float = of(graph, (*input)?)?.dtype.is_float();
            ranks.push(shape(graph, (*input)?).filter(|_| is_float)?.len());
        }
        if !(1..=2).contains(&operands.len()) || operands.len() != ranks.len() {
            return None;
        }
        let widths = operands.iter().zip(&ranks).map(|(term, rank)| {
            let named = term.replace("...", "").chars().count();
            rank.checked_sub(named).filter(|width| term.contains("...") || *width == 0)
        });
        let widths: Vec<usize> = widths.collect::<Option<_>>()?;
        let widest = widths.iter().copied().max().unwrap_or(0);
        let free = ('A'..='Z').chain('a'..='z').filter(|c| !equation.contains(*c));
        let hidden: Vec<char> = free.take(widest).collect();
        let own = |(term, width): (&&str, &usize)| {
            letters(term, hidden.get(hidden.len().checked_sub(*width)?..)?)
        };
        let operands: Vec<Vec<char>> =
            operands.iter().zip(&widths).map(own).collect::<Option<_>>()?;
        let result = letters(&result, &hidden)?;
        let is_known = |c: &char| operands.iter().any(|own| own.contains(c));
        let is_shown = |c: &char| result.contains(c);
        let fits = hidden.len() == widest && hidden.iter().all(is_shown);
        (fits && result.iter().all(is_known)).then_some(Terms { operands, result })
    }
}

/// The letters of a term with those of its ellipsis, if each occurs once.
fn letters(term: &str, hidden: &[char]) -> Option<Vec<char>> {
    let letters: Vec<char> = match term.split_once("...") {
        Some((before, behind)) => {
            before.chars().chain(hidden.iter().copied()).chain(behind.chars()).collect()
        }
        None => term.chars().collect(),
    };
    let mut sorted = letters.clone();
    sorted.sort_unstable();
    let is_plain = sorted.iter().all(char::is_ascii_alphabetic);
    let is_once = sorted.windows(2).all(|pair| pair[0] != pair[1]);
    (is_plain && is_once).then_some(letters)
}

/// The letters of two factors by their place in the product. Letters that only one factor has, and the result
/// has not, are in none of them.
pub(super) struct Letters {
    /// Of both and of the result, in its order.
    pub(super) shared: Vec<char>,
    /// Of both, but not of the result.
    pub(super) summed: Vec<char>,
    /// Of the first factor and of the result, in its order.
    pub(super) rows: Vec<char>,
    /// Of the second factor and of the result, in its order.
    pub(super) columns: Vec<char>,
}

impl Letters {
    pub(super) fn of(a: &[char], b: &[char], result: &[char]) -> Letters {
        let pick = |of: &[char], is_picked: &dyn Fn(&char) -> bool| -> Vec<char> {
            of.iter().copied().filter(|c| is_picked(c)).collect()
        };
        Letters {
            shared: pick(result, &|c| a.contains(c) && b.contains(c)),
            summed: pick(a, &|c| b.contains(c) && !result.contains(c)),
            rows: pick(result, &|c| !b.contains(c)),
            columns: pick(result, &|c| !a.contains(c)),
        }
    }

    /// Whether the product is one of elements, with a sum behind it, and not larger than a factor or the
    /// result.
    pub(super) fn has_empty(&self) -> bool {
        [&self.summed, &self.rows, &self.columns].iter().any(|letters| letters.is_empty())
    }

    /// All of them.
    pub(super) fn kept(&self) -> Vec<char> {
        [&self.shared[..], &self.summed, &self.rows, &self.columns].concat()
    }
}

/// Whether both factors surely have the same extents along these letters. `Einsum` repeats an axis of one
/// element, which a product of matrices does not.
pub(super) fn agree(graph: &Graph, [a, b]: [&Factor; 2], letters: &[char]) -> bool {
    let extent = |factor: &Factor, letter: &char| -> Option<Dim> {
        let place = factor.letters.iter().position(|own| own == letter)?;
        shape(graph, factor.value)?.get(place).cloned()
    };
    letters.iter().all(|c| extent(a, c).zip(extent(b, c)).is_some_and(|(a, b)| a.is_surely(&b)))
}

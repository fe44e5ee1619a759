//! Faults that runtimes do not check, or for which they take time and memory without bounds.
//!
//! Some of them end the process. These checks hold for operators of every version, and so for models as they are
//! read.

use crate::ir::DataType;
use crate::ops::{implied_result, normal_axis};

use super::{Check, Operands};

/// The checks of operators by their names.
const CHECKS: &[(&[&str], Check)] = &[
    (&["Div", "Mod"], divided),
    (&["Einsum"], einsum),
    (&["GatherND"], gather_nd),
    (&["OneHot"], one_hot),
    (&["Scan"], scan),
    (&["Split"], split),
];

/// Operators whose attribute `axis` counts no axes of the first input, or is left out of account at times.
const OTHER_AXES: &[&str] =
    &["ConcatFromSequence", "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"];

/// Limit of terms of an equation, and of letters in each.
const MOST_LETTERS: usize = 64;

/// The fault of a node of any version.
pub(super) fn fault(operands: &Operands<'_>) -> Option<String> {
    let op = operands.0.node.op.as_str();
    let row = CHECKS.iter().find(|(ops, _)| ops.contains(&op));
    wrong_axis(operands).or_else(|| row.and_then(|(_, check)| check(operands)))
}

/// The fault of an attribute that names an axis of the first input, or one between or beside its axes.
fn wrong_axis(operands: &Operands<'_>) -> Option<String> {
    let node = operands.0.node;
    // Any axis is valid for a scalar.
    let rank = operands.rank(0).filter(|rank| *rank > 0)?;
    if OTHER_AXES.contains(&node.op.as_str()) {
        return None;
    }
    ["axis", "axes", "batch_axis", "time_axis"].into_iter().find_map(|name| {
        let one = [node.int(name, 0)];
        let all = node.ints(name).unwrap_or(&one);
        // A node may add as many axes as it names.
        outside(all, rank + all.len(), name, rank)
    })
}

/// The fault of the first axis beyond `most` axes before or behind.
fn outside(axes: &[i64], most: usize, name: &str, rank: usize) -> Option<String> {
    let axis = axes.iter().find(|axis| axis.unsigned_abs() > most as u64)?;
    Some(format!("has {axis} in '{name}' for a value of {rank} axes"))
}

/// Leading axes are common to data and indices.
fn gather_nd(operands: &Operands<'_>) -> Option<String> {
    let common = operands.int("batch_dims", 0);
    let rank = [0, 1].into_iter().filter_map(|slot| operands.rank(slot)).min();
    let Some(count) = usize::try_from(common).ok() else {
        return Some(format!("has {common} in 'batch_dims'"));
    };
    let rank = rank.filter(|rank| count >= *rank)?;
    Some(format!("has {common} in 'batch_dims' for a value of {rank} axes"))
}

fn one_hot(operands: &Operands<'_>) -> Option<String> {
    let (rank, axis) = (operands.rank(0), operands.int("axis", -1));
    if let Some(fault) = rank.and_then(|rank| outside(&[axis], rank + 1, "axis", rank)) {
        return Some(fault);
    }
    let depths = operands.ints(1)?;
    (depths.len() != 1 || depths.iter().any(|n| *n < 1)).then(|| format!("has depths {depths:?}"))
}

/// Inputs that a loop runs over, and their axes.
fn scan(operands: &Operands<'_>) -> Option<String> {
    let node = operands.0.node;
    let scanned = operands.int("num_scan_inputs", 0);
    let count = usize::try_from(scanned).ok().filter(|n| (1..=node.inputs.len()).contains(n));
    let Some(count) = count else {
        return Some(format!("runs over {scanned} of {} inputs", node.inputs.len()));
    };
    let axes = operands.attribute("scan_input_axes")?;
    if axes.len() != count {
        return Some(format!("has {} axes for {count} inputs that it runs over", axes.len()));
    }
    let first = node.inputs.len() - count;
    axes.iter().enumerate().find_map(|(place, axis)| {
        let rank = operands.rank(first + place)?;
        let fits = normal_axis(*axis, rank).is_some();
        (!fits).then(|| format!("runs over axis {axis} of a value of {rank} axes"))
    })
}

/// Parts of sizes that the node does not name, or names as an attribute.
fn split(operands: &Operands<'_>) -> Option<String> {
    let (node, rank) = (operands.0.node, operands.rank(0)?);
    let axis = normal_axis(operands.int("axis", 0), rank)?;
    let extent = operands.extent(0, axis).filter(|n| *n > 0)?;
    let outputs = node.outputs.len();
    if let Some(sizes) = operands.attribute("split") {
        let total = sizes.iter().try_fold(0i64, |sum, n| sum.checked_add(*n).filter(|_| *n >= 0));
        let fits = sizes.len() == outputs && total == i64::try_from(extent).ok();
        return (!fits).then(|| format!("has the sizes {sizes:?} for {outputs} outputs"));
    }
    let parts = usize::try_from(operands.int("num_outputs", 0)).map_or(outputs, |n| n.max(outputs));
    let is_even = node.input(1).is_none();
    (is_even && parts > extent).then(|| format!("cuts an axis of {extent} into {parts} parts"))
}

/// Letters name the axes of each operand, and of the result.
fn einsum(operands: &Operands<'_>) -> Option<String> {
    let node = operands.0.node;
    let equation: String = node.str("equation")?.split_whitespace().collect();
    let (read, given) = match equation.split_once("->") {
        Some((read, given)) => (read, Some(given)),
        None => (equation.as_str(), None),
    };
    let terms: Vec<&str> = read.split(',').collect();
    if terms.len() != node.inputs.len() || terms.len() > MOST_LETTERS {
        return Some(format!("has {} terms for {} inputs", terms.len(), node.inputs.len()));
    }
    let mut terms = terms.iter().zip(0..);
    if let Some(fault) = terms.find_map(|(term, slot)| wrong_term(operands, term, slot)) {
        return Some(fault);
    }
    // With bounds on each term, the implied result takes little time.
    let result = given.map_or_else(|| implied_result(read), str::to_owned);
    let letters: Vec<char> = result.replacen("...", "", 1).chars().collect();
    let mut places = letters.iter().enumerate();
    let wrong = places.find(|(at, c)| letters[..*at].contains(c) || !read.contains(**c));
    wrong.map(|(_, letter)| format!("has no single '{letter}' for its result"))
}

/// The fault of a term for an input.
fn wrong_term(operands: &Operands<'_>, term: &str, slot: usize) -> Option<String> {
    let letters = term.replacen("...", "", 1).chars().take(MOST_LETTERS + 1).count();
    let rank = operands.rank(slot);
    let fits = match rank {
        Some(rank) if term.contains("...") => letters <= rank,
        Some(rank) => letters == rank,
        None => letters <= MOST_LETTERS,
    };
    (!fits).then(|| {
        let rank = rank.map_or("some".to_owned(), |rank| rank.to_string());
        format!("has {letters} letters or more for the {rank} axes of input {slot}")
    })
}

/// The smallest number divided by −1 is no number of its type, and the processor ends the process.
fn divided(operands: &Operands<'_>) -> Option<String> {
    let least = match operands.0.constant(0)?.dtype {
        DataType::I64 => i64::MIN,
        DataType::I32 => i64::from(i32::MIN),
        _ => return None,
    };
    let (dividends, divisors) = (operands.ints(0)?, operands.ints(1)?);
    let overflows = match operands.constant(0)? == operands.constant(1)? {
        true => dividends.iter().zip(&divisors).any(|pair| pair == (&least, &-1)),
        false => dividends.contains(&least) && divisors.contains(&-1),
    };
    overflows.then(|| format!("divides {least} by -1, which overflows"))
}

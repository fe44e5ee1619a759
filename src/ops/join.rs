//! Operators that join or pick channels.

use crate::ir::Dim;

use super::elementwise::same_axis;
use super::types::split_sizes;
use super::view::normal_axis;
use super::{Atom, Expand, Flow, Labels, NodeView, OpRule, Operand, Partwise, Pick};

/// `Concat`.
pub struct Concat;
/// `Split`.
pub struct Split;
/// `Slice`.
pub struct Slice;
/// `Gather` with constant indices.
pub struct Gather;

impl OpRule for Concat {
    fn ops(&self) -> &'static [&'static str] {
        &["Concat"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let inputs = 0..node.node.inputs.len();
        let rank = inputs.clone().find_map(|i| node.shape(i)).map_or(0, |s| s.len());
        let Some(axis) = normal_axis(node.node.int("axis", 0), rank) else {
            return Flow::whole("a concatenation of unknown rank");
        };
        if inputs.clone().filter_map(|i| node.labels(i)).any(|l| l.axis != axis) {
            return side_by_side(node);
        }
        let reason = "a concatenation with values that carry no channels";
        if inputs.clone().all(|i| node.labels(i).is_none()) {
            return Flow::whole(reason);
        }
        let labels: Option<Vec<&Labels>> = inputs.clone().map(|i| node.labels(i)).collect();
        let Some(labels) = labels else {
            let parts = inputs.map(|i| match node.labels(i) {
                Some(labels) => Some(labels.atoms.clone()),
                None => Some(vec![Atom::NEW; node.shape(i)?.get(axis)?.known()?]),
            });
            return match parts.collect::<Option<Vec<Vec<Atom>>>>() {
                Some(parts) => Flow::whole_with(reason, Labels::along(axis, parts.concat())),
                None => Flow::whole(reason),
            };
        };
        let indices = |(input, l): (usize, &&Labels)| (0..l.atoms.len()).map(move |i| (input, i));
        let from = labels.iter().enumerate().flat_map(indices).collect();
        Flow::Relabel(vec![Pick { axis, from }])
    }
}

/// The flow of a join along another axis than that of channels, such as tokens. All operands have the
/// same channels.
fn side_by_side(node: &NodeView<'_>) -> Flow {
    let reason = "a concatenation along another axis than channels";
    let inputs = 0..node.node.inputs.len();
    let Some(lead) = inputs.clone().find_map(|i| node.labels(i)) else {
        return Flow::whole(reason);
    };
    let mut coupled = Vec::new();
    let operands = inputs.map(|i| match node.labels(i) {
        Some(own) if own.axis == lead.axis && own.atoms.len() == lead.atoms.len() => {
            coupled.push((lead.atoms.clone(), own.atoms.clone()));
            Some(Operand::Channels)
        }
        Some(_) => None,
        None => node.constant(i).map(|_| Operand::Param { axis: lead.axis }),
    });
    match operands.collect::<Option<Vec<Operand>>>() {
        Some(operands) => Flow::Partwise(Partwise {
            output: lead.clone(),
            operands,
            coupled,
            expand: Expand::NONE,
        }),
        None => Flow::whole(reason),
    }
}

impl OpRule for Split {
    fn ops(&self) -> &'static [&'static str] {
        &["Split"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let (Some(labels), Some(shape)) = (node.labels(0), node.shape(0)) else {
            return Flow::whole("a split of unknown rank");
        };
        let axis = normal_axis(node.node.int("axis", 0), shape.len());
        if axis.is_some_and(|axis| axis != labels.axis) {
            return same_axis(node, vec![Operand::Channels, Operand::Plain]);
        }
        let sizes = split_sizes(node, &shape);
        let sizes = sizes.iter().map(Dim::known).collect::<Option<Vec<usize>>>();
        let all = labels.atoms.len();
        let Some(sizes) =
            sizes.filter(|sizes| axis.is_some() && sizes.iter().sum::<usize>() == all)
        else {
            return Flow::whole("a split into computed sizes");
        };
        let mut start = 0;
        let parts = sizes.iter().map(|n| {
            let from = (start..start + n).map(|i| (0, i)).collect();
            start += n;
            Pick { axis: labels.axis, from }
        });
        Flow::Relabel(parts.collect())
    }
}

impl OpRule for Slice {
    fn ops(&self) -> &'static [&'static str] {
        &["Slice"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let rank = node.shape(0).map(|s| s.len());
        let slices = rank.and_then(|rank| slices(node, rank));
        let (Some(labels), Some(slices)) = (node.labels(0), slices) else {
            return computed_slice(node, rank);
        };
        if slices.iter().all(|(axis, ..)| *axis != labels.axis) {
            let mut operands = vec![Operand::Plain; node.node.inputs.len()];
            operands[0] = Operand::Channels;
            return same_axis(node, operands);
        }
        match slices.as_slice() {
            [(axis, start, end, step)] => {
                let indices = picked(labels.atoms.len(), *start, *end, *step);
                let from = indices.into_iter().map(|i| (0, i)).collect();
                Flow::Relabel(vec![Pick { axis: *axis, from }])
            }
            several => {
                let mut atoms = labels.atoms.clone();
                for (_, start, end, step) in several.iter().filter(|s| s.0 == labels.axis) {
                    let kept = picked(atoms.len(), *start, *end, *step);
                    atoms = kept.into_iter().map(|i| atoms[i]).collect();
                }
                let reason = "a slice of channels and other axes at once";
                Flow::whole_with(reason, Labels::along(labels.axis, atoms))
            }
        }
    }
}

/// The flow of a slice with computed bounds: channels do not change if only other axes are cut.
fn computed_slice(node: &NodeView<'_>, rank: Option<usize>) -> Flow {
    let axes = || -> Option<Vec<usize>> {
        node.ints(3)?.iter().map(|axis| normal_axis(*axis, rank?)).collect()
    };
    match (node.labels(0), axes()) {
        (Some(labels), Some(axes)) if !axes.contains(&labels.axis) => {
            let plain = vec![Operand::Plain; node.node.inputs.len().saturating_sub(1)];
            same_axis(node, [vec![Operand::Channels], plain].concat())
        }
        _ => Flow::whole("a slice with computed bounds"),
    }
}

/// `(axis, start, end, step)` of each sliced axis of a `Slice` on an operand of rank `rank`; `None`
/// if they are not constant.
pub fn slices(node: &NodeView<'_>, rank: usize) -> Option<Vec<(usize, i64, i64, i64)>> {
    let (starts, ends) = match (node.node.ints("starts"), node.node.ints("ends")) {
        (Some(s), Some(e)) => (s.to_vec(), e.to_vec()),
        _ => (node.ints(1)?, node.ints(2)?),
    };
    let axes = match (node.node.ints("axes"), node.node.input(3)) {
        (Some(axes), _) => axes.to_vec(),
        (None, Some(_)) => node.ints(3)?,
        (None, None) => (0..starts.len() as i64).collect(),
    };
    let steps = match node.node.input(4) {
        Some(_) => node.ints(4)?,
        None => vec![1; starts.len()],
    };
    if starts.len() != ends.len() || starts.len() != axes.len() || starts.len() != steps.len() {
        return None;
    }
    (0..starts.len())
        .map(|i| Some((normal_axis(axes[i], rank)?, starts[i], ends[i], steps[i])))
        .collect()
}

/// The number of indices `start..end` by `step` on an axis of extent `n`, by the rules of `Slice`.
pub(super) fn picked_count(n: usize, start: i64, end: i64, step: i64) -> usize {
    let (from, to) = bounds(n, start, end, step);
    let room = if step < 0 { from.saturating_sub(to) } else { to.saturating_sub(from) };
    match (usize::try_from(room), usize::try_from(step.unsigned_abs())) {
        (Err(_), _) | (_, Ok(0)) => 0,
        (Ok(room), step) => room.div_ceil(step.unwrap_or(usize::MAX)),
    }
}

/// Indices `start..end` by `step` of an axis of extent `n`, by the rules of `Slice`.
pub fn picked(n: usize, start: i64, end: i64, step: i64) -> Vec<usize> {
    let (mut at, to) = bounds(n, start, end, step);
    let mut out = Vec::new();
    while (step > 0 && at < to) || (step < 0 && at > to) {
        out.extend(usize::try_from(at));
        at = at.saturating_add(step);
    }
    out
}

/// The first index and the one behind the last on an axis of extent `n`, by the rules of `Slice`. Backwards, too,
/// the largest number as the end means all that is left.
fn bounds(n: usize, start: i64, end: i64, step: i64) -> (i64, i64) {
    let n = i64::try_from(n).unwrap_or(i64::MAX);
    let wrap = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
    if step >= 0 || n == 0 {
        return (wrap(start).clamp(0, n), wrap(end).clamp(0, n));
    }
    let to = match end == i64::MAX || end == i64::from(i32::MAX) {
        true => -1,
        false => wrap(end).clamp(-1, n - 1),
    };
    (wrap(start).clamp(0, n - 1), to)
}

impl OpRule for Gather {
    fn ops(&self) -> &'static [&'static str] {
        &["Gather"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        if let Some(table) = super::table::table(node) {
            return Flow::Layer(table);
        }
        let rank = node.shape(0).map_or(0, |s| s.len());
        let axis = normal_axis(node.node.int("axis", 0), rank);
        let (Some(labels), Some(indices)) = (node.labels(0), node.ints(1)) else {
            return gather_elsewhere(node);
        };
        if axis != Some(labels.axis) || node.shape(1).is_none_or(|s| s.len() != 1) {
            return gather_elsewhere(node);
        }
        let from: Option<Vec<_>> =
            indices.iter().map(|i| Some((0, normal_axis(*i, labels.atoms.len())?))).collect();
        match from {
            Some(from) => Flow::Relabel(vec![Pick { axis: labels.axis, from }]),
            None => Flow::whole("a gather outside its operand"),
        }
    }
}

/// The flow of a gather along another axis than that of channels, such as tokens. The axes of the indices
/// replace the gathered axis.
fn gather_elsewhere(node: &NodeView<'_>) -> Flow {
    let reason = "a gather of channels with computed indices";
    let (Some(labels), Some(data)) = (node.labels(0), node.shape(0)) else {
        return Flow::whole(reason);
    };
    let axis = normal_axis(node.node.int("axis", 0), data.len());
    let (Some(axis), Some(indices)) = (axis.filter(|a| *a != labels.axis), node.shape(1)) else {
        return Flow::whole(reason);
    };
    match same_axis(node, vec![Operand::Channels, Operand::Plain]) {
        Flow::Partwise(mut partwise) => {
            if axis < labels.axis {
                partwise.output.axis = labels.axis + indices.len() - 1;
            }
            Flow::Partwise(partwise)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{picked, picked_count};

    #[test]
    fn slices_follow_the_standard() {
        assert_eq!(picked(5, 1, i64::MAX, 2), [1, 3]);
        assert_eq!(picked(5, -2, 100, 1), [3, 4]);
        assert_eq!(picked(4, -1, i64::MIN, -1), [3, 2, 1, 0]);
        assert_eq!(picked(4, 3, 0, 1), [0usize; 0]);
        assert_eq!(picked(4, -100, -200, -1), [0]);
        assert_eq!(picked(4, 2, i64::MAX, -1), [2, 1, 0]);
        assert_eq!(picked(4, i64::MIN, i64::MAX, i64::MIN), [0]);
        assert_eq!(picked(4, i64::MAX, i64::MIN, i64::MIN), [3]);
        let bounds = [i64::MIN, -100, -5, -1, 0, 1, 3, 5, 100, i64::from(i32::MAX), i64::MAX];
        for (n, start) in [0, 1, 5].into_iter().flat_map(|n| bounds.map(|start| (n, start))) {
            for (end, step) in bounds.into_iter().flat_map(|end| bounds.map(|step| (end, step))) {
                let found = picked(n, start, end, step);
                assert_eq!(picked_count(n, start, end, step), found.len(), "{start} {end} {step}");
                assert!(found.iter().all(|at| *at < n));
            }
        }
    }
}

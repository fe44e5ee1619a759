//! How often a loop runs.
//!
//! Exporters compare a count with the length of the sequence, in the body and once before it. Counts and conditions
//! are followed as formulas of the number of the step.

use std::collections::HashMap;

use crate::ir::{DataType, Node, Size, ValueId};

/// Most comparisons in a condition.
const MOST_BOUNDS: usize = 8;

/// Most steps: floats hold all counts up to this one.
const MOST_STEPS: i64 = 1 << 24;

/// An integer, or a truth value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    /// The same in every step.
    Fixed(Size),
    /// The number of the step, counted from 0, and this.
    Counted(i64),
    /// Whether all of these hold.
    Holds(Vec<Bound>),
}

/// Whether a size is positive, or more than the number of the step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bound {
    size: Size,
    is_counted: bool,
}

impl Scalar {
    /// What must hold for a truth value to be true, if that can be told.
    pub(super) fn bounds(self) -> Option<Vec<Bound>> {
        match self {
            Scalar::Holds(bounds) => Some(bounds),
            Scalar::Fixed(size) => size.value().filter(|n| *n != 0).map(|_| Vec::new()),
            Scalar::Counted(_) => None,
        }
    }
}

/// Scalars of a graph that are known.
pub(super) type Scalars = HashMap<ValueId, Scalar>;

/// Follows scalars through the nodes of a graph, which come in topological order. `fixed` knows constants.
pub(super) fn follow<'a>(
    nodes: impl Iterator<Item = &'a Node>,
    mut known: Scalars,
    fixed: impl Fn(ValueId) -> Option<Size>,
) -> Scalars {
    for node in nodes.filter(|node| node.domain.is_empty() && node.outputs.len() == 1) {
        let input = |slot: usize| {
            let value = node.input(slot)?;
            known.get(&value).cloned().or_else(|| fixed(value).map(Scalar::Fixed))
        };
        if let (Some(output), Some(scalar)) = (node.output(0), result(node, input)) {
            known.insert(output, scalar);
        }
    }
    known
}

fn result(node: &Node, input: impl Fn(usize) -> Option<Scalar>) -> Option<Scalar> {
    match node.op.as_str() {
        "Identity" | "Squeeze" | "Unsqueeze" | "Reshape" => input(0),
        "Cast" => input(0).filter(|scalar| keeps(node, scalar)),
        "Add" => sum(&input(0)?, &input(1)?),
        "Sub" => match input(1)? {
            Scalar::Fixed(size) => sum(&input(0)?, &Scalar::Fixed(size.times(&Size::number(-1))?)),
            _ => None,
        },
        "And" => {
            let all = [input(0)?.bounds()?, input(1)?.bounds()?].concat();
            (all.len() <= MOST_BOUNDS).then_some(Scalar::Holds(all))
        }
        "Less" => less(&input(0)?, &input(1)?, 0),
        "LessOrEqual" => less(&input(0)?, &input(1)?, 1),
        "Greater" => less(&input(1)?, &input(0)?, 0),
        "GreaterOrEqual" => less(&input(1)?, &input(0)?, 1),
        _ => None,
    }
}

/// Whether the target type of a `Cast` holds any count, or any truth value.
fn keeps(node: &Node, scalar: &Scalar) -> bool {
    let to = i32::try_from(node.int("to", 0)).ok().map(DataType::from_code);
    match (scalar, to) {
        (Scalar::Holds(_), to) => to == Some(DataType::Bool),
        (_, Some(DataType::I64 | DataType::I32 | DataType::F32 | DataType::F64)) => true,
        _ => false,
    }
}

fn sum(a: &Scalar, b: &Scalar) -> Option<Scalar> {
    match (a, b) {
        (Scalar::Fixed(a), Scalar::Fixed(b)) => a.plus(b).map(Scalar::Fixed),
        (Scalar::Counted(from), Scalar::Fixed(by)) | (Scalar::Fixed(by), Scalar::Counted(from)) => {
            from.checked_add(by.value()?).map(Scalar::Counted)
        }
        _ => None,
    }
}

/// Whether `a` is less than `b` and `more`.
fn less(a: &Scalar, b: &Scalar, more: i64) -> Option<Scalar> {
    let Scalar::Fixed(b) = b else { return None };
    let room = b.plus(&Size::number(more))?;
    let (size, is_counted) = match a {
        Scalar::Fixed(a) => (room.minus(a)?, false),
        Scalar::Counted(from) => (room.minus(&Size::number(*from))?, true),
        Scalar::Holds(_) => return None,
    };
    Some(Scalar::Holds(vec![Bound { size, is_counted }]))
}

/// What decides how often a loop runs.
pub(super) struct Limits {
    /// The most steps, if there is such a limit.
    pub(super) most: Option<Size>,
    /// What must hold before the first step.
    pub(super) before: Vec<Bound>,
    /// What must hold after each step for another one.
    pub(super) after: Vec<Bound>,
}

impl Limits {
    /// The number of steps, if it is the same for all inputs of the model.
    pub(super) fn steps(&self) -> Option<i64> {
        let ends: Option<Vec<i64>> = self.ends()?.iter().map(Size::value).collect();
        let steps = ends?.into_iter().min()?;
        self.fit(&Size::number(steps)).then_some(steps)
    }

    /// The numbers of steps after which the loop ends, as far as it counts them.
    fn ends(&self) -> Option<Vec<Size>> {
        // The condition of one step decides on the next one.
        let counted = self.after.iter().filter(|bound| bound.is_counted);
        let ends = counted.map(|bound| bound.size.plus(&Size::number(1)));
        self.most.clone().map(Some).into_iter().chain(ends).collect()
    }

    /// Whether the loop runs once per entry of a sequence of this length.
    pub(super) fn fit(&self, length: &Size) -> bool {
        let positive = |size: &Size| at_least(size, &Size::number(1));
        let begins = |bound: &Bound| positive(&bound.size) || bound.size == *length;
        let is_unusual = length.value().is_some_and(|steps| !(1..=MOST_STEPS).contains(&steps));
        if is_unusual || !self.before.iter().all(|bound| !bound.is_counted && begins(bound)) {
            return false;
        }
        let Some(ends) = self.ends() else { return false };
        let mut fixed = self.after.iter().filter(|bound| !bound.is_counted);
        fixed.all(|bound| positive(&bound.size))
            && ends.iter().all(|end| at_least(end, length))
            && ends.contains(length)
    }
}

/// Whether `a` is at least `b` for all values of open extents.
fn at_least(a: &Size, b: &Size) -> bool {
    a.minus(b).is_some_and(|more| more.is_natural())
}

//! The effect of a token's integer input on the scores of attention, as a formula of one variable.

use crate::ir::{Graph, NodeId, Tensor, ValueId};

/// Limit of nodes that are followed.
const LONGEST: usize = 512;

/// A value for one token; the scores themselves count as 0.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Score {
    /// The token's number in the input.
    Input,
    /// The same number for all tokens.
    Constant(f64),
    /// Independent of the input: scores, or causal masks.
    Other,
    /// A function of others.
    Apply(Function, Vec<Score>),
}

/// Functions that masks consist of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Negative,
    Not,
    ToFlag,
    ToWhole,
    Sum,
    Difference,
    Product,
    Quotient,
    Least,
    Most,
    Equal,
    Greater,
    Less,
    AtLeast,
    AtMost,
    And,
    Or,
    Where,
}

/// Operators that move tokens, or repeat them.
const MOVES: &[&str] = &[
    "Unsqueeze",
    "Squeeze",
    "Reshape",
    "Flatten",
    "Expand",
    "Transpose",
    "Slice",
    "Tile",
    "Identity",
    "Gather",
    "GatherND",
];

/// Operators of two operands, and whether the result is taken from the known operand if the other one is
/// unknown.
const PAIRS: &[(&str, Function, bool)] = &[
    ("Add", Function::Sum, true),
    ("Sub", Function::Difference, true),
    ("Mul", Function::Product, true),
    ("Div", Function::Quotient, true),
    ("Min", Function::Least, true),
    ("Max", Function::Most, true),
    ("And", Function::And, true),
    ("Or", Function::Or, true),
    ("Equal", Function::Equal, false),
    ("Greater", Function::Greater, false),
    ("Less", Function::Less, false),
    ("GreaterOrEqual", Function::AtLeast, false),
    ("LessOrEqual", Function::AtMost, false),
];

impl Score {
    /// The effect of `input` on the scores `value`; `None` if they do not depend on it token by token.
    pub(super) fn of(graph: &Graph, value: ValueId, input: ValueId) -> Option<Score> {
        let mut room = LONGEST;
        let score = Walk { graph, input }.follow(value, &mut room);
        (room > 0 && score.depends()).then_some(score)
    }

    fn depends(&self) -> bool {
        match self {
            Score::Input => true,
            Score::Constant(_) | Score::Other => false,
            Score::Apply(_, operands) => operands.iter().any(Score::depends),
        }
    }

    /// The value for a token with the number `x`.
    pub(super) fn at(&self, x: f64) -> f64 {
        match self {
            Score::Input => x,
            Score::Constant(value) => *value,
            Score::Other => 0.0,
            Score::Apply(function, operands) => {
                let of = |n: usize| operands.get(n).map_or(0.0, |operand| operand.at(x));
                function.of(of(0), of(1), of(2))
            }
        }
    }
}

impl Function {
    fn of(self, a: f64, b: f64, c: f64) -> f64 {
        let flag = |is: bool| f64::from(u8::from(is));
        match self {
            Function::Negative => -a,
            Function::Not => flag(a == 0.0),
            Function::ToFlag => flag(a != 0.0),
            Function::ToWhole => a.trunc(),
            Function::Sum => a + b,
            Function::Difference => a - b,
            // Infinity times 0 is NaN in runtimes; 0 is what is meant.
            Function::Product if a == 0.0 || b == 0.0 => 0.0,
            Function::Product => a * b,
            Function::Quotient => a / b,
            Function::Least => a.min(b),
            Function::Most => a.max(b),
            Function::Equal => flag(a == b),
            Function::Greater => flag(a > b),
            Function::Less => flag(a < b),
            Function::AtLeast => flag(a >= b),
            Function::AtMost => flag(a <= b),
            Function::And => flag(a != 0.0 && b != 0.0),
            Function::Or => flag(a != 0.0 || b != 0.0),
            Function::Where if a != 0.0 => b,
            Function::Where => c,
        }
    }
}

/// Follows values back to an input.
struct Walk<'g> {
    graph: &'g Graph,
    input: ValueId,
}

impl Walk<'_> {
    fn follow(&self, value: ValueId, room: &mut usize) -> Score {
        *room = room.saturating_sub(1);
        if value == self.input {
            return Score::Input;
        }
        if let Some(tensor) = self.graph.initializer(value) {
            return lone_number(tensor).map_or(Score::Other, Score::Constant);
        }
        match self.graph.producer(value) {
            Some(id) if *room > 0 => self.result(id, room),
            _ => Score::Other,
        }
    }

    fn operand(&self, id: NodeId, index: usize, room: &mut usize) -> Score {
        let value = self.graph.node(id).input(index);
        value.map_or(Score::Other, |value| self.follow(value, room))
    }

    fn result(&self, id: NodeId, room: &mut usize) -> Score {
        let node = self.graph.node(id);
        let op = node.op.as_str();
        if !node.domain.is_empty() {
            return Score::Other;
        }
        if let Some((_, function, keeps)) = PAIRS.iter().find(|(own, ..)| *own == op) {
            let (a, b) = (self.operand(id, 0, room), self.operand(id, 1, room));
            return pair(*function, a, b, *keeps);
        }
        match op {
            "Concat" => {
                let mut all = (0..node.inputs.len()).map(|n| self.operand(id, n, room));
                all.find(Score::depends).unwrap_or(Score::Other)
            }
            "Where" => {
                let [condition, yes, no] = [0, 1, 2].map(|n| self.operand(id, n, room));
                chosen(condition, yes, no)
            }
            "Neg" => apply(Function::Negative, self.operand(id, 0, room)),
            "Not" => apply(Function::Not, self.operand(id, 0, room)),
            "Cast" => {
                let data = self.operand(id, 0, room);
                match node.int("to", 1) {
                    9 => apply(Function::ToFlag, data),
                    2..=7 | 12 | 13 => apply(Function::ToWhole, data),
                    _ => data,
                }
            }
            _ if MOVES.contains(&op) => self.operand(id, 0, room),
            _ => Score::Other,
        }
    }
}

fn apply(function: Function, operand: Score) -> Score {
    match operand {
        Score::Other => Score::Other,
        operand => Score::Apply(function, vec![operand]),
    }
}

/// Applies a function to two operands. If one is unknown and the function `keeps` the other, gives the
/// other.
fn pair(function: Function, a: Score, b: Score, keeps: bool) -> Score {
    match (a, b) {
        (Score::Other, known) | (known, Score::Other) => match keeps && known.depends() {
            true => known,
            false => Score::Other,
        },
        (a, b) => Score::Apply(function, vec![a, b]),
    }
}

/// A choice. If the condition is unknown, takes the larger score, which hides less.
fn chosen(condition: Score, yes: Score, no: Score) -> Score {
    if ![&condition, &yes, &no].iter().any(|score| score.depends()) {
        return Score::Other;
    }
    match condition {
        Score::Other => Score::Apply(Function::Most, vec![yes, no]),
        condition => Score::Apply(Function::Where, vec![condition, yes, no]),
    }
}

/// The value of all elements, if they are equal.
fn lone_number(tensor: &Tensor) -> Option<f64> {
    let values: Vec<f64> = match tensor.dtype.is_float() {
        true => tensor.to_f64().ok()?.into_iter().collect(),
        false => tensor.to_i64()?.into_iter().map(|value| value as f64).collect(),
    };
    let first = *values.first()?;
    values.iter().all(|value| *value == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_operands_leave_what_is_known() {
        let mask = Score::Apply(Function::Product, vec![Score::Input, Score::Constant(-1e4)]);
        assert_eq!(pair(Function::Sum, Score::Other, mask.clone(), true), mask);
        assert_eq!(pair(Function::Product, Score::Other, Score::Constant(0.5), true), Score::Other);
        let causal = chosen(Score::Other, mask.clone(), Score::Constant(f64::MIN));
        assert_eq!((causal.at(0.0), causal.at(1.0)), (0.0, -1e4));
        assert_eq!(pair(Function::Equal, Score::Other, Score::Input, false), Score::Other);
    }
}

//! Recognises the cells of recurrent layers in what a step computes.

use std::rc::Rc;

use ndarray::{Array1, Array2};

use super::activation::Activation;
use super::terms::{Affine, Shared, Source, Term, is_same};

/// Most addends before the function of a gate.
const MOST_ADDENDS: usize = 8;

/// The cell of a recurrent layer.
pub(super) struct Cell {
    /// The operator that runs the cell over a sequence.
    pub(super) op: &'static str,
    /// The carried value with the hidden units.
    pub(super) hidden: usize,
    /// The carried value with the cell state of an LSTM.
    pub(super) memory: Option<usize>,
    /// The gates in the operator's order.
    pub(super) gates: Vec<Gate>,
    /// The functions in the operator's order.
    pub(super) activations: Vec<Activation>,
    /// Whether the reset gate of a GRU comes after the weights.
    pub(super) resets_last: bool,
}

/// The weights of a gate.
#[derive(Clone)]
pub(super) struct Gate {
    /// Columns of the input × units.
    pub(super) inputs: Array2<f32>,
    /// Units × units.
    pub(super) hidden: Array2<f32>,
    pub(super) bias: Array1<f32>,
    /// The bias that a reset gate multiplies along with the hidden units.
    pub(super) hidden_bias: Array1<f32>,
}

impl Cell {
    /// The cell that computes the next states, for inputs of this many columns.
    pub(super) fn of(next: &[Option<Shared>], columns: usize) -> Option<Cell> {
        let find = |hidden: usize| {
            let matcher = Matcher { next, hidden, columns };
            let cell = matcher.lstm().or_else(|| matcher.gru()).or_else(|| matcher.rnn())?;
            cell.activations.iter().all(|function| function.is_recurrent()).then_some(cell)
        };
        (0..next.len()).find_map(find)
    }
}

/// Looks for a cell with a certain state as its hidden units.
struct Matcher<'a> {
    next: &'a [Option<Shared>],
    hidden: usize,
    columns: usize,
}

impl Matcher<'_> {
    fn new_hidden(&self) -> Option<&Shared> {
        self.next.get(self.hidden)?.as_ref()
    }

    /// act(x·W + h·R + b)
    fn rnn(&self) -> Option<Cell> {
        let (function, sum) = activated(self.new_hidden()?)?;
        Some(Cell {
            op: "RNN",
            hidden: self.hidden,
            memory: None,
            gates: vec![self.gate(sum)?],
            activations: vec![function],
            resets_last: false,
        })
    }

    /// c' = f·c + i·g and h' = o·act(c')
    fn lstm(&self) -> Option<Cell> {
        product(self.new_hidden()?)?.into_iter().find_map(|(output, squashed)| {
            let Term::Activated(last, memory) = squashed.as_ref() else { return None };
            let is_memory =
                |next: &Option<Shared>| next.as_ref().is_some_and(|n| Rc::ptr_eq(n, memory));
            let place =
                self.next.iter().position(is_memory).filter(|place| *place != self.hidden)?;
            let (function, output) = activated(output)?;
            let (input, forget, candidate, second) =
                sum(memory)?.into_iter().find_map(|(kept, new)| {
                    let forget = product(kept)?.into_iter().find_map(|(gate, state)| {
                        is_state(state, place).then(|| activated(gate)).flatten()
                    });
                    let (_, forget) = forget.filter(|(own, _)| *own == function)?;
                    product(new)?.into_iter().find_map(|(input, candidate)| {
                        let ((own, input), (second, candidate)) =
                            (activated(input)?, activated(candidate)?);
                        (own == function).then_some((input, forget, candidate, second))
                    })
                })?;
            let gates = [input, output, forget, candidate].map(|sum| self.gate(sum));
            Some(Cell {
                op: "LSTM",
                hidden: self.hidden,
                memory: Some(place),
                gates: gates.into_iter().collect::<Option<_>>()?,
                activations: vec![function, second, *last],
                resets_last: false,
            })
        })
    }

    /// h' = z·h + (1 − z)·n
    fn gru(&self) -> Option<Cell> {
        let (update, is_kept, new) = sum(self.new_hidden()?)?
            .into_iter()
            .find_map(|(a, b)| self.blend(a, b).or_else(|| self.change(a, b)))?;
        let (function, update) = activated(update)?;
        // The complement of a sigmoid is that of the negative sum.
        let update = match is_kept {
            true => self.gate(update)?,
            false if function == Activation::SIGMOID => {
                self.gate(&update.times(&Array1::from_elem(update.bias.len(), -1.0)))?
            }
            false => return None,
        };
        let Term::Activated(second, new) = new.as_ref() else { return None };
        let (own, reset, candidate, resets_last) = match new.as_ref() {
            Term::Affine(sum) => self.reset_first(sum)?,
            _ => self.reset_last(new)?,
        };
        (own == function).then_some(Cell {
            op: "GRU",
            hidden: self.hidden,
            memory: None,
            gates: vec![update, reset, candidate],
            activations: vec![function, *second],
            resets_last,
        })
    }

    /// The update gate, whether it multiplies the old units, and the new units, in a weighted mean of both.
    fn blend<'t>(
        &self,
        kept: &'t Shared,
        new: &'t Shared,
    ) -> Option<(&'t Shared, bool, &'t Shared)> {
        let old = |(_, state): &(&Shared, &Shared)| is_state(state, self.hidden);
        let (weight, _) = product(kept)?.into_iter().find(old)?;
        product(new)?.into_iter().find_map(|(other, new)| {
            if is_complement(other, weight) {
                return Some((weight, true, new));
            }
            is_complement(weight, other).then_some((other, false, new))
        })
    }

    /// The same for n + z·(h − n) and h + z·(n − h).
    fn change<'t>(
        &self,
        from: &'t Shared,
        change: &'t Shared,
    ) -> Option<(&'t Shared, bool, &'t Shared)> {
        product(change)?.into_iter().find_map(|(gate, difference)| {
            let Term::Difference(to, own) = difference.as_ref() else { return None };
            let is_old = |term: &Shared| is_state(term, self.hidden);
            match is_same(own, from) {
                true if is_old(to) => Some((gate, true, from)),
                true if is_old(from) => Some((gate, false, to)),
                _ => None,
            }
        })
    }

    /// The gates of x·W + (r·h)·R + b.
    fn reset_first(&self, sum: &Affine) -> Option<(Activation, Gate, Gate, bool)> {
        let is_reset = |factor: &Shared| matches!(factor.as_ref(), Term::Product(..));
        let (factor, _) = sum.products.iter().find(|(factor, _)| is_reset(factor))?;
        let old = |(_, state): &(&Shared, &Shared)| is_state(state, self.hidden);
        let (reset, _) = product(factor)?.into_iter().find(old)?;
        let (function, reset) = activated(reset)?;
        let candidate = self.gate_over(sum, |own| is_same(own, factor))?;
        Some((function, self.gate(reset)?, candidate, false))
    }

    /// The gates of x·W + b + r·(h·R + b').
    fn reset_last(&self, sum: &Shared) -> Option<(Activation, Gate, Gate, bool)> {
        let (mut inputs, mut resets) = (Affine::constant(Array1::zeros(sum.columns())), Vec::new());
        for addend in addends(sum)? {
            match addend.as_ref() {
                Term::Affine(part) => inputs = inputs.plus(part),
                Term::Product(..) => resets.push(addend),
                _ => return None,
            }
        }
        let [only] = resets.as_slice() else { return None };
        let (function, reset, recurred) = product(only)?.into_iter().find_map(|(gate, sum)| {
            let Term::Affine(recurred) = sum.as_ref() else { return None };
            let (function, reset) = activated(gate)?;
            Some((function, reset, recurred))
        })?;
        let inputs = self.gate_over(&inputs, |_| false)?;
        let recurred = self.gate(recurred)?;
        if recurred.inputs.iter().any(|weight| *weight != 0.0) {
            return None;
        }
        let candidate = Gate { hidden: recurred.hidden, hidden_bias: recurred.bias, ..inputs };
        Some((function, self.gate(reset)?, candidate, true))
    }

    /// A gate of the step's input and the hidden units.
    fn gate(&self, sum: &Affine) -> Option<Gate> {
        self.gate_over(sum, |factor| is_state(factor, self.hidden))
    }

    /// A gate of the step's input and the terms that count as hidden units.
    fn gate_over(&self, sum: &Affine, is_hidden: impl Fn(&Shared) -> bool) -> Option<Gate> {
        let units = self.new_hidden()?.columns();
        let mut gate = Gate {
            inputs: Array2::zeros((self.columns, units)),
            hidden: Array2::zeros((units, units)),
            bias: sum.bias.clone(),
            hidden_bias: Array1::zeros(units),
        };
        if sum.bias.len() != units {
            return None;
        }
        for (factor, matrix) in &sum.products {
            let place = match factor.as_ref() {
                Term::Whole(Source::Input, _) => &mut gate.inputs,
                _ if is_hidden(factor) => &mut gate.hidden,
                _ => return None,
            };
            if place.dim() != matrix.dim() {
                return None;
            }
            place.assign(matrix);
        }
        Some(gate)
    }
}

/// The function of a term and the sum that it is applied to.
fn activated(term: &Shared) -> Option<(Activation, &Affine)> {
    match term.as_ref() {
        Term::Activated(function, x) => match x.as_ref() {
            Term::Affine(sum) => Some((*function, sum)),
            _ => None,
        },
        _ => None,
    }
}

type Pair<'t> = (&'t Shared, &'t Shared);

/// The factors of a product in both orders.
fn product(term: &Shared) -> Option<[Pair<'_>; 2]> {
    match term.as_ref() {
        Term::Product(a, b) => Some([(a, b), (b, a)]),
        _ => None,
    }
}

/// The addends of a sum in both orders.
fn sum(term: &Shared) -> Option<[Pair<'_>; 2]> {
    match term.as_ref() {
        Term::Sum(a, b) => Some([(a, b), (b, a)]),
        _ => None,
    }
}

/// All addends of a sum of sums.
fn addends(term: &Shared) -> Option<Vec<&Shared>> {
    let (mut waiting, mut found) = (vec![term], Vec::new());
    while let Some(term) = waiting.pop() {
        match term.as_ref() {
            Term::Sum(a, b) => waiting.extend([a, b]),
            _ => found.push(term),
        }
        if waiting.len() + found.len() > MOST_ADDENDS {
            return None;
        }
    }
    Some(found)
}

fn is_state(term: &Shared, place: usize) -> bool {
    matches!(term.as_ref(), Term::Whole(Source::State(own), _) if *own == place)
}

/// Whether a term is 1 minus another one.
fn is_complement(term: &Shared, of: &Shared) -> bool {
    matches!(term.as_ref(), Term::Complement(x) if is_same(x, of))
}

//! Neurons of one layer by the tasks that own them, and how more tasks join.
//!
//! A layer's error is quadratic in its weights, so neurons that tasks share already are one more
//! layer: their Hessians add up, and their common weights are its weights. Adding one net at a time
//! (sec. 3.4) then is the paper's pair of layers over and over.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::error::Result;

use super::columns::rest;
use super::fuse::{apply_masks, readjust};
use super::matcher::Pairing;
use super::options::{Method, ZipOptions};
use super::pair::{Factors, Problem};
use super::solve::schur;

/// Neurons of a layer that the same members of a site own.
#[derive(Debug, Clone)]
pub(super) struct Party {
    /// The members, in the order in which they joined.
    pub(super) members: Vec<usize>,
    /// The common inputs that the weights and the Hessian speak of, ascending.
    pub(super) inputs: Vec<usize>,
    /// The members' Hessians over these inputs, added up; empty where nobody joins any more.
    pub(super) hessian: Array2<f64>,
    /// Weights, neurons × inputs.
    pub(super) weights: Array2<f64>,
    /// How much each neuron matters.
    pub(super) importance: Option<Array1<f64>>,
    /// Per neuron, its row in each member.
    pub(super) rows: Vec<Vec<usize>>,
    /// Whether zeros mean "no connection" (sec. 3.6); never for the bias, the input `constant`.
    pub(super) sparse: bool,
    /// The constant input.
    pub(super) constant: usize,
}

/// Two parties over the inputs that both have.
pub(super) struct Meeting {
    problem: Problem,
    factors: Factors,
    inputs: Vec<usize>,
    gains: [Option<Array2<f64>>; 2],
}

impl Party {
    /// The places of `inputs` among the party's own.
    pub(super) fn places(&self, inputs: &[usize]) -> Vec<usize> {
        inputs.iter().filter_map(|i| self.inputs.binary_search(i).ok()).collect()
    }

    /// The party without the neurons at `gone`, if any are left.
    fn without(mut self, gone: &[usize]) -> Option<Party> {
        let kept = rest(gone, self.rows.len());
        self.weights = self.weights.select(Axis(0), &kept);
        self.importance = self.importance.map(|s| s.select(Axis(0), &kept));
        self.rows = kept.iter().map(|n| self.rows[*n].clone()).collect();
        (!kept.is_empty()).then_some(self)
    }

    /// The Hessian and weights over some of the inputs. In `refit`, what other inputs can make up
    /// for does not count; their gain tells how they do.
    fn over(&mut self, inputs: &[usize], keep: bool, options: &ZipOptions) -> Result<Reduced> {
        let shared = self.places(inputs);
        let weights = self.weights.select(Axis(1), &shared);
        if shared.len() == self.inputs.len() {
            let hessian = match keep {
                true => self.hessian.clone(),
                false => std::mem::take(&mut self.hessian),
            };
            return Ok(Reduced { hessian, gain: None, weights });
        }
        let (hessian, gain) = reduced(self.hessian.view(), &shared, self.inputs.len(), options)?;
        Ok(Reduced { hessian, gain, weights })
    }

    /// The two parties over the inputs that both have. A Hessian that is not to be kept may move
    /// into the meeting.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Numeric`] where a Hessian cannot be factored.
    pub(super) fn meet(
        &mut self,
        other: &mut Party,
        [keep, keep_other]: [bool; 2],
        options: &ZipOptions,
    ) -> Result<Meeting> {
        let has = |i: &&usize| other.inputs.binary_search(i).is_ok();
        let inputs: Vec<usize> = self.inputs.iter().filter(has).copied().collect();
        let a = self.over(&inputs, keep, options)?;
        let b = other.over(&inputs, keep_other, options)?;
        let problem = Problem {
            h_a: a.hessian,
            h_b: b.hessian,
            w_a: a.weights,
            w_b: b.weights,
            s_a: self.importance.clone(),
            s_b: other.importance.clone(),
        };
        Ok(Meeting { problem, factors: Factors::default(), inputs, gains: [a.gain, b.gain] })
    }
}

/// A Hessian over its `shared` columns (eqs. 7–8). In `refit`, what the other columns below `width` can
/// make up for does not count, and the gain tells how they do; see [`readjust`].
///
/// # Errors
/// [`crate::error::ErrorKind::Numeric`] where the Hessian cannot be factored.
pub(super) fn reduced(
    hessian: ArrayView2<f64>,
    shared: &[usize],
    width: usize,
    options: &ZipOptions,
) -> Result<(Array2<f64>, Option<Array2<f64>>)> {
    let private = match options.method {
        Method::Mtz => Vec::new(),
        Method::Refit => rest(shared, width),
    };
    let part = schur(hessian, shared, &private, options.damping)?;
    Ok((part.hessian, (!private.is_empty()).then_some(part.gain)))
}

struct Reduced {
    hessian: Array2<f64>,
    gain: Option<Array2<f64>>,
    weights: Array2<f64>,
}

impl Meeting {
    /// What each pair costs, neurons of the one party × neurons of the other.
    ///
    /// # Errors
    /// As [`Problem::cost`].
    pub(super) fn cost(&mut self, options: &ZipOptions) -> Result<Array2<f64>> {
        self.problem.cost_keeping(options.metric, options.damping, &mut self.factors)
    }

    /// Makes each pair one neuron.
    ///
    /// # Errors
    /// As [`Problem::fuse`].
    pub(super) fn join(
        &self,
        a: &Party,
        b: &Party,
        pairs: &[(usize, usize)],
        options: &ZipOptions,
    ) -> Result<Party> {
        let mut fused = self.problem.fuse_with(pairs, options.damping, &self.factors)?;
        if a.sparse && b.sparse {
            self.mask(a.constant, pairs, &mut fused);
        }
        let (left, right): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
        let moved = |party: &Party, rows: &[usize], gain: &Option<Array2<f64>>| {
            let columns = party.places(&self.inputs);
            let change = Change {
                columns: &columns,
                common: &fused,
                private: &rest(&columns, party.inputs.len()),
                gain: gain.as_ref(),
                sparse: party.sparse,
            };
            change.of(party.weights.select(Axis(0), rows))
        };
        let parts = [(a, moved(a, &left, &self.gains[0])), (b, moved(b, &right, &self.gains[1]))];
        let mut inputs: Vec<usize> = a.inputs.iter().chain(&b.inputs).copied().collect();
        inputs.sort_unstable();
        inputs.dedup();
        let mut weights = Array2::zeros((pairs.len(), inputs.len()));
        for (party, moved) in &parts {
            let place = places(&inputs, party);
            place.iter().zip(moved.columns()).for_each(|(c, v)| weights.column_mut(*c).assign(&v));
        }
        let hessian = sum(a, b, &inputs);
        let rows =
            pairs.iter().map(|(i, j)| a.rows[*i].iter().chain(&b.rows[*j]).copied().collect());
        Ok(Party {
            members: a.members.iter().chain(&b.members).copied().collect(),
            inputs,
            hessian,
            weights,
            importance: importance(a, b, pairs),
            rows: rows.collect(),
            sparse: a.sparse && b.sparse,
            constant: a.constant,
        })
    }

    /// Applies to each fused neuron, but for its bias, the mask of the two that has more ones.
    fn mask(&self, constant: usize, pairs: &[(usize, usize)], fused: &mut Array2<f64>) {
        let (left, right): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
        let constant = self.inputs.iter().position(|i| *i == constant);
        let biases = constant.map(|c| (c, fused.column(c).to_owned()));
        let (w_a, w_b) =
            (self.problem.w_a.select(Axis(0), &left), self.problem.w_b.select(Axis(0), &right));
        apply_masks(fused, w_a.view(), w_b.view());
        if let Some((column, biases)) = biases {
            fused.column_mut(column).assign(&biases);
        }
    }
}

/// Common weights that neurons get for some of their inputs.
pub(super) struct Change<'a> {
    /// Columns that get them.
    pub(super) columns: &'a [usize],
    /// Neurons × these columns.
    pub(super) common: &'a Array2<f64>,
    /// The other columns.
    pub(super) private: &'a [usize],
    /// How the other columns make up for it; see [`readjust`]. They stay where there is none.
    pub(super) gain: Option<&'a Array2<f64>>,
    /// Whether zeros of the other columns stay.
    pub(super) sparse: bool,
}

impl Change<'_> {
    /// What the neurons' weights become.
    pub(super) fn of(&self, mut weights: Array2<f64>) -> Array2<f64> {
        let put = |weights: &mut Array2<f64>, columns: &[usize], values: &Array2<f64>| {
            let values = columns.iter().zip(values.columns());
            values.for_each(|(column, v)| weights.column_mut(*column).assign(&v));
        };
        if let Some(gain) = self.gain {
            let old = weights.select(Axis(1), self.columns);
            let own = weights.select(Axis(1), self.private);
            let mut adjusted = readjust(own.view(), gain.view(), old.view(), self.common.view());
            if self.sparse {
                keep_zeros(&mut adjusted, &own);
            }
            put(&mut weights, self.private, &adjusted);
        }
        put(&mut weights, self.columns, self.common);
        weights
    }
}

/// Lets parties join one by one; `pairs` tells, for each of those gathered so far, which of its neurons
/// become one with which of the newcomer's. What is not paired stays. Hessians are kept where somebody
/// joins later, or if all are to be kept (`keep`).
///
/// # Errors
/// As [`Party::meet`], [`Meeting::join`] and `pairs`.
pub(super) fn join_all(
    parties: Vec<Party>,
    keep: bool,
    options: &ZipOptions,
    mut pairs: impl FnMut(&[Party], &Party, &mut [Meeting]) -> Result<Vec<Vec<(usize, usize)>>>,
) -> Result<Vec<Party>> {
    let mut waiting = parties.into_iter();
    let mut gathered: Vec<Party> = waiting.next().into_iter().collect();
    while let Some(mut newcomer) = waiting.next() {
        let keep = keep || waiting.len() > 0;
        let last = gathered.len() - 1;
        let meetings = gathered.iter_mut().enumerate();
        let mut meetings = meetings
            .map(|(i, party)| party.meet(&mut newcomer, [keep, keep || i < last], options))
            .collect::<Result<Vec<Meeting>>>()?;
        let pairs = pairs(&gathered, &newcomer, &mut meetings)?;
        let mut after = Vec::new();
        for ((party, meeting), pairs) in gathered.into_iter().zip(meetings).zip(&pairs) {
            if !pairs.is_empty() {
                after.push(meeting.join(&party, &newcomer, pairs, options)?);
            }
            let paired: Vec<usize> = pairs.iter().map(|(i, _)| *i).collect();
            after.extend(party.without(&paired));
        }
        let paired: Vec<usize> = pairs.iter().flatten().map(|(_, j)| *j).collect();
        after.extend(newcomer.without(&paired));
        gathered = after;
    }
    Ok(gathered)
}

/// Takes back what a weight became that was zero.
fn keep_zeros(weights: &mut Array2<f64>, before: &Array2<f64>) {
    weights.zip_mut_with(before, |w, before| {
        if *before == 0.0 {
            *w = 0.0;
        }
    });
}

/// Where a party's inputs are among `inputs`.
fn places(inputs: &[usize], party: &Party) -> Vec<usize> {
    party.inputs.iter().filter_map(|i| inputs.binary_search(i).ok()).collect()
}

/// The sum of two Hessians over `inputs`; empty where one was not kept.
fn sum(a: &Party, b: &Party, inputs: &[usize]) -> Array2<f64> {
    if a.hessian.is_empty() || b.hessian.is_empty() {
        return Array2::default((0, 0));
    }
    let mut sum = Array2::zeros((inputs.len(), inputs.len()));
    for party in [a, b] {
        let place = places(inputs, party);
        for (row, from) in place.iter().zip(party.hessian.rows()) {
            let mut to = sum.row_mut(*row);
            place.iter().zip(from).for_each(|(column, value)| to[*column] += value);
        }
    }
    sum
}

/// The members' mean importance of each pair.
fn importance(a: &Party, b: &Party, pairs: &[(usize, usize)]) -> Option<Array1<f64>> {
    let (s_a, s_b) = (a.importance.as_ref()?, b.importance.as_ref()?);
    let (n, m) = (a.members.len() as f64, b.members.len() as f64);
    Some(pairs.iter().map(|(i, j)| (n * s_a[*i] + m * s_b[*j]) / (n + m)).collect())
}

/// Pairs of neurons of several parties, whose rows of the cost stand one below the other, with
/// neurons of one more: by party.
pub(super) fn by_party(parties: &[Party], pairing: &Pairing) -> Vec<Vec<(usize, usize)>> {
    let mut pairs = pairing.pairs().iter().copied().peekable();
    let mut start = 0;
    let split = parties.iter().map(|party| {
        let end = start + party.rows.len();
        let mut own = Vec::new();
        while let Some((i, j)) = pairs.next_if(|(i, _)| *i < end) {
            own.push((i - start, j));
        }
        start = end;
        own
    });
    split.collect()
}

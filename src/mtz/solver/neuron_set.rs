//! Neurons of one layer by the tasks that own them, and how more tasks join.
//!
//! A layer's error is quadratic in its weights, so neurons that tasks share already are one more
//! layer: their Hessians add up, and their common weights are its weights. Adding one net at a time
//! (sec. 3.4) then is the paper's pair of layers over and over.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::error::Result;
use crate::mtz::matching::Pairing;
use crate::mtz::options::{MergeOptions, Method};

use super::cholesky::schur;
use super::fuse::{apply_masks, readjust};
use super::pair_cost::{Factors, Problem};

/// Neurons of a layer that the same members of a site own.
#[derive(Debug, Clone)]
pub(crate) struct NeuronSet {
    /// The members, in the order in which they joined.
    pub(crate) members: Vec<usize>,
    /// The common inputs that the weights and the Hessian speak of, ascending.
    pub(crate) inputs: Vec<usize>,
    /// The members' Hessians over these inputs, added up; empty where nobody joins any more.
    pub(crate) hessian: Array2<f64>,
    /// Weights, neurons × inputs.
    pub(crate) weights: Array2<f64>,
    /// How much each neuron matters.
    pub(crate) importance: Option<Array1<f64>>,
    /// Per neuron, its row in each member.
    pub(crate) rows: Vec<Vec<usize>>,
    /// Whether zeros mean "no connection" (sec. 3.6); never for the bias, the input `constant`.
    pub(crate) sparse: bool,
    /// The constant input.
    pub(crate) constant: usize,
}

/// Two neuron sets over the inputs that both have.
pub(crate) struct PairProblem {
    problem: Problem,
    factors: Factors,
    inputs: Vec<usize>,
    gains: [Option<Array2<f64>>; 2],
}

impl NeuronSet {
    /// The places of `inputs` among the neuron set's own.
    pub(crate) fn places(&self, inputs: &[usize]) -> Vec<usize> {
        inputs.iter().filter_map(|i| self.inputs.binary_search(i).ok()).collect()
    }

    /// The neuron set without the neurons at `gone`, if any are left.
    fn without(mut self, gone: &[usize]) -> Option<NeuronSet> {
        let kept = complement(gone, self.rows.len());
        self.weights = self.weights.select(Axis(0), &kept);
        self.importance = self.importance.map(|s| s.select(Axis(0), &kept));
        self.rows = kept.iter().map(|n| self.rows[*n].clone()).collect();
        (!kept.is_empty()).then_some(self)
    }

    /// The Hessian and weights over some of the inputs. In `refit`, what other inputs can make up
    /// for does not count; their gain tells how they do.
    fn over(&mut self, inputs: &[usize], keep: bool, options: &MergeOptions) -> Result<Reduced> {
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

    /// The two neuron sets over the inputs that both have. A Hessian that is not to be kept may move
    /// into the meeting.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Numeric`] where a Hessian cannot be factored.
    pub(crate) fn pair_problem(
        &mut self,
        other: &mut NeuronSet,
        [keep, keep_other]: [bool; 2],
        options: &MergeOptions,
    ) -> Result<PairProblem> {
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
        Ok(PairProblem { problem, factors: Factors::default(), inputs, gains: [a.gain, b.gain] })
    }
}

/// A Hessian over its `shared` columns (eqs. 7–8). In `refit`, what the other columns below `width` can
/// make up for does not count, and the gain tells how they do; see [`readjust`].
///
/// # Errors
/// [`crate::error::ErrorKind::Numeric`] where the Hessian cannot be factored.
pub(crate) fn reduced(
    hessian: ArrayView2<f64>,
    shared: &[usize],
    width: usize,
    options: &MergeOptions,
) -> Result<(Array2<f64>, Option<Array2<f64>>)> {
    let private = match options.method {
        Method::Mtz => Vec::new(),
        Method::Refit => complement(shared, width),
    };
    let part = schur(hessian, shared, &private, options.damping)?;
    Ok((part.hessian, (!private.is_empty()).then_some(part.gain)))
}

struct Reduced {
    hessian: Array2<f64>,
    gain: Option<Array2<f64>>,
    weights: Array2<f64>,
}

impl PairProblem {
    /// What each pair costs, neurons of the one neuron set × neurons of the other.
    ///
    /// # Errors
    /// As [`Problem::cost`].
    pub(crate) fn cost(&mut self, options: &MergeOptions) -> Result<Array2<f64>> {
        self.problem.cost_keeping(options.metric, options.damping, &mut self.factors)
    }

    /// Makes each pair one neuron.
    ///
    /// # Errors
    /// As [`Problem::fuse`].
    pub(crate) fn join(
        &self,
        a: &NeuronSet,
        b: &NeuronSet,
        pairs: &[(usize, usize)],
        options: &MergeOptions,
    ) -> Result<NeuronSet> {
        let mut fused = self.problem.fuse_with(pairs, options.damping, &self.factors)?;
        if a.sparse && b.sparse {
            self.mask(a.constant, pairs, &mut fused);
        }
        let (left, right): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
        let moved = |set: &NeuronSet, rows: &[usize], gain: &Option<Array2<f64>>| {
            let columns = set.places(&self.inputs);
            let change = WeightChange {
                columns: &columns,
                common: &fused,
                private: &complement(&columns, set.inputs.len()),
                gain: gain.as_ref(),
                sparse: set.sparse,
            };
            change.of(set.weights.select(Axis(0), rows))
        };
        let parts = [(a, moved(a, &left, &self.gains[0])), (b, moved(b, &right, &self.gains[1]))];
        let mut inputs: Vec<usize> = a.inputs.iter().chain(&b.inputs).copied().collect();
        inputs.sort_unstable();
        inputs.dedup();
        let mut weights = Array2::zeros((pairs.len(), inputs.len()));
        for (set, moved) in &parts {
            let place = places(&inputs, set);
            place.iter().zip(moved.columns()).for_each(|(c, v)| weights.column_mut(*c).assign(&v));
        }
        let hessian = sum(a, b, &inputs);
        let rows =
            pairs.iter().map(|(i, j)| a.rows[*i].iter().chain(&b.rows[*j]).copied().collect());
        Ok(NeuronSet {
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
pub(crate) struct WeightChange<'a> {
    /// Columns that get them.
    pub(crate) columns: &'a [usize],
    /// Neurons × these columns.
    pub(crate) common: &'a Array2<f64>,
    /// The other columns.
    pub(crate) private: &'a [usize],
    /// How the other columns make up for it; see [`readjust`]. They stay where there is none.
    pub(crate) gain: Option<&'a Array2<f64>>,
    /// Whether zeros of the other columns stay.
    pub(crate) sparse: bool,
}

impl WeightChange<'_> {
    /// What the neurons' weights become.
    pub(crate) fn of(&self, mut weights: Array2<f64>) -> Array2<f64> {
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

/// Lets neuron sets join one by one; `pairs` tells, for each of those gathered so far, which of its neurons
/// become one with which of the next net's. What is not paired stays. Hessians are kept where somebody
/// joins later, or if all are to be kept (`keep`).
///
/// # Errors
/// As [`NeuronSet::pair_problem`], [`PairProblem::join`] and `pairs`.
pub(crate) fn join_sets(
    sets: Vec<NeuronSet>,
    keep: bool,
    options: &MergeOptions,
    mut pairs: impl FnMut(
        &[NeuronSet],
        &NeuronSet,
        &mut [PairProblem],
    ) -> Result<Vec<Vec<(usize, usize)>>>,
) -> Result<Vec<NeuronSet>> {
    let mut waiting = sets.into_iter();
    let mut gathered: Vec<NeuronSet> = waiting.next().into_iter().collect();
    while let Some(mut next_net) = waiting.next() {
        let keep = keep || waiting.len() > 0;
        let last = gathered.len() - 1;
        let problems = gathered.iter_mut().enumerate();
        let mut problems = problems
            .map(|(i, set)| set.pair_problem(&mut next_net, [keep, keep || i < last], options))
            .collect::<Result<Vec<PairProblem>>>()?;
        let pairs = pairs(&gathered, &next_net, &mut problems)?;
        let mut after = Vec::new();
        for ((set, problem), pairs) in gathered.into_iter().zip(problems).zip(&pairs) {
            if !pairs.is_empty() {
                after.push(problem.join(&set, &next_net, pairs, options)?);
            }
            let paired: Vec<usize> = pairs.iter().map(|(i, _)| *i).collect();
            after.extend(set.without(&paired));
        }
        let paired: Vec<usize> = pairs.iter().flatten().map(|(_, j)| *j).collect();
        after.extend(next_net.without(&paired));
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

/// Where a neuron set's inputs are among `inputs`.
fn places(inputs: &[usize], set: &NeuronSet) -> Vec<usize> {
    set.inputs.iter().filter_map(|i| inputs.binary_search(i).ok()).collect()
}

/// The sum of two Hessians over `inputs`; empty where one was not kept.
fn sum(a: &NeuronSet, b: &NeuronSet, inputs: &[usize]) -> Array2<f64> {
    if a.hessian.is_empty() || b.hessian.is_empty() {
        return Array2::default((0, 0));
    }
    let mut sum = Array2::zeros((inputs.len(), inputs.len()));
    for set in [a, b] {
        let place = places(inputs, set);
        for (row, from) in place.iter().zip(set.hessian.rows()) {
            let mut to = sum.row_mut(*row);
            place.iter().zip(from).for_each(|(column, value)| to[*column] += value);
        }
    }
    sum
}

/// The members' mean importance of each pair.
fn importance(a: &NeuronSet, b: &NeuronSet, pairs: &[(usize, usize)]) -> Option<Array1<f64>> {
    let (s_a, s_b) = (a.importance.as_ref()?, b.importance.as_ref()?);
    let (n, m) = (a.members.len() as f64, b.members.len() as f64);
    Some(pairs.iter().map(|(i, j)| (n * s_a[*i] + m * s_b[*j]) / (n + m)).collect())
}

/// Pairs of neurons of several neuron sets, whose rows of the cost stand one below the other, with
/// neurons of one more: by neuron set.
pub(crate) fn split_by_set(sets: &[NeuronSet], pairing: &Pairing) -> Vec<Vec<(usize, usize)>> {
    let mut pairs = pairing.pairs().iter().copied().peekable();
    let mut start = 0;
    let split = sets.iter().map(|set| {
        let end = start + set.rows.len();
        let mut own = Vec::new();
        while let Some((i, j)) = pairs.next_if(|(i, _)| *i < end) {
            own.push((i - start, j));
        }
        start = end;
        own
    });
    split.collect()
}

/// The columns below `width` that are not in `shared`.
pub(crate) fn complement(shared: &[usize], width: usize) -> Vec<usize> {
    let mut private = vec![true; width];
    for column in shared.iter().filter(|c| **c < width) {
        private[*column] = false;
    }
    (0..width).filter(|c| private[*c]).collect()
}

//! Neurons of one layer with the same owners, and joins with further tasks.
//!
//! A layer's error is quadratic in its weights. So neurons that tasks share already act as one layer,
//! with the sum of the Hessians and the common weights. Adding one net at a time (sec. 3.4) then
//! repeats the paper's step for a pair of layers.

mod correction;

use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, Zip};

use crate::error::Result;
use crate::mtz::matching::Pairing;

use super::correction::{Correction, Wish};
use super::fuse::apply_masks;
use super::hessian::{Gain, Hessian, Reduced, block};
use super::options::SolverOptions;
use super::pair_cost::{Factors, Problem, Weights, sensitivity};

/// Neurons of a layer that the same members of a site own.
#[derive(Debug, Clone)]
pub(crate) struct NeuronSet {
    /// The members, in the order in which they joined.
    pub(crate) members: Vec<usize>,
    /// The common inputs of the weights and the Hessian, ascending.
    pub(crate) inputs: Vec<usize>,
    /// The sum of the members' Hessians over these inputs; empty if no further set joins.
    pub(crate) hessian: Hessian,
    /// Weights, neurons × inputs.
    pub(crate) weights: Weights,
    /// The weight of each neuron's error.
    pub(crate) importance: Option<Array1<f64>>,
    /// Per neuron, its row in each member.
    pub(crate) rows: Vec<Vec<usize>>,
    /// Whether zeros mean "no connection" (sec. 3.6); never for the bias, the input `constant`.
    pub(crate) sparse: bool,
    /// The constant input.
    pub(crate) constant: usize,
    /// Its correction when it joins others; `None` without corrections.
    pub(crate) wish: Option<Wish>,
    /// Whether its inputs are all inputs of each member.
    pub(crate) is_whole: bool,
    /// Whether its neurons may be scaled copies of those that they join.
    pub(crate) scales: bool,
    /// Corrections of the members' weights.
    pub(crate) corrections: Vec<Correction>,
}

/// Two neuron sets over the inputs that both have.
pub(crate) struct PairProblem {
    problem: Problem,
    factors: Factors,
    inputs: Vec<usize>,
    gains: [Option<Gain>; 2],
}

impl NeuronSet {
    /// The places of `inputs` among the neuron set's own.
    pub(crate) fn places(&self, inputs: &[usize]) -> Vec<usize> {
        inputs.iter().filter_map(|i| self.inputs.binary_search(i).ok()).collect()
    }

    /// The set without the neurons at `gone`, if any are left.
    fn without(mut self, gone: &[usize]) -> Option<NeuronSet> {
        let kept = complement(gone, self.rows.len());
        self.weights = self.weights.select(Axis(0), &kept).into_shared();
        self.importance = self.importance.map(|s| s.select(Axis(0), &kept));
        self.rows = kept.iter().map(|n| self.rows[*n].clone()).collect();
        (!kept.is_empty()).then_some(self)
    }

    /// The Hessian and weights over some of the inputs. In `refit`, errors that other inputs can
    /// compensate do not count; the gain says how they compensate.
    fn over(&self, inputs: &[usize], options: SolverOptions) -> Result<(Reduced, Weights)> {
        let shared = self.places(inputs);
        let own = reduced(&self.hessian, &shared, self.inputs.len(), options)?;
        Ok((own, some_columns(&self.weights, &shared)))
    }

    /// The two sets over the inputs that both have.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Numeric`] where a Hessian cannot be factored.
    pub(crate) fn pair_problem(
        &self,
        other: &NeuronSet,
        options: SolverOptions,
    ) -> Result<PairProblem> {
        let has = |i: &&usize| other.inputs.binary_search(i).is_ok();
        let inputs: Vec<usize> = self.inputs.iter().filter(has).copied().collect();
        let (a, w_a) = self.over(&inputs, options)?;
        let (b, w_b) = other.over(&inputs, options)?;
        let problem = Problem {
            h_a: a.hessian,
            h_b: b.hessian,
            w_a,
            w_b,
            s_a: self.importance.clone(),
            s_b: other.importance.clone(),
        };
        Ok(PairProblem { problem, factors: Factors::default(), inputs, gains: [a.gain, b.gain] })
    }
}

/// A Hessian over its `shared` columns (eqs. 7–8). In `refit`, errors that the other columns below
/// `width` can compensate do not count; the gain says how they compensate.
///
/// # Errors
/// [`crate::error::ErrorKind::Numeric`] where the Hessian cannot be factored.
pub(crate) fn reduced(
    hessian: &Hessian,
    shared: &[usize],
    width: usize,
    options: SolverOptions,
) -> Result<Reduced> {
    let private = match options.compensates {
        true => complement(shared, width),
        false => Vec::new(),
    };
    hessian.reduced(shared, &private, options.damping)
}

/// Some columns of weights, without a copy where these are all.
pub(crate) fn some_columns(weights: &Weights, columns: &[usize]) -> Weights {
    match columns.iter().copied().eq(0..weights.ncols()) {
        true => weights.clone(),
        false => weights.select(Axis(1), columns).into_shared(),
    }
}

impl PairProblem {
    /// The cost of each pair, neurons of one neuron set × neurons of the other.
    ///
    /// # Errors
    /// As [`Problem::cost`].
    pub(crate) fn cost(&mut self, options: SolverOptions) -> Result<Array2<f64>> {
        self.problem.cost_keeping(options.metric, options.damping, &mut self.factors)
    }

    /// Fuses each pair into one neuron; keeps the Hessian if it will be needed (`keep`).
    ///
    /// # Errors
    /// As [`Problem::fuse`].
    pub(crate) fn join(
        &self,
        a: &NeuronSet,
        b: &NeuronSet,
        pairs: &[(usize, usize)],
        keep: bool,
        options: SolverOptions,
    ) -> Result<NeuronSet> {
        let mut fused = self.problem.fuse_with(pairs, options.damping, &self.factors)?;
        if a.sparse && b.sparse {
            self.mask(a.constant, pairs, &mut fused);
        }
        let mut inputs: Vec<usize> = a.inputs.iter().chain(&b.inputs).copied().collect();
        inputs.sort_unstable();
        inputs.dedup();
        let rows =
            pairs.iter().map(|(i, j)| a.rows[*i].iter().chain(&b.rows[*j]).copied().collect());
        Ok(NeuronSet {
            members: a.members.iter().chain(&b.members).copied().collect(),
            hessian: match keep {
                true => {
                    let (here, there) = (places(&inputs, a), places(&inputs, b));
                    Hessian::sum([(&a.hessian, &here), (&b.hessian, &there)], inputs.len())
                }
                false => Hessian::empty(),
            },
            weights: self.all_weights([a, b], &inputs, pairs, fused).into_shared(),
            inputs,
            importance: self.importance([a, b], pairs),
            rows: rows.collect(),
            sparse: a.sparse && b.sparse,
            constant: a.constant,
            wish: None,
            is_whole: a.is_whole && b.is_whole,
            scales: false,
            corrections: a.corrections.iter().chain(&b.corrections).cloned().collect(),
        })
    }

    /// The weights of fused neurons for the inputs of either set.
    fn all_weights(
        &self,
        sets: [&NeuronSet; 2],
        inputs: &[usize],
        pairs: &[(usize, usize)],
        fused: Array2<f32>,
    ) -> Array2<f32> {
        if inputs == self.inputs {
            return fused;
        }
        let (left, right): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
        let mut weights = Array2::zeros((pairs.len(), inputs.len()));
        for ((set, rows), gain) in sets.into_iter().zip([left, right]).zip(&self.gains) {
            let columns = set.places(&self.inputs);
            let change = WeightChange {
                columns: &columns,
                common: fused.view(),
                private: &complement(&columns, set.inputs.len()),
                gain: gain.as_ref(),
                sparse: set.sparse,
            };
            let moved = change.of(set.weights.select(Axis(0), &rows));
            let place = places(inputs, set);
            place.iter().zip(moved.columns()).for_each(|(c, v)| weights.column_mut(*c).assign(&v));
        }
        weights
    }

    /// The mean sensitivity of each pair's members to errors of the common weights; `None` without any.
    fn importance(&self, [a, b]: [&NeuronSet; 2], pairs: &[(usize, usize)]) -> Option<Array1<f64>> {
        let Problem { s_a, s_b, .. } = &self.problem;
        let (n, m) = (a.members.len() as f64, b.members.len() as f64);
        let mean = |(i, j): &(usize, usize)| {
            (n * sensitivity(s_a, *i) + m * sensitivity(s_b, *j)) / (n + m)
        };
        (s_a.is_some() || s_b.is_some()).then(|| pairs.iter().map(mean).collect())
    }

    /// Applies to each fused neuron, except its bias, the mask with more ones of the two.
    fn mask(&self, constant: usize, pairs: &[(usize, usize)], fused: &mut Array2<f32>) {
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
    pub(crate) common: ArrayView2<'a, f32>,
    /// The other columns.
    pub(crate) private: &'a [usize],
    /// The gain of the other columns; they stay without one.
    pub(crate) gain: Option<&'a Gain>,
    /// Whether zeros of the other columns stay.
    pub(crate) sparse: bool,
}

impl WeightChange<'_> {
    /// The neurons' new weights.
    pub(crate) fn of(&self, mut weights: Array2<f32>) -> Array2<f32> {
        let block = block(weights.ncols());
        let blocks = weights.axis_chunks_iter_mut(Axis(0), block);
        for (mut weights, common) in blocks.zip(self.common.axis_chunks_iter(Axis(0), block)) {
            if let Some(gain) = self.gain {
                let old = weights.select(Axis(1), self.columns);
                let own = weights.select(Axis(1), self.private);
                let mut adjusted = gain.readjust(own.view(), old.view(), common).mapv(|w| w as f32);
                if self.sparse {
                    keep_zeros(&mut adjusted, &own);
                }
                put(&mut weights, self.private, adjusted.view());
            }
            put(&mut weights, self.columns, common);
        }
        weights
    }
}

/// Writes values into some columns of weights.
fn put(weights: &mut ArrayViewMut2<f32>, columns: &[usize], values: ArrayView2<f32>) {
    Zip::from(weights.rows_mut()).and(values.rows()).for_each(|mut to, from| {
        columns.iter().zip(from).for_each(|(column, value)| to[*column] = *value);
    });
}

/// Joins sets one by one. `pairs` returns, for each set gathered so far, its pairs with neurons of the
/// next net. Unpaired neurons stay in their sets. Sums of Hessians are computed only if further sets
/// join, or with `keep`.
///
/// # Errors
/// As [`NeuronSet::pair_problem`], [`PairProblem::join`] and `pairs`.
pub(crate) fn join_sets(
    sets: Vec<NeuronSet>,
    keep: bool,
    options: SolverOptions,
    mut pairs: impl FnMut(
        &[NeuronSet],
        &NeuronSet,
        &mut [PairProblem],
    ) -> Result<Vec<Vec<(usize, usize)>>>,
) -> Result<Vec<NeuronSet>> {
    let mut waiting = sets.into_iter();
    let mut gathered: Vec<NeuronSet> = waiting.next().into_iter().collect();
    while let Some(next_net) = waiting.next() {
        let keep = keep || waiting.len() > 0;
        let mut problems = gathered
            .iter()
            .map(|set| set.pair_problem(&next_net, options))
            .collect::<Result<Vec<PairProblem>>>()?;
        let pairs = pairs(&gathered, &next_net, &mut problems)?;
        let mut after = Vec::new();
        for ((set, mut problem), pairs) in gathered.into_iter().zip(problems).zip(&pairs) {
            if !pairs.is_empty() {
                let correction = problem.correct(&set, &next_net, pairs, options)?;
                let mut joined = problem.join(&set, &next_net, pairs, keep, options)?;
                joined.corrections.extend(correction);
                after.push(joined);
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

/// Resets weights that were zero.
fn keep_zeros(weights: &mut Array2<f32>, before: &Array2<f32>) {
    weights.zip_mut_with(before, |w, before| {
        if *before == 0.0 {
            *w = 0.0;
        }
    });
}

/// The positions of a neuron set's inputs in `inputs`.
fn places(inputs: &[usize], set: &NeuronSet) -> Vec<usize> {
    set.inputs.iter().filter_map(|i| inputs.binary_search(i).ok()).collect()
}

/// Splits pairs between several neuron sets, whose rows are stacked in the cost, and one further set by
/// neuron set.
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

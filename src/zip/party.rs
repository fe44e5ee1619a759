//! Neurons of one layer by the tasks that own them, and how more tasks join.
//!
//! A layer's error is quadratic in its weights, so neurons that tasks share already are one more
//! layer: their Hessians add up, and their common weights are its weights. Adding one net at a time
//! (sec. 3.4) then is the paper's pair of layers over and over.

use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, Zip};

use crate::error::Result;

use super::columns::rest;
use super::fuse::apply_masks;
use super::hessian::{Gain, Hessian, Reduced, block};
use super::matcher::Pairing;
use super::options::{Method, ZipOptions};
use super::pair::{Factors, Problem, Weights};

/// Neurons of a layer that the same members of a site own.
#[derive(Debug, Clone)]
pub(super) struct Party {
    /// The members, in the order in which they joined.
    pub(super) members: Vec<usize>,
    /// The common inputs that the weights and the Hessian speak of, ascending.
    pub(super) inputs: Vec<usize>,
    /// The members' Hessians over these inputs, added up; empty where nobody joins any more.
    pub(super) hessian: Hessian,
    /// Weights, neurons × inputs.
    pub(super) weights: Weights,
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
    gains: [Option<Gain>; 2],
}

impl Party {
    /// The places of `inputs` among the party's own.
    pub(super) fn places(&self, inputs: &[usize]) -> Vec<usize> {
        inputs.iter().filter_map(|i| self.inputs.binary_search(i).ok()).collect()
    }

    /// The party without the neurons at `gone`, if any are left.
    fn without(mut self, gone: &[usize]) -> Option<Party> {
        let kept = rest(gone, self.rows.len());
        self.weights = self.weights.select(Axis(0), &kept).into_shared();
        self.importance = self.importance.map(|s| s.select(Axis(0), &kept));
        self.rows = kept.iter().map(|n| self.rows[*n].clone()).collect();
        (!kept.is_empty()).then_some(self)
    }

    /// The Hessian and weights over some of the inputs. In `refit`, what other inputs can make up
    /// for does not count; their gain tells how they do.
    fn over(&self, inputs: &[usize], options: &ZipOptions) -> Result<(Reduced, Weights)> {
        let shared = self.places(inputs);
        let own = reduced(&self.hessian, &shared, self.inputs.len(), options)?;
        Ok((own, some_columns(&self.weights, &shared)))
    }

    /// The two parties over the inputs that both have.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Numeric`] where a Hessian cannot be factored.
    pub(super) fn meet(&self, other: &Party, options: &ZipOptions) -> Result<Meeting> {
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
        Ok(Meeting { problem, factors: Factors::default(), inputs, gains: [a.gain, b.gain] })
    }
}

/// A Hessian over its `shared` columns (eqs. 7–8). In `refit`, what the other columns below `width` can
/// make up for does not count, and the gain tells how they do.
///
/// # Errors
/// [`crate::error::ErrorKind::Numeric`] where the Hessian cannot be factored.
pub(super) fn reduced(
    hessian: &Hessian,
    shared: &[usize],
    width: usize,
    options: &ZipOptions,
) -> Result<Reduced> {
    let private = match options.method {
        Method::Mtz => Vec::new(),
        Method::Refit => rest(shared, width),
    };
    hessian.reduced(shared, &private, options.damping)
}

/// Some columns of weights, without a copy where these are all.
pub(super) fn some_columns(weights: &Weights, columns: &[usize]) -> Weights {
    match columns.iter().copied().eq(0..weights.ncols()) {
        true => weights.clone(),
        false => weights.select(Axis(1), columns).into_shared(),
    }
}

impl Meeting {
    /// What each pair costs, neurons of the one party × neurons of the other.
    ///
    /// # Errors
    /// As [`Problem::cost`].
    pub(super) fn cost(&mut self, options: &ZipOptions) -> Result<Array2<f64>> {
        self.problem.cost_keeping(options.metric, options.damping, &mut self.factors)
    }

    /// Makes each pair one neuron; its Hessian is kept where it will be asked for (`keep`).
    ///
    /// # Errors
    /// As [`Problem::fuse`].
    pub(super) fn join(
        &self,
        a: &Party,
        b: &Party,
        pairs: &[(usize, usize)],
        keep: bool,
        options: &ZipOptions,
    ) -> Result<Party> {
        let mut fused = self.problem.fuse_with(pairs, options.damping, &self.factors)?;
        if a.sparse && b.sparse {
            self.mask(a.constant, pairs, &mut fused);
        }
        let mut inputs: Vec<usize> = a.inputs.iter().chain(&b.inputs).copied().collect();
        inputs.sort_unstable();
        inputs.dedup();
        let rows =
            pairs.iter().map(|(i, j)| a.rows[*i].iter().chain(&b.rows[*j]).copied().collect());
        Ok(Party {
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
            importance: importance(a, b, pairs),
            rows: rows.collect(),
            sparse: a.sparse && b.sparse,
            constant: a.constant,
        })
    }

    /// The weights of fused neurons for the inputs of either party.
    fn all_weights(
        &self,
        parties: [&Party; 2],
        inputs: &[usize],
        pairs: &[(usize, usize)],
        fused: Array2<f32>,
    ) -> Array2<f32> {
        if inputs == self.inputs {
            return fused;
        }
        let (left, right): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
        let mut weights = Array2::zeros((pairs.len(), inputs.len()));
        for ((party, rows), gain) in parties.into_iter().zip([left, right]).zip(&self.gains) {
            let columns = party.places(&self.inputs);
            let change = Change {
                columns: &columns,
                common: fused.view(),
                private: &rest(&columns, party.inputs.len()),
                gain: gain.as_ref(),
                sparse: party.sparse,
            };
            let moved = change.of(party.weights.select(Axis(0), &rows));
            let place = places(inputs, party);
            place.iter().zip(moved.columns()).for_each(|(c, v)| weights.column_mut(*c).assign(&v));
        }
        weights
    }

    /// Applies to each fused neuron, but for its bias, the mask of the two that has more ones.
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
pub(super) struct Change<'a> {
    /// Columns that get them.
    pub(super) columns: &'a [usize],
    /// Neurons × these columns.
    pub(super) common: ArrayView2<'a, f32>,
    /// The other columns.
    pub(super) private: &'a [usize],
    /// How the other columns make up for it. They stay where there is none.
    pub(super) gain: Option<&'a Gain>,
    /// Whether zeros of the other columns stay.
    pub(super) sparse: bool,
}

impl Change<'_> {
    /// What the neurons' weights become.
    pub(super) fn of(&self, mut weights: Array2<f32>) -> Array2<f32> {
        let block = block(weights.ncols());
        let blocks = weights.axis_chunks_iter_mut(Axis(0), block);
        for (mut weights, common) in blocks.zip(self.common.axis_chunks_iter(Axis(0), block)) {
            if let Some(gain) = self.gain {
                let old = weights.select(Axis(1), self.columns);
                let own = weights.select(Axis(1), self.private);
                let mut adjusted =
                    gain.readjust(own.view(), old.view(), common).mapv(|w| w as f32);
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

/// Gives some columns of weights their values.
fn put(weights: &mut ArrayViewMut2<f32>, columns: &[usize], values: ArrayView2<f32>) {
    Zip::from(weights.rows_mut()).and(values.rows()).for_each(|mut to, from| {
        columns.iter().zip(from).for_each(|(column, value)| to[*column] = *value);
    });
}

/// Lets parties join one by one; `pairs` tells, for each of those gathered so far, which of its neurons
/// become one with which of the newcomer's. What is not paired stays. Sums of Hessians are there only
/// where somebody joins later, or if all are to be kept (`keep`).
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
    while let Some(newcomer) = waiting.next() {
        let keep = keep || waiting.len() > 0;
        let mut meetings = gathered
            .iter()
            .map(|party| party.meet(&newcomer, options))
            .collect::<Result<Vec<Meeting>>>()?;
        let pairs = pairs(&gathered, &newcomer, &mut meetings)?;
        let mut after = Vec::new();
        for ((party, meeting), pairs) in gathered.into_iter().zip(meetings).zip(&pairs) {
            if !pairs.is_empty() {
                after.push(meeting.join(&party, &newcomer, pairs, keep, options)?);
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
fn keep_zeros(weights: &mut Array2<f32>, before: &Array2<f32>) {
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

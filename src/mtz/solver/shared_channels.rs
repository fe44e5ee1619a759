//! Common weights of channels of several depthwise layers.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, Array3, ArrayView1, Axis, s};

use crate::error::Result;

use super::channel_bias::Windows;
use super::channel_difference::ChannelDifferences;
use super::channelwise::{ChannelNeuron, common_weights};
use super::correction::{CorrectedRows, Wish};

/// Differences of a neuron's channels, by layer.
type Changes = BTreeMap<usize, Array1<f32>>;

/// One depthwise layer among those of a site.
pub(crate) struct ChannelLayer {
    /// α/n Σ x xᵀ of each channel, n×k×k.
    pub(crate) hessians: Array3<f64>,
    /// Weights, n×k.
    pub(crate) weights: Array2<f64>,
    /// Weight of each channel's error.
    pub(crate) importance: Array1<f64>,
    /// The mean squared errors of the shared channels, added up.
    pub(crate) error: f64,
    /// Their mean squares.
    pub(crate) total: f64,
    /// Their errors weighted by importance.
    pub(crate) loss: f64,
    /// Whether any channel is shared.
    pub(crate) shares: bool,
    /// The channels' windows, where the task keeps its own biases.
    windows: Option<Windows>,
    /// Its difference when it joins others, if all its channels do; `None` without differences.
    pub(crate) wish: Option<Wish>,
    /// The part of the cost that a difference removes, and the part that it leaves; empty without a wish.
    pub(crate) gains: Vec<f64>,
    /// Its rows with their differences, if they have any.
    pub(crate) corrected: Option<CorrectedRows>,
}

impl ChannelLayer {
    /// A layer without shared channels. With `keeps_bias`, sharing changes no bias except to make up for
    /// changed weights.
    pub(crate) fn new(
        hessians: Array3<f64>,
        weights: Array2<f64>,
        importance: Array1<f64>,
        keeps_bias: bool,
    ) -> ChannelLayer {
        let (error, total, loss) = (0.0, 0.0, 0.0);
        let windows = keeps_bias.then(|| Windows::of(&hessians));
        ChannelLayer {
            hessians,
            weights,
            importance,
            error,
            total,
            loss,
            shares: false,
            windows,
            wish: None,
            gains: Vec::new(),
            corrected: None,
        }
    }

    /// A channel over its common inputs.
    fn channel(&self, row: usize) -> ChannelNeuron<'_> {
        let all = self.windows.as_ref().map_or(&self.hessians, |windows| &windows.hessians);
        let hessian = all.index_axis(Axis(0), row);
        let weights = self.weights.slice(s![row, ..hessian.nrows()]);
        ChannelNeuron { hessian, weights, importance: 1.0 }
    }

    /// Gives a channel the common weights, and a change of its own if there is one.
    fn share(&mut self, row: usize, common: &Array1<f64>, change: Option<&Array1<f32>>) {
        let sum = |(common, change): (&f64, &f32)| f64::from(*common as f32 + change);
        let common = match change {
            // As runtimes add.
            Some(change) => &common.iter().zip(change).map(sum).collect(),
            None => common,
        };
        let before = self.weights.row(row).to_owned();
        let mut after = before.clone();
        after.slice_mut(s![..common.len()]).assign(common);
        if let (Some(windows), Some(bias)) = (&self.windows, after.last_mut()) {
            *bias += windows.shift(row, before.slice(s![..common.len()]), common.view());
        }
        let hessian = self.hessians.index_axis(Axis(0), row);
        let form = |w: ArrayView1<'_, f64>| hessian.dot(&w).dot(&w).max(0.0);
        let error = form((&after - &before).view());
        self.error += error;
        self.total += form(before.view());
        self.loss += self.importance[row] * error;
        self.weights.row_mut(row).assign(&after);
        self.shares = true;
    }
}

/// Computes the common weights of each neuron's channels, which are (layer, row) pairs.
///
/// # Errors
/// As [`common_weights`].
pub(crate) fn share_channels(
    layers: &mut [ChannelLayer],
    neurons: &[Vec<(usize, usize)>],
    damping: f64,
) -> Result<()> {
    let may_differ = layers.iter().any(|layer| layer.wish.is_some())
        && neurons.iter().all(|rows| rows.len() == layers.len())
        && layers.iter().all(|layer| layer.weights.nrows() == neurons.len());
    let mut differences: BTreeMap<usize, ChannelDifferences> = BTreeMap::new();
    for rows in neurons {
        let (common, changes) = match may_differ {
            true => with_differences(layers, rows, &mut differences, damping)?,
            false => (common_weights(&channels(layers, rows), damping)?, BTreeMap::new()),
        };
        for (at, row) in rows {
            layers[*at].share(*row, &common, changes.get(at));
        }
        for at in changes.keys() {
            differences.entry(*at).or_default().settle(&common);
        }
    }
    for (at, found) in differences {
        layers[at].gains = found.gains();
        if let Some(Wish::Difference { bits, kept: true }) = layers[at].wish {
            layers[at].corrected = Some(found.corrected(bits));
        }
    }
    Ok(())
}

fn channels<'l>(layers: &'l [ChannelLayer], rows: &[(usize, usize)]) -> Vec<ChannelNeuron<'l>> {
    rows.iter().map(|(at, row)| layers[*at].channel(*row)).collect()
}

/// The common weights of channels that join one by one, of which some have differences, and these
/// differences by layer. Those of the layers are added to `found`.
fn with_differences(
    layers: &[ChannelLayer],
    rows: &[(usize, usize)],
    found: &mut BTreeMap<usize, ChannelDifferences>,
    damping: f64,
) -> Result<(Array1<f64>, Changes)> {
    let channels = channels(layers, rows);
    let mut wanted: Vec<Array1<f64>> = channels.iter().map(|own| own.weights.to_owned()).collect();
    let mut changes = BTreeMap::new();
    for (nth, (at, row)) in rows.iter().enumerate().skip(1) {
        let layer = &layers[*at];
        let Some(Wish::Difference { bits, kept }) = layer.wish else { continue };
        let before = &rows[..nth];
        if layer.windows.is_none() || before.iter().any(|(at, _)| layers[*at].windows.is_none()) {
            continue;
        }
        let common = common_weights(&with(&channels[..nth], &wanted), damping)?;
        let hessian = channels[1..nth]
            .iter()
            .fold(channels[0].hessian.to_owned(), |sum, channel| sum + channel.hessian);
        let mut importance = before.iter().map(|(at, row)| layers[*at].importance[*row]);
        let importance = importance.next().unwrap_or(1.0) * layer.importance[*row];
        let own = ChannelNeuron { importance: importance.sqrt(), ..channels[nth] };
        let joins = (common.view(), &hessian);
        let change = found.entry(*at).or_default().add((*row, own), joins, bits, damping)?;
        if kept {
            wanted[nth] -= &change.mapv(f64::from);
            changes.insert(*at, change);
        }
    }
    Ok((common_weights(&with(&channels, &wanted), damping)?, changes))
}

/// The channels with other weights.
fn with<'c>(
    channels: &'c [ChannelNeuron<'_>],
    weights: &'c [Array1<f64>],
) -> Vec<ChannelNeuron<'c>> {
    let pairs = channels.iter().zip(weights);
    pairs.map(|(channel, own)| ChannelNeuron { weights: own.view(), ..*channel }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::product::tests::random;
    use crate::mtz::solver::bits::Bits;
    use ndarray::stack;
    use proptest::prelude::*;

    const CHANNELS: usize = 5;
    const TAPS: usize = 9;

    /// A layer of channels that see random windows and a constant.
    fn layer(seed: u64, wish: Option<Wish>, keeps_bias: bool) -> ChannelLayer {
        let moments: Vec<Array2<f64>> = (0..CHANNELS as u64)
            .map(|channel| {
                let mut rows = random(60, TAPS + 1, seed ^ (channel << 8)).mapv(|v| v + 0.3);
                rows.column_mut(TAPS).fill(1.0);
                rows.t().dot(&rows) / 120.0
            })
            .collect();
        let views: Vec<_> = moments.iter().map(|moments| moments.view()).collect();
        let hessians = stack(Axis(0), &views).unwrap();
        // As weights of files, which are single.
        let weights = random(CHANNELS, TAPS + 1, !seed).mapv(|v| f64::from(v as f32));
        let mut layer = ChannelLayer::new(hessians, weights, Array1::ones(CHANNELS), keeps_bias);
        layer.wish = wish;
        layer
    }

    /// Layers whose channels are shared in reverse order.
    fn shared(seed: u64, wish: Option<Wish>, keeps_bias: bool) -> [ChannelLayer; 2] {
        let mut layers = [layer(seed, None, keeps_bias), layer(seed ^ 77, wish, keeps_bias)];
        let neurons: Vec<_> =
            (0..CHANNELS).map(|row| vec![(0, row), (1, CHANNELS - 1 - row)]).collect();
        share_channels(&mut layers, &neurons, 1e-9).unwrap();
        layers
    }

    fn error(layers: &[ChannelLayer; 2]) -> f64 {
        layers.iter().map(|layer| layer.error).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn differences_leave_what_they_say(seed: u64) {
            for bits in [Bits::Four, Bits::Eight] {
                let wish = |kept| Some(Wish::Difference { bits, kept });
                let (without, with) = (shared(seed, wish(false), true), shared(seed, wish(true), true));
                let gains = &with[1].gains;
                prop_assert_eq!(gains, &without[1].gains);
                let near = |a: f64, b: f64| (a - b).abs() < 1e-3 * (gains[0] + gains[1]);
                prop_assert!(near(error(&without), gains[0] + gains[1]), "{} {gains:?}", error(&without));
                prop_assert!(near(error(&with), gains[1]), "{} {gains:?}", error(&with));
                prop_assert!(gains[1] < 0.1 * gains[0] && without[1].corrected.is_none());
                // The sum is exact, and the first layer has the common part.
                let corrected = with[1].corrected.as_ref().unwrap();
                let sum = &corrected.common + &corrected.change.sum();
                for (at, row) in corrected.rows.iter().enumerate() {
                    let own = with[1].weights.slice(s![*row, ..TAPS]);
                    prop_assert!(own.iter().zip(sum.row(at)).all(|(a, b)| *a as f32 == *b));
                    let first = with[0].weights.slice(s![CHANNELS - 1 - row, ..TAPS]);
                    let common = corrected.common.row(at);
                    prop_assert!(first.iter().zip(common).all(|(a, b)| *a as f32 == *b));
                }
            }
        }

        #[test]
        fn biases_of_their_own_lose_less(seed: u64) {
            prop_assert!(error(&shared(seed, None, true)) < error(&shared(seed, None, false)));
        }
    }

    #[test]
    fn channels_with_one_bias_for_all_tasks_have_no_difference() {
        let wish = Some(Wish::Difference { bits: Bits::Four, kept: true });
        let layers = shared(3, wish, false);
        assert!(layers[1].gains.is_empty() && layers[1].corrected.is_none());
        assert_eq!(layers[0].weights.row(0), layers[1].weights.row(CHANNELS - 1));
    }
}

//! How the outputs of a net depend on its layers' pre-activations.

use ndarray::{Array1, Array2};

/// How the outputs depend on a layer's pre-activations z.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensitivity {
    /// E[(∂outputs/∂z)²] per channel: mean over samples, summed over positions.
    pub channels: Array1<f64>,
    /// E[Σ g gᵀ] with g = ∂outputs/∂z, over positions: how errors of channels add up. `None` where it was
    /// not measured: for depthwise layers and for layers with many channels.
    pub metric: Option<Array2<f64>>,
    /// How errors at the positions of a sample add up: a mean error over all positions counts so many times
    /// as much as errors that differ from position to position. 1 where each position counts by itself,
    /// as many as there are positions where all of them have the same effect.
    pub coherence: f64,
}

impl Sensitivity {
    /// Whether sizes fit together and all numbers are finite.
    pub(crate) fn is_sound(&self) -> bool {
        let size = self.channels.len();
        let finite = |v: &f64| v.is_finite();
        self.channels.iter().all(finite)
            && self.metric.as_ref().is_none_or(|m| m.dim() == (size, size) && m.iter().all(finite))
            && self.coherence.is_finite()
            && self.coherence >= 1.0
    }

    /// Adds what the outputs depend on another use of the same layer.
    pub(crate) fn add(&mut self, other: Sensitivity) {
        self.channels += &other.channels;
        self.metric = match (self.metric.take(), other.metric) {
            (Some(own), Some(theirs)) => Some(own + theirs),
            _ => None,
        };
    }

    /// The mean of this and another estimate of the same layer, weighted by their samples; `None` where
    /// they are of different layers.
    pub(crate) fn mean(&self, other: &Sensitivity, weights: (f64, f64)) -> Option<Sensitivity> {
        let total = weights.0 + weights.1;
        if self.channels.len() != other.channels.len() || total <= 0.0 {
            return None;
        }
        let (a, b) = (weights.0 / total, weights.1 / total);
        let metric = match (&self.metric, &other.metric) {
            (Some(own), Some(theirs)) if own.dim() == theirs.dim() => Some(own * a + theirs * b),
            _ => None,
        };
        Some(Sensitivity {
            channels: &self.channels * a + &other.channels * b,
            metric,
            coherence: self.coherence * a + other.coherence * b,
        })
    }
}

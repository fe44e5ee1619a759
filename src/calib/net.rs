//! Statistics of one net by itself, for merges to come.
//!
//! A merge decides how much the means over a sample's positions count, so they are kept apart from the
//! rows. All sums add up over parts of the data.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::Array1;

use super::gram::Moments;
use super::sensitivity::Sensitivity;
use crate::couple::CoupledLayer;
use crate::error::{Context, Error, ErrorKind, Result};

/// Statistics of a net, by the names that [`names`] gives its layers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NetStatistics {
    /// The inputs of each layer.
    pub layers: BTreeMap<String, LayerInputs>,
    /// How the outputs depend on each layer; empty where that is not known.
    pub sensitivities: BTreeMap<String, Sensitivity>,
}

/// Statistics of a layer's inputs.
#[derive(Debug, Clone, PartialEq)]
pub enum LayerInputs {
    /// Moments of all inputs together.
    Rows(Box<Spread>),
    /// Moments of each channel of a depthwise layer.
    Channels(Vec<Spread>),
    /// How often each row of a table is picked.
    Counts(Array1<f64>),
}

/// Moments of rows, and of their means over the positions of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    rows: Moments,
    /// A mean counts as often as it has rows. `None` for layers without positions.
    means: Option<Moments>,
}

impl NetStatistics {
    /// Adds statistics of other samples of the same net. `samples` says how many samples the
    /// sensitivities of either come from.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] for another net.
    pub fn merge(&mut self, other: NetStatistics, samples: (u64, u64)) -> Result<()> {
        if !other.layers.keys().eq(self.layers.keys()) {
            return Err(Error::new(
                ErrorKind::Calibration,
                "the statistics are of different layers",
            )
            .hint("add up statistics of one model only"));
        }
        for ((name, own), theirs) in self.layers.iter_mut().zip(other.layers.into_values()) {
            own.merge(theirs).at_node(name)?;
        }
        let weights = (samples.0 as f64, samples.1 as f64);
        let mean = |(name, own): (&String, &Sensitivity)| {
            Some((name.clone(), own.mean(other.sensitivities.get(name)?, weights)?))
        };
        let means: Option<BTreeMap<_, _>> = self.sensitivities.iter().map(mean).collect();
        self.sensitivities = means.unwrap_or_default();
        Ok(())
    }
}

impl LayerInputs {
    /// Number of rows.
    pub fn count(&self) -> u64 {
        match self {
            LayerInputs::Rows(spread) => spread.rows.count(),
            LayerInputs::Channels(all) => all.first().map_or(0, |spread| spread.rows.count()),
            LayerInputs::Counts(counts) => counts.sum() as u64,
        }
    }

    fn merge(&mut self, other: LayerInputs) -> Result<()> {
        match (self, other) {
            (LayerInputs::Rows(own), LayerInputs::Rows(other)) => own.merge(&other),
            (LayerInputs::Channels(own), LayerInputs::Channels(other))
                if own.len() == other.len() =>
            {
                own.iter_mut().zip(&other).try_for_each(|(own, other)| own.merge(other))
            }
            (LayerInputs::Counts(own), LayerInputs::Counts(other)) if own.len() == other.len() => {
                *own += &other;
                Ok(())
            }
            _ => Err(Error::new(ErrorKind::Calibration, "the statistics are of different kinds")
                .hint("calibrate every part with the same version of the program")),
        }
    }
}

impl From<Spread> for LayerInputs {
    fn from(spread: Spread) -> Self {
        LayerInputs::Rows(Box::new(spread))
    }
}

impl Spread {
    /// Moments of rows, with those of their means where there are several positions.
    pub fn new(rows: Moments, means: Option<Moments>) -> Spread {
        Spread { rows, means }
    }

    /// Moments of the rows, and those of their means.
    pub fn parts(&self) -> (&Moments, Option<&Moments>) {
        (&self.rows, self.means.as_ref())
    }

    /// The moments, with means that count `coherence` times as much as what differs from them.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] for means of another layer.
    pub fn at(&self, coherence: f64) -> Result<Moments> {
        let mut sum = self.rows.clone();
        if let Some(means) = self.means.as_ref().filter(|_| coherence > 1.0) {
            sum.merge(&means.clone().times(coherence - 1.0))?;
        }
        Ok(sum.balanced())
    }

    /// Adds the sums of other rows.
    ///
    /// # Errors
    /// As [`Moments::merge`].
    pub fn merge(&mut self, other: &Spread) -> Result<()> {
        self.rows.merge(&other.rows)?;
        match (&mut self.means, &other.means) {
            (Some(own), Some(other)) => own.merge(other),
            (None, None) => Ok(()),
            // Without the means of all parts there are none.
            (means, _) => {
                *means = None;
                Ok(())
            }
        }
    }
}

/// A name for each layer of a net: its own, with a number where an earlier layer has the same.
pub fn names(layers: &[CoupledLayer]) -> Vec<String> {
    let own: BTreeSet<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    let mut taken = BTreeSet::new();
    let name = |layer: &CoupledLayer| {
        let numbered = (1..).map(|n| format!("{}#{n}", layer.name));
        let free = |name: &String| !own.contains(name.as_str()) && !taken.contains(name);
        let name = match taken.contains(&layer.name) {
            false => layer.name.clone(),
            true => numbered.into_iter().find(free).unwrap_or_default(),
        };
        taken.insert(name.clone());
        name
    };
    layers.iter().map(name).collect()
}

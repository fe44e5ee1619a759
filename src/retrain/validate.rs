//! Losses and errors on held-out samples.

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::{HostArray, Session};
use crate::verify::{Reading, misclassified};

use super::examples::{Examples, Fed};
use super::graph::Feeds;
use super::teacher::renamed;

/// Loss and error of one task on its samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Mean loss per sample; no number without samples.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Fraction of misclassified samples, if there are labels.
    pub error: Option<f64>,
}

/// A number; JSON holds `null` in place of one that is not finite.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// Sums from which a [`Quality`] follows.
#[derive(Default)]
struct Tally {
    loss: f64,
    samples: usize,
    wrong: usize,
    labelled: usize,
}

impl Tally {
    /// Adds the loss of so many samples.
    fn add_loss(&mut self, loss: &HostArray, samples: usize) -> Result<()> {
        self.loss += f64::from(single(loss)?);
        self.samples += samples;
        Ok(())
    }

    /// Compares answers with labels.
    fn add_answers(&mut self, scores: &HostArray, reading: Reading, labels: &[i64]) {
        if let Some(answers) = reading.of_samples(scores, labels.len()) {
            self.labelled += labels.len();
            self.wrong += misclassified(&answers, labels);
        }
    }

    fn quality(&self) -> Quality {
        let error = (self.labelled > 0).then(|| self.wrong as f64 / self.labelled as f64);
        Quality { loss: self.loss / self.samples as f64, error }
    }
}

/// The only element of an array.
///
/// # Errors
/// [`ErrorKind::Backend`] where it has another number of elements.
pub(super) fn single(array: &HostArray) -> Result<f32> {
    let values = array.as_f32()?;
    let first = values.iter().next().copied();
    first.ok_or_else(|| Error::new(ErrorKind::Backend, "a loss without a value"))
}

/// Runs the model with `parameters` on the samples `held` of every task.
pub(super) fn validate(
    session: &mut dyn Session,
    parameters: &[(String, HostArray)],
    examples: &mut [Examples<'_>],
    feeds: &[Feeds],
    (held, batch): (&[Vec<usize>], usize),
) -> Result<Vec<Quality>> {
    let count = held.iter().map(Vec::len).min().unwrap_or(0);
    let mut tallies: Vec<Tally> = examples.iter().map(|_| Tally::default()).collect();
    for start in (0..count).step_by(batch.max(1)) {
        let end = (start + batch).min(count);
        let mut fed = Vec::new();
        for (examples, held) in examples.iter_mut().zip(held) {
            fed.push(examples.feed(&held[start..end], None)?);
        }
        let mut inputs = named(feeds, &fed)?;
        inputs.extend(parameters.iter().map(|(name, value)| (name.as_str(), value)));
        let results = session.run(&inputs)?;
        let tasks = feeds.iter().zip(&fed);
        for ((tally, pair), (feeds, fed)) in tallies.iter_mut().zip(results.chunks(2)).zip(tasks) {
            if let [loss, scores] = pair {
                tally.add_loss(loss, end - start)?;
                let labels = fed.labels.as_deref().unwrap_or_default();
                tally.add_answers(scores, feeds.reading, labels);
            }
        }
    }
    Ok(tallies.iter().map(Tally::quality).collect())
}

/// The inputs of a graph for one batch of every task; common inputs once.
///
/// # Errors
/// As [`renamed`].
pub(super) fn named<'a>(
    feeds: &'a [Feeds],
    fed: &'a [Fed],
) -> Result<Vec<(&'a str, &'a HostArray)>> {
    let mut all: Vec<(&str, &HostArray)> = Vec::new();
    for (feeds, fed) in feeds.iter().zip(fed) {
        let own: Vec<&str> = feeds.inputs.iter().map(|(own, _)| own.as_str()).collect();
        let names: Vec<&str> = feeds.inputs.iter().map(|(_, name)| name.as_str()).collect();
        let targets = feeds.targets.iter().map(String::as_str).zip(&fed.targets);
        for (name, array) in renamed(&fed.inputs, &own, &names)?.into_iter().chain(targets) {
            if all.iter().all(|(known, _)| *known != name) {
                all.push((name, array));
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_that_are_no_numbers_are_read_again() {
        for loss in [0.5, f64::NAN, f64::INFINITY] {
            let text = serde_json::to_string(&Quality { loss, error: None }).unwrap();
            let read: Quality = serde_json::from_str(&text).unwrap();
            assert_eq!((read.loss == loss, read.loss.is_nan()), (loss == 0.5, loss != 0.5));
        }
    }
}

//! Deviations of the tasks from their originals, as reported by a joint model's file.
//!
//! A merge measures deviations on the finished file and writes them into its metadata. Later changes
//! of the file, such as quantisation, can be compared with them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Verification;
use crate::ir::Model;

/// Metadata key of [`Reported`], as JSON.
pub const DEVIATION_KEY: &str = "onnx_zip.deviation";

/// Deviations below this are rounding, which depends on the number of threads; files must not.
const ROUNDING: f64 = 1e-3;

/// The tasks' deviations from their originals when the file was verified.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Reported {
    /// Whether they were measured on random samples.
    pub synthetic: bool,
    /// Root mean square of the difference relative to that of the original, by task and output;
    /// rounded up to two digits.
    pub tasks: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Reported {
    /// The deviations of a verification; `synthetic` says whether its samples were random.
    pub fn of(checked: &Verification, synthetic: bool) -> Self {
        let tasks = checked.tasks.iter().map(|task| {
            let outputs = task.outputs.iter().filter_map(|output| {
                let first = output.runtimes.first()?;
                Some((output.name.clone(), rounded_up(first.original.relative)))
            });
            (task.name.clone(), outputs.collect())
        });
        Reported { synthetic, tasks: tasks.collect() }
    }

    /// The deviations in the metadata of `model`; `None` if they are missing or invalid.
    pub fn read(model: &Model) -> Option<Self> {
        serde_json::from_str(model.metadata.get(DEVIATION_KEY)?).ok()
    }

    /// The text for the metadata; `None` if a deviation is not finite.
    pub fn text(&self) -> Option<String> {
        let finite = self.tasks.values().flat_map(BTreeMap::values).all(|d| d.is_finite());
        if finite { serde_json::to_string(self).ok() } else { None }
    }
}

/// The largest deviation that agrees with a reported one. A merge measures on samples that its weights
/// were fitted to. If these are few, other samples deviate up to three times as much.
pub(super) fn allowed(reported: f64) -> f64 {
    (4.0 * reported).max(reported + 0.05)
}

fn rounded_up(deviation: f64) -> f64 {
    let at_least = deviation.max(ROUNDING);
    if !at_least.is_finite() {
        return at_least;
    }
    let digit = 10f64.powi(1 - at_least.log10().floor() as i32);
    (at_least * digit).ceil() / digit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_are_rounded_up_to_two_digits() {
        let cases = [(0.0, 0.001), (1e-7, 0.001), (0.0123, 0.013), (0.3801, 0.39), (2.51, 2.6)];
        for (deviation, expected) in cases {
            let rounded = rounded_up(deviation);
            assert!((rounded - expected).abs() < 1e-9, "{deviation}: {rounded}");
        }
        assert!(!rounded_up(f64::INFINITY).is_finite());
    }

    #[test]
    fn what_is_written_is_read() {
        let outputs = BTreeMap::from([("logits".to_owned(), 0.013)]);
        let reported = Reported { synthetic: true, tasks: [("a".to_owned(), outputs)].into() };
        let mut model = Model::default();
        assert_eq!(Reported::read(&model), None);
        model.metadata.insert(DEVIATION_KEY.to_owned(), reported.text().unwrap());
        assert_eq!(Reported::read(&model), Some(reported));
        model.metadata.insert(DEVIATION_KEY.to_owned(), "[]".to_owned());
        assert_eq!(Reported::read(&model), None);
    }
}

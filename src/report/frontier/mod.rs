//! The curve of size against loss.

#[cfg(feature = "html")]
mod page;
mod tables;

use serde::{Deserialize, Serialize};

use super::Picture;
use super::format::{each, percent_to, small};
use crate::naming::counted;

/// Limit of decimals of a size.
const MOST_DECIMALS: usize = 4;

/// The loss of a net's outputs against its original.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskLoss {
    /// Fraction of samples that are classified wrongly, if there are labels.
    pub error: Option<f64>,
    /// Fraction of samples with the same class as from the original, if outputs are scores of
    /// classes.
    pub agreement: Option<f64>,
    /// Mean squared distance of the outputs, relative to their variance.
    pub deviation: f64,
}

/// Merges of some models for several sizes, with their losses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Frontier {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// Name and version of the program.
    pub tool: String,
    /// The runtime, with version and device.
    pub runtime: String,
    /// The models, one per task.
    pub tasks: Vec<FrontierTask>,
    /// The merges, by ascending size.
    pub points: Vec<FrontierRecord>,
    /// Seconds in all.
    pub seconds: f64,
}

/// One model of a curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FrontierTask {
    /// Name of the task.
    pub name: String,
    /// File that the model was read from.
    pub path: String,
    /// Size of the model, external data included.
    pub bytes: u64,
    /// Weights and biases of its layers.
    pub parameters: u64,
    /// Samples that were measured.
    pub samples: usize,
    /// Measurements of the model itself.
    pub original: TaskLoss,
}

/// One merge of a curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FrontierRecord {
    /// Parameters as a part of those of all models together.
    pub size: f64,
    /// Weights and biases of the joint model's layers.
    pub parameters: u64,
    /// Size of the joint model's file.
    pub bytes: u64,
    /// The loss of each task.
    pub tasks: Vec<TaskLoss>,
    /// The loss of all tasks: the mean rise of their errors if all have labels, else the mean
    /// deviation of their outputs.
    pub loss: f64,
    /// Seconds per run of all tasks, and of all originals; `None` if they were not measured.
    pub latency: Option<(f64, f64)>,
    /// Layers that keep weights of their own.
    pub own: Vec<String>,
    /// Whether this is the knee of the curve.
    pub knee: bool,
    /// The plan for repeating this merge.
    pub plan: String,
    /// The joint graph.
    pub picture: Picture,
}

/// The measure of a task that a curve shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// Its error.
    Error,
    /// The fraction of samples with another class than from the original.
    Disagreement,
    /// The deviation of its outputs.
    Deviation,
}

impl FrontierRecord {
    /// The time of a run relative to that of all originals.
    fn ratio(&self) -> String {
        self.latency.map_or("–".to_owned(), |(joint, originals)| small(joint / originals))
    }
}

impl Measure {
    fn of(self, loss: &TaskLoss) -> Option<f64> {
        match self {
            Measure::Error => loss.error,
            Measure::Disagreement => loss.agreement.map(|part| 1.0 - part),
            Measure::Deviation => Some(loss.deviation),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Measure::Error => "error",
            Measure::Disagreement => "other class than the original",
            Measure::Deviation => "deviation from the original",
        }
    }
}

impl Frontier {
    /// The samples that each task was measured on, as a clause.
    fn samples(&self) -> String {
        let samples: Vec<usize> = self.tasks.iter().map(|t| t.samples).collect();
        match samples.as_slice() {
            [first, rest @ ..] if rest.iter().all(|n| n == first) => {
                format!("{} per task", counted(*first, "sample"))
            }
            all => format!("{} samples per task", each(all)),
        }
    }

    /// A size as a percentage, with as few decimals as tell the points apart whose sizes differ.
    fn percent(&self, size: f64) -> String {
        let differ = |decimals: &usize| {
            let text = |point: &FrontierRecord| percent_to(point.size, *decimals);
            let mut pairs = self.points.windows(2);
            pairs.all(|pair| pair[0].size == pair[1].size || text(&pair[0]) != text(&pair[1]))
        };
        percent_to(size, (1..MOST_DECIMALS).find(differ).unwrap_or(MOST_DECIMALS))
    }

    /// Whether times were measured.
    fn has_latency(&self) -> bool {
        self.points.iter().any(|p| p.latency.is_some())
    }

    /// The best measure that all points have of every task.
    fn measure(&self) -> Measure {
        let all = || {
            let points = self.points.iter().flat_map(|p| &p.tasks);
            points.chain(self.tasks.iter().map(|t| &t.original))
        };
        if all().all(|loss| loss.error.is_some()) {
            Measure::Error
        } else if all().all(|loss| loss.agreement.is_some()) {
            Measure::Disagreement
        } else {
            Measure::Deviation
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(sizes: &[f64]) -> Frontier {
        let own = |at: usize| (0..at).map(|layer| format!("conv{layer}")).collect();
        let task = FrontierTask {
            name: "a".to_owned(),
            path: "a.onnx".to_owned(),
            bytes: 10,
            parameters: 10,
            samples: 10,
            original: TaskLoss::default(),
        };
        let point = |(at, size): (usize, &f64)| FrontierRecord {
            size: *size,
            parameters: 5,
            bytes: 5,
            tasks: vec![TaskLoss::default()],
            loss: 0.0,
            latency: None,
            own: own(at),
            knee: false,
            plan: String::new(),
            picture: Picture::default(),
        };
        Frontier {
            schema: 1,
            tool: "onnx-zip".to_owned(),
            runtime: "tract".to_owned(),
            tasks: vec![task],
            points: sizes.iter().enumerate().map(point).collect(),
            seconds: 1.0,
        }
    }

    #[test]
    fn points_of_different_sizes_are_not_printed_alike() {
        for (sizes, wanted) in [
            (&[0.5058, 0.5353, 1.0][..], ["50.6 %", "53.5 %", "100.0 %"]),
            (&[0.50581, 0.50641, 1.0], ["50.58 %", "50.64 %", "100.00 %"]),
            (&[0.50581, 0.50582, 0.50582], ["50.581 %", "50.582 %", "50.582 %"]),
        ] {
            let curve = curve(sizes);
            let found: Vec<String> = sizes.iter().map(|size| curve.percent(*size)).collect();
            assert_eq!(found, wanted);
            for table in [curve.text(), curve.markdown()] {
                assert!(wanted.iter().all(|size| table.contains(size)), "{table}");
            }
        }
        assert!(curve(&[0.5, 0.6, 0.7]).markdown().contains("| conv0, conv1 |"));
    }
}

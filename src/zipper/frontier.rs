//! The curve of size against loss: merges with fewer and fewer shared layers.
//!
//! One trial measures the cost and saving of every layer. Each point of the curve is a choice of
//! layers and a merge of its own, so it measures the file that a user gets. Sensitivities, probes and
//! the originals' outputs are computed once.

use crate::calib::data::Dataset;
use crate::error::Result;
use crate::mtz::joint::{JointModel, Task};
use crate::report::TaskLoss;

use super::curve::choices;
use super::measure::Gauge;
use super::search::{Search, ratio};
use super::{Job, Outcome, Prepared};

/// One merge of the curve.
#[derive(Debug, Clone)]
pub struct FrontierPoint {
    /// Parameters as a part of those of all originals.
    pub size: f64,
    /// Records and decisions of the merge.
    pub outcome: Outcome,
    /// The loss of each task.
    pub tasks: Vec<TaskLoss>,
    /// The loss of all tasks: the mean rise of their errors if all have labels, else the mean
    /// deviation of their outputs, with the tasks' weights.
    pub loss: f64,
}

/// Called with each point and its joint model as soon as it is measured.
pub type Visit<'a> = dyn FnMut(&FrontierPoint, &JointModel) -> Result<()> + 'a;

/// Merges for up to `points` sizes, from full sharing to sharing only what costs nothing, and
/// measures each on `tests`, one set of samples per task. Returns the measurements of the original
/// nets, and the points by ascending size.
///
/// # Errors
/// As [`super::merge`] and `visit`.
pub fn frontier(
    prepared: &Prepared,
    tests: &[Dataset],
    points: usize,
    visit: &mut Visit<'_>,
    job: &Job<'_>,
) -> Result<(Vec<TaskLoss>, Vec<FrontierPoint>)> {
    let Job { options, progress, .. } = *job;
    let calibration = job.calibration.fitting(&prepared.joint);
    let job = &Job { calibration: &calibration, ..*job };
    let search = Search::new(prepared, tests, job)?;
    let gauges = gauges(&search)?;
    let nets = prepared.joint.tasks().iter().zip(&gauges);
    let originals: Vec<TaskLoss> =
        nets.map(|(task, gauge)| gauge.measure(task.model())).collect::<Result<_>>()?;
    let (joint, full) = search.full(job.retraining)?;
    let choices = choices(&search, &full, points);
    let mut found = Vec::new();
    let mut add = |joint: &JointModel, outcome: Outcome| -> Result<()> {
        progress.check()?;
        let tasks = joint.tasks().iter().zip(&gauges);
        let tasks: Vec<TaskLoss> =
            tasks.map(|(task, gauge)| gauge.measure(task.model())).collect::<Result<_>>()?;
        let loss = loss(&tasks, &originals, &options.task_weights(tasks.len()));
        let point = FrontierPoint { size: ratio(&outcome), outcome, tasks, loss };
        visit(&point, joint)?;
        found.push(point);
        Ok(())
    };
    add(&joint, full.outcome)?;
    drop(joint);
    for (at, choice) in choices.iter().enumerate() {
        progress.status(&format!("point {} of {}", at + 2, choices.len() + 1));
        let (joint, outcome) = search.merge(choice)?;
        add(&joint, outcome)?;
    }
    found.sort_by(|a, b| a.size.total_cmp(&b.size));
    Ok((originals, found))
}

/// The loss of all tasks.
fn loss(tasks: &[TaskLoss], originals: &[TaskLoss], alpha: &[f64]) -> f64 {
    let rise = |(after, before): (&TaskLoss, &TaskLoss)| Some(after.error? - before.error?);
    let rises: Option<Vec<f64>> = tasks.iter().zip(originals).map(rise).collect();
    match rises {
        Some(rises) => rises.iter().sum::<f64>() / rises.len().max(1) as f64,
        None => tasks.iter().zip(alpha).map(|(task, alpha)| alpha * task.deviation).sum(),
    }
}

fn gauges<'a>(search: &Search<'a>) -> Result<Vec<Gauge<'a>>> {
    let calibration = search.job.calibration;
    let gauge = |(task, data): (&Task, &'a Dataset)| {
        let source = calibration.source(task.model(), data);
        Gauge::new(task.model(), source, search.job.options.seed)
    };
    search.prepared.joint.tasks().iter().zip(search.tests).map(gauge).collect()
}

/// The point at the knee of the curve: the nearest to least size and least loss, both relative to
/// their ranges. `None` without points.
pub fn knee(points: &[(f64, f64)]) -> Option<usize> {
    let range = |of: fn(&(f64, f64)) -> f64| {
        let low = points.iter().map(of).fold(f64::INFINITY, f64::min);
        let high = points.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        move |value: f64| if high > low { (value - low) / (high - low) } else { 0.0 }
    };
    let (size, loss) = (range(|p| p.0), range(|p| p.1));
    let distance = |point: &(f64, f64)| size(point.0) + loss(point.1);
    let numbered = points.iter().enumerate();
    numbered.min_by(|a, b| distance(a.1).total_cmp(&distance(b.1))).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knee_is_where_the_curve_bends() {
        assert_eq!(knee(&[(0.5, 4.0), (0.6, 1.0), (0.8, 0.5), (1.0, 0.0)]), Some(1));
        assert_eq!(knee(&[(0.5, 0.0), (0.9, 0.0)]), Some(0));
        assert_eq!(knee(&[]), None);
    }

    #[test]
    fn errors_count_where_all_tasks_have_them() {
        let task = |error, deviation| TaskLoss { error, agreement: None, deviation };
        let before = [task(Some(0.1), 0.0), task(Some(0.2), 0.0)];
        let after = [task(Some(0.2), 0.5), task(Some(0.2), 0.1)];
        assert!((loss(&after, &before, &[0.5, 0.5]) - 0.05).abs() < 1e-12);
        let unlabelled = [after[0], task(None, 0.1)];
        assert!((loss(&unlabelled, &before, &[0.5, 0.5]) - 0.3).abs() < 1e-12);
    }
}

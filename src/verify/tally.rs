//! Adds up what batches say about one task.

use super::engine::{Engine, Nets};
use super::measure::{Gap, predictions};
use super::{Limits, OutputVerification, RuntimeDeviation, TaskVerification};
use crate::error::Result;
use crate::runtime::HostArray;

/// Everything known about one task so far.
#[derive(Default)]
pub(super) struct Tally {
    outputs: Vec<String>,
    runtimes: Vec<Runtime>,
    scores: Scores,
    samples: usize,
    /// What is wrong with outputs beyond numbers; each thing is said once.
    wrong: Vec<String>,
}

/// Gaps in one runtime, one entry per output.
struct Runtime {
    name: &'static str,
    original: Vec<Gap>,
    exact: Option<Vec<Gap>>,
    first: Option<Vec<Gap>>,
}

/// Counts of classifications, in the first runtime.
#[derive(Default)]
struct Scores {
    positions: usize,
    same: usize,
    labelled: usize,
    wrong_before: usize,
    wrong_after: usize,
}

/// The joint model's outputs for one batch in the first runtime that gave any.
#[derive(Default)]
pub(super) enum First {
    /// None has so far.
    #[default]
    Awaited,
    /// For the other runtimes to be compared with.
    Kept(Vec<HostArray>),
    /// They were too large to keep.
    Dropped,
}

impl First {
    /// Bytes that the outputs take.
    pub(super) fn bytes(&self) -> u64 {
        let First::Kept(outputs) = self else { return 0 };
        let bytes = |a: &HostArray| (a.len() * a.dtype().size().unwrap_or(8)) as u64;
        outputs.iter().map(bytes).sum()
    }
}

/// The outputs of one batch in one runtime, in the original net's order.
pub(super) struct Batch<'a> {
    pub(super) reference: Vec<HostArray>,
    pub(super) exact: Option<Vec<HostArray>>,
    pub(super) found: Vec<HostArray>,
    pub(super) labels: Option<&'a [i64]>,
}

impl Tally {
    /// Adds a batch; `first` holds the joint model's outputs in the first runtime.
    pub(super) fn add(
        &mut self,
        engine: &Engine,
        nets: &Nets,
        batch: Batch<'_>,
        first: &mut First,
    ) {
        if self.outputs.is_empty() {
            self.outputs = nets.outputs().map(str::to_owned).collect();
        }
        let runtime = self.runtime(engine.name);
        let mut problems = Vec::new();
        problems.push(compare(&mut runtime.original, &batch.found, &batch.reference));
        if let Some(exact) = &batch.exact {
            let gaps = runtime.exact.get_or_insert_default();
            problems.push(compare(gaps, &batch.found, exact));
        }
        match first {
            First::Kept(first) => {
                let gaps = runtime.first.get_or_insert_default();
                problems.push(compare(gaps, &batch.found, first));
            }
            First::Dropped => {}
            First::Awaited => {
                self.samples += batch.found.first().and_then(HostArray::rows).unwrap_or(0);
                self.scores.add(&batch);
                *first = First::Kept(batch.found);
            }
        }
        for (output, problem) in problems.into_iter().flatten() {
            let name = self.outputs.get(output).map_or("", String::as_str);
            let said = format!("output '{name}' {problem} in {}", engine.description);
            if !self.wrong.contains(&said) {
                self.wrong.push(said);
            }
        }
    }

    fn runtime(&mut self, name: &'static str) -> &mut Runtime {
        let at = self.runtimes.iter().position(|r| r.name == name).unwrap_or_else(|| {
            self.runtimes.push(Runtime { name, original: Vec::new(), exact: None, first: None });
            self.runtimes.len() - 1
        });
        &mut self.runtimes[at]
    }

    /// What failed, as sentences.
    pub(super) fn failures(&self, task: &str, limits: &Limits) -> Vec<String> {
        let mut failures: Vec<String> =
            self.wrong.iter().map(|w| format!("task '{task}': {w}")).collect();
        for runtime in &self.runtimes {
            for (i, output) in self.outputs.iter().enumerate() {
                let checks = runtime.failures(i, limits).into_iter();
                failures
                    .extend(checks.map(|what| format!("task '{task}', output '{output}': {what}")));
            }
        }
        if let (Some(limit), Some((before, after))) = (limits.drop, self.scores.errors())
            && after - before > limit
        {
            failures.push(format!(
                "task '{task}': the error rises from {:.2} % to {:.2} %, by more than {:.2} points",
                100.0 * before,
                100.0 * after,
                100.0 * limit
            ));
        }
        failures
    }

    pub(super) fn into_report(self, name: String) -> TaskVerification {
        let (before, after) = self.scores.errors().unzip();
        let outputs = self.outputs.iter().enumerate().map(|(i, output)| OutputVerification {
            name: output.clone(),
            runtimes: self.runtimes.iter().map(|r| r.deviation(i)).collect(),
        });
        TaskVerification {
            name,
            samples: self.samples,
            agreement: self.scores.agreement(),
            error_before: before,
            error_after: after,
            outputs: outputs.collect(),
        }
    }
}

impl Runtime {
    fn deviation(&self, output: usize) -> RuntimeDeviation {
        let of = |gaps: &Vec<Gap>| gaps.get(output).map(Gap::deviation);
        RuntimeDeviation {
            runtime: self.name.to_owned(),
            original: of(&self.original).unwrap_or_default(),
            net: self.exact.as_ref().and_then(of),
            first_runtime: self.first.as_ref().and_then(of),
        }
    }

    fn failures(&self, output: usize, limits: &Limits) -> Vec<String> {
        let mut failures = Vec::new();
        let name = self.name;
        let gap = |gaps: &Option<Vec<Gap>>| gaps.as_ref().and_then(|g| g.get(output)).copied();
        let original = self.original.get(output).copied().unwrap_or_default();
        if original.broken > 0 {
            let n = original.broken;
            failures.push(format!("{n} elements are NaN or infinite in {name}"));
            return failures;
        }
        if let Some(gap) = gap(&self.exact).filter(|g| !g.within(limits.tolerance)) {
            let max = gap.deviation().max;
            failures.push(format!("the file differs from the merged net by {max:.3e} in {name}"));
        }
        if let Some(gap) = gap(&self.first).filter(|g| !g.within(limits.tolerance)) {
            let max = gap.deviation().max;
            failures.push(format!("{name} differs from the first runtime by {max:.3e}"));
        }
        let max = original.deviation().max;
        if let Some(limit) = limits.deviation.filter(|limit| max > *limit) {
            failures.push(format!("differs from the original by {max:.3e} > {limit:e} in {name}"));
        }
        failures
    }
}

impl Scores {
    fn add(&mut self, batch: &Batch<'_>) {
        let (Some(found), Some(reference)) = (batch.found.first(), batch.reference.first()) else {
            return;
        };
        let (Some(after), Some(before)) = (predictions(found), predictions(reference)) else {
            return;
        };
        self.positions += after.len();
        self.same += after.iter().zip(&before).filter(|(a, b)| a == b).count();
        let labels = batch.labels.unwrap_or_default();
        // Several predictions per sample are no answer to one label.
        if labels.len() != after.len() {
            return;
        }
        for ((label, before), after) in labels.iter().zip(before).zip(after) {
            self.labelled += 1;
            self.wrong_before += usize::from(before != *label);
            self.wrong_after += usize::from(after != *label);
        }
    }

    fn agreement(&self) -> Option<f64> {
        (self.positions > 0).then(|| self.same as f64 / self.positions as f64)
    }

    /// Errors of the original and of the joint model.
    fn errors(&self) -> Option<(f64, f64)> {
        let rate = |wrong: usize| wrong as f64 / self.labelled as f64;
        (self.labelled > 0).then(|| (rate(self.wrong_before), rate(self.wrong_after)))
    }
}

/// Adds each output's gap; returns the outputs that cannot be compared, with the reason.
fn compare(
    gaps: &mut Vec<Gap>,
    found: &[HostArray],
    reference: &[HostArray],
) -> Vec<(usize, String)> {
    gaps.resize(reference.len(), Gap::default());
    let each = gaps.iter_mut().zip(found.iter().zip(reference)).enumerate();
    let results = each.map(|(i, (gap, (found, reference)))| -> (usize, Result<()>) {
        (i, gap.add(found, reference))
    });
    results.filter_map(|(i, result)| Some((i, result.err()?.to_string()))).collect()
}

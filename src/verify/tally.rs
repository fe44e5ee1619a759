//! Accumulates the comparisons of one task over batches.

use super::engine::Engine;
use super::measure::Gap;
use super::reported::allowed;
use super::{
    Limits, OutputVerification, Reading, RuntimeDeviation, Subject, TaskVerification, misclassified,
};
use crate::error::Result;
use crate::runtime::HostArray;

/// The comparisons of one task so far.
#[derive(Default)]
pub(super) struct Tally {
    outputs: Vec<String>,
    runtimes: Vec<Runtime>,
    scores: Scores,
}

/// Gaps in one runtime, one entry per output.
struct Runtime {
    name: &'static str,
    samples: usize,
    original: Vec<Gap>,
    exact: Option<Vec<Gap>>,
    first: Option<Vec<Gap>>,
    /// Between the original nets here and in the first runtime.
    originals: Vec<Gap>,
    /// Faults of outputs other than deviations, without repetitions.
    wrong: Vec<String>,
    /// The reason why this runtime does not count, if so.
    strange: Option<String>,
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

/// The outputs of one batch in one runtime, in the original net's order.
pub(super) struct Batch<'a> {
    pub(super) reference: Vec<HostArray>,
    pub(super) exact: Option<Vec<HostArray>>,
    pub(super) found: Vec<HostArray>,
    pub(super) labels: Option<&'a [i64]>,
    pub(super) reading: Reading,
}

/// The outputs of one batch in the first runtime.
pub(super) struct First {
    reference: Vec<HostArray>,
    found: Vec<HostArray>,
}

impl Tally {
    /// Adds a batch; `first` holds the outputs of the first runtime.
    pub(super) fn add(
        &mut self,
        engine: &Engine<'_>,
        task: usize,
        batch: Batch<'_>,
        first: &mut Option<First>,
    ) {
        if self.outputs.is_empty() {
            self.outputs = engine.outputs(task).into_iter().map(str::to_owned).collect();
        }
        let at = self.runtime(engine);
        let Some(runtime) = self.runtimes.get_mut(at) else { return };
        runtime.samples += batch.found.first().and_then(HostArray::rows).unwrap_or(0);
        let mut problems = compare(&mut runtime.original, &batch.found, &batch.reference);
        if let Some(exact) = &batch.exact {
            let gaps = runtime.exact.get_or_insert_default();
            problems.extend(compare(gaps, &batch.found, exact));
        }
        match first {
            Some(first) => {
                let strange = compare(&mut runtime.originals, &batch.reference, &first.reference);
                for (output, problem) in strange {
                    let name = self.outputs.get(output).map_or("", String::as_str);
                    runtime.strange = Some(format!("the original's output '{name}' {problem}"));
                }
                let gaps = runtime.first.get_or_insert_default();
                problems.extend(compare(gaps, &batch.found, &first.found));
            }
            None => {
                self.scores.add(&batch);
                *first = Some(First { reference: batch.reference, found: batch.found });
            }
        }
        for (output, problem) in problems {
            let name = self.outputs.get(output).map_or("", String::as_str);
            let said = format!("output '{name}' {problem} in {}", engine.description);
            if !runtime.wrong.contains(&said) {
                runtime.wrong.push(said);
            }
        }
    }

    /// The index of an engine's entry.
    fn runtime(&mut self, engine: &Engine<'_>) -> usize {
        let known = self.runtimes.iter().position(|r| r.name == engine.name);
        known.unwrap_or_else(|| {
            self.runtimes.push(Runtime {
                name: engine.name,
                samples: 0,
                original: Vec::new(),
                exact: None,
                first: None,
                originals: Vec::new(),
                wrong: Vec::new(),
                strange: None,
            });
            self.runtimes.len() - 1
        })
    }

    /// Failures, and notes on runtimes that do not count, as sentences.
    pub(super) fn verdict(
        &self,
        subject: &Subject<'_>,
        limits: &Limits,
    ) -> (Vec<String>, Vec<String>) {
        let task = subject.task;
        let (mut failures, mut notes) = (Vec::new(), Vec::new());
        for (place, runtime) in self.runtimes.iter().enumerate() {
            if let Some(why) = runtime.strangeness(limits) {
                notes.push(format!("{}: task '{task}': {why}", runtime.name));
                continue;
            }
            failures.extend(runtime.wrong.iter().map(|w| format!("task '{task}': {w}")));
            for (i, output) in self.outputs.iter().enumerate() {
                let mut found = runtime.failures(i, limits);
                if place == 0 {
                    found.extend(runtime.beyond(i, reported(subject, output)));
                    found.extend(runtime.touched(i, limits).filter(|_| subject.is_untouched));
                }
                failures.extend(
                    found
                        .into_iter()
                        .map(|what| format!("task '{task}', output '{output}': {what}")),
                );
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
        (failures, notes)
    }

    pub(super) fn into_report(self, subject: &Subject<'_>) -> TaskVerification {
        let (before, after) = self.scores.errors().unzip();
        let outputs = self.outputs.iter().enumerate().map(|(i, output)| OutputVerification {
            name: output.clone(),
            reported: reported(subject, output),
            runtimes: self.runtimes.iter().map(|r| r.deviation(i)).collect(),
        });
        TaskVerification {
            name: subject.task.to_owned(),
            samples: self.runtimes.iter().map(|runtime| runtime.samples).max().unwrap_or(0),
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
            samples: self.samples,
            original: of(&self.original).unwrap_or_default(),
            net: self.exact.as_ref().and_then(of),
            first_runtime: self.first.as_ref().and_then(of),
        }
    }

    /// The reason why this runtime does not count, if it computes the original or merged nets
    /// differently.
    fn strangeness(&self, limits: &Limits) -> Option<String> {
        let differs = || {
            let gap = self.originals.iter().find(|gap| !gap.within(limits.tolerance))?;
            let max = gap.deviation().max;
            Some(format!("the original itself differs from the first runtime by {max:.3e}"))
        };
        self.strange.clone().or_else(differs).or_else(|| self.otherwise(limits))
    }

    /// A note if the joint model's outputs differ from those of the first runtime, although the file
    /// reproduces the merged nets here. Runtimes may round a value near one half differently.
    fn otherwise(&self, limits: &Limits) -> Option<String> {
        let faithful = self.exact.as_ref()?.iter().all(|gap| gap.within(limits.tolerance));
        let gap = self.first.as_ref()?.iter().find(|gap| !gap.within(limits.tolerance))?;
        let max = gap.deviation().max;
        faithful
            .then(|| format!("the merged nets differ from the first runtime, too, by {max:.3e}"))
    }

    /// A failure if an output deviates more from its original than the file reports.
    fn beyond(&self, output: usize, reported: Option<f64>) -> Option<String> {
        let (before, now) = (reported?, self.original.get(output)?.deviation().relative);
        // This comparison is false for NaN.
        let fits = now <= allowed(before);
        (!fits).then(|| {
            let (before, now) = (100.0 * before, 100.0 * now);
            format!(
                "differs from the original by {now:.1} %, and by {before:.1} % when it was merged"
            )
        })
    }

    /// A failure if an output deviates from its original by more than rounding can explain.
    fn touched(&self, output: usize, limits: &Limits) -> Option<String> {
        let now = self.original.get(output)?.deviation().relative;
        // This comparison is false for NaN.
        let fits = now <= allowed(0.0).max(limits.tolerance);
        (!fits).then(|| {
            format!(
                "differs from the original by {:.1} %, although nothing of it was merged with other weights",
                100.0 * now
            )
        })
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

/// The deviation of an output as reported in the file.
fn reported(subject: &Subject<'_>, output: &str) -> Option<f64> {
    subject.reported.and_then(|outputs| outputs.get(output)).copied()
}

impl Scores {
    fn add(&mut self, batch: &Batch<'_>) {
        let (Some(found), Some(reference)) = (batch.found.first(), batch.reference.first()) else {
            return;
        };
        let answers = |output: &HostArray| batch.reading.answers(output);
        let (Some(after), Some(before)) = (answers(found), answers(reference)) else {
            return;
        };
        self.positions += after.len();
        self.same += after.iter().zip(&before).filter(|(a, b)| a == b).count();
        let Some(labels) = batch.labels else { return };
        let of_samples = |output: &HostArray| batch.reading.of_samples(output, labels.len());
        // Several answers per sample cannot be compared with one label.
        if let (Some(after), Some(before)) = (of_samples(found), of_samples(reference)) {
            self.labelled += labels.len();
            self.wrong_before += misclassified(&before, labels);
            self.wrong_after += misclassified(&after, labels);
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

//! Verifies a joint model against its originals.

use std::path::Path;

use super::data::{DataInput, Given, TaskData, Tried, unmeasurable};
use super::models::{self, Loaded, ModelInput};
use super::options::VerifyOptions;
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::ir::{DataType, ValueId};
use crate::naming::counted;
use crate::onnx;
use crate::progress::Progress;
use crate::runtime::{Port, ports};
use crate::verify::{Joint, Limits, Reported, Subject, Verification, Wiring};

/// Number of samples without data.
pub(crate) const SAMPLES: usize = 256;

/// Compares the joint model in a file with its originals, which are given in the order of its tasks.
///
/// ```no_run
/// use onnx_zip::{Silent, VerifyOptions, verify};
///
/// let models = ["a.onnx".into(), "b.onnx".into()];
/// let options = VerifyOptions::default();
/// let checked = verify("joint.onnx".as_ref(), &models, &["test.npz".into()], &options, &Silent)?;
/// assert!(checked.passed());
/// # Ok::<(), onnx_zip::Error>(())
/// ```
///
/// # Errors
/// Those of reading and running the models; [`ErrorKind::Usage`] for a limit that is no number from 0, and for
/// a limit of errors that cannot be measured. A joint model that fails the comparison is no error.
pub fn verify(
    joint: &Path,
    models: &[ModelInput],
    data: &[DataInput],
    options: &VerifyOptions,
    progress: &dyn Progress,
) -> Result<Verification> {
    let limits = limits(options)?;
    let JointFile { tasks, reported, bytes } = joint_file(joint)?;
    let originals = load_originals(models, &tasks)?;
    let given = Given { inputs: data, options: &options.samples };
    if options.max_drop.is_some() && given.is_synthetic() {
        return Err(unlabelled());
    }
    let all = if given.is_synthetic() { SAMPLES } else { usize::MAX };
    let first = options.runtime.open(progress)?;
    // Deviations measured on random samples say nothing about real ones.
    let like = |file: &&Reported| file.synthetic == given.is_synthetic();
    let limits_of = reported.as_ref().filter(like);
    let trial = Tried { backend: first.as_ref(), progress };
    let data = given.open(&originals, options.limit.unwrap_or(all), options.seed, trial)?;
    if options.max_drop.is_some() {
        check_labels(&tasks, &data)?;
    }
    let subjects: Vec<Subject<'_>> = tasks
        .iter()
        .zip(originals.iter().zip(&data))
        .map(|(task, (original, data))| Subject {
            task: task.as_str(),
            original: original.source(),
            reading: original.reading,
            net: None,
            data: &data.dataset,
            reported: limits_of.and_then(|file| file.tasks.get(task)),
            is_untouched: false,
        })
        .collect();
    let backends = options.runtime.all(&first)?;
    let name = joint.display().to_string();
    let file = Joint { path: joint, name: &name, bytes };
    let batch = options.runtime.batch;
    let checked = crate::verify::verify(file, &subjects, &backends, batch, &limits, progress)?;
    if options.max_drop.is_some() && checked.passed() {
        let measured = checked.tasks.iter().map(|task| task.error_after.is_some());
        check_all(&tasks, measured, unmeasured)?;
    }
    if limits_of.is_none() && options.max_deviation.is_none() && options.max_drop.is_none() {
        progress.note(&progress.worded(&without_limit(reported.is_some())));
    }
    Ok(checked)
}

/// The limits of a verification. Every comparison with NaN is false, so such a limit would let all pass.
///
/// # Errors
/// [`ErrorKind::Usage`] for one that is no number from 0.
fn limits(options: &VerifyOptions) -> Result<Limits> {
    let VerifyOptions { max_deviation, max_drop, tolerance, .. } = options;
    let given = [
        ("max-deviation", *max_deviation),
        ("max-drop", *max_drop),
        ("tolerance", Some(*tolerance)),
    ];
    for (option, limit) in given {
        if let Some(limit) = limit.filter(|limit| !(limit.is_finite() && *limit >= 0.0)) {
            let message = format!("a limit of {limit} is no number ≥ 0");
            return Err(
                Error::new(ErrorKind::Usage, message).hint(Hint::from("correct ").option(option))
            );
        }
    }
    let drop = max_drop.map(|points| points / 100.0);
    Ok(Limits { tolerance: *tolerance, deviation: *max_deviation, drop })
}

/// Checks that the samples of all tasks have labels that can be used.
fn check_labels(tasks: &[String], data: &[TaskData]) -> Result<()> {
    let unusable = data.iter().find_map(|data| data.dataset.unusable_labels());
    if unusable.is_some() {
        return Err(unmeasurable(unusable));
    }
    check_all(tasks, data.iter().map(|data| data.dataset.has_labels()), unlabelled)
}

/// Checks something of all tasks; the error names those for which it does not hold.
fn check_all(
    tasks: &[String],
    holds: impl Iterator<Item = bool>,
    error: impl Fn() -> Error,
) -> Result<()> {
    let wrong: Vec<&str> = tasks
        .iter()
        .zip(holds)
        .filter(|(_, holds)| !holds)
        .map(|(task, _)| task.as_str())
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(error().in_model(wrong.join(", "))) }
}

/// The error for a limit of task errors without labels.
fn unlabelled() -> Error {
    unmeasurable(None).hint(Hint::from("add labels to ").option("data"))
}

/// The error for a limit of the errors of tasks that do not classify.
fn unmeasured() -> Error {
    let message =
        "a limit of the error needs one class per sample, which the first output does not give";
    Error::new(ErrorKind::Usage, message)
        .hint(Hint::from("set a limit with ").option("max-deviation"))
}

/// The note that no deviation fails, and why: the file says nothing of its tasks' deviations, or, if they are
/// `reported`, they are those of other samples.
fn without_limit(reported: bool) -> Hint {
    let why = match reported {
        true => {
            "deviations were measured on made-up samples either now or when the file was merged"
        }
        false => {
            "the file does not say how far its tasks were from their originals when it was merged"
        }
    };
    Hint::from(format!("{why}, so no deviation fails; set a limit with "))
        .option("max-deviation")
        .then(" or ")
        .option("max-drop")
}

/// Loads the original models, which get the names of their tasks.
fn load_originals(models: &[ModelInput], tasks: &[String]) -> Result<Vec<Loaded>> {
    if tasks.len() != models.len() {
        let names = tasks.join(", ");
        let models = counted(models.len(), "model");
        let message = format!("{models} cannot be compared with the tasks {names}");
        return Err(Error::new(ErrorKind::Usage, message)
            .hint("give the original model of each task, in that order"));
    }
    let mut originals = models::load(models, &[])?;
    for (original, task) in originals.iter_mut().zip(tasks) {
        original.name.clone_from(task);
    }
    Ok(originals)
}

/// Facts from a joint model's file.
struct JointFile {
    /// Names of its tasks.
    tasks: Vec<String>,
    reported: Option<Reported>,
    /// Of its weights.
    bytes: u64,
}

fn joint_file(path: &Path) -> Result<JointFile> {
    let model = onnx::load(path)?;
    let inputs = ports(&model.graph, &model.graph.inputs).in_model(path.display())?;
    // Outputs need not be tensors, and only their names count.
    let named = |id: &ValueId| {
        let name = model.graph.value(*id).name.clone();
        Port { name, dtype: DataType::Other(0), shape: None }
    };
    let outputs: Vec<Port> = model.graph.outputs.iter().map(named).collect();
    let wiring = Wiring::of(&inputs, &outputs);
    let tasks = wiring.in_model(path.display())?.tasks;
    Ok(JointFile { tasks, reported: Reported::read(&model), bytes: models::stored(&model.graph) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_from_zero() {
        let default = VerifyOptions::default();
        let zero = VerifyOptions { max_drop: Some(0.0), tolerance: 0.0, ..default.clone() };
        assert!(limits(&default).is_ok() && limits(&zero).is_ok());
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            let cases = [
                VerifyOptions { max_drop: Some(bad), ..default.clone() },
                VerifyOptions { max_deviation: Some(bad), ..default.clone() },
                VerifyOptions { tolerance: bad, ..default.clone() },
            ];
            for options in cases {
                assert_eq!(limits(&options).unwrap_err().kind(), ErrorKind::Usage, "{options:?}");
            }
        }
    }

    #[test]
    fn every_task_that_cannot_be_judged_is_named() {
        let tasks = ["a", "b", "c"].map(str::to_owned);
        assert!(check_all(&tasks, [true; 3].into_iter(), unlabelled).is_ok());
        let error = check_all(&tasks, [false, true, false].into_iter(), unlabelled).unwrap_err();
        assert!(error.to_string().contains("a, c"), "{error}");
    }
}

//! Checks that a net's canonical form computes what the net does.
//!
//! Canonical form is exact, up to rounding. A fault in it would look like a loss of sharing afterwards, so it
//! is looked for before anything is shared.

use super::loading::is_refusal;
use super::measure::Gap;
use super::reported::allowed;
use crate::calib::data::Dataset;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::runtime::{Backend, HostArray, ModelSource, feeds, fixed_batch};

/// Samples that are compared, if the net does not fix the size of a batch.
const SAMPLES: usize = 8;

/// A net with its canonical form.
#[derive(Clone, Copy)]
pub struct Form<'a> {
    /// Name of the task.
    pub task: &'a str,
    /// The net.
    pub original: ModelSource<'a>,
    /// Its canonical form.
    pub canonical: ModelSource<'a>,
    /// Samples for the net's inputs.
    pub data: &'a Dataset,
}

/// Runs a net and its canonical form on one batch. Says nothing about a net that the backend does not run, or
/// whose outputs differ from run to run. Returns whether the net runs on one sample, but not on several.
///
/// # Errors
/// [`ErrorKind::Parity`] if an output has another shape or type, or differs by more than rounding explains.
pub fn check_canonical(form: &Form<'_>, backend: &dyn Backend) -> Result<bool> {
    for size in [SAMPLES, 1] {
        if let Some(answers) = answered(form, backend, size).in_model(form.task)? {
            compare(form, backend, size, answers)?;
            return Ok(size == 1);
        }
    }
    Ok(false)
}

/// Compares the canonical form with what the net answers.
fn compare(
    form: &Form<'_>,
    backend: &dyn Backend,
    size: usize,
    (batch, original): Answers,
) -> Result<()> {
    let Some(mut canonical) = able(backend.load(form.canonical)).in_model(form.task)? else {
        return Ok(());
    };
    let names: Vec<String> = canonical.outputs().iter().map(|port| port.name.clone()).collect();
    let Some(found) = able(canonical.run(&feeds(&batch))).in_model(form.task)? else {
        return Ok(());
    };
    drop(canonical);
    let Some(fault) = first_fault(&names, &found, &original) else { return Ok(()) };
    let again = answered(form, backend, size).in_model(form.task)?;
    if again.is_none_or(|(_, again)| first_fault(&names, &again, &original).is_some()) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Parity, format!("its canonical form computes something else: {fault}"))
        .in_model(form.task)
        .hint(
            "this is a fault of onnx-zip, please report it; until it is mended, simplify the model with another \
             tool, or export it with another operator set",
        ))
}

/// A batch with the original net's outputs, if the backend runs it.
type Answers = (Vec<(String, HostArray)>, Vec<HostArray>);

/// Runs the original net on `size` samples, if it does not fix their number.
fn answered(form: &Form<'_>, backend: &dyn Backend, size: usize) -> Result<Option<Answers>> {
    let Some(mut net) = able(backend.load(form.original))? else { return Ok(None) };
    let fixed = fixed_batch(net.inputs());
    // Whether samples fill a batch is checked where statistics are taken.
    let Some(range) = form.data.runs(fixed, size).ok().and_then(|all| all.into_iter().next())
    else {
        return Ok(None);
    };
    let batch = form.data.batch(range)?;
    let outputs = able(net.run(&feeds(&batch)))?;
    Ok(outputs.map(|outputs| (batch, outputs)))
}

/// `None` for what a runtime refuses: it is not the one to judge.
fn able<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if is_refusal(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The first output that is not the reference's, as a part of a sentence.
fn first_fault(names: &[String], found: &[HostArray], reference: &[HostArray]) -> Option<String> {
    if found.len() != reference.len() {
        return Some(format!("{} outputs in place of {}", found.len(), reference.len()));
    }
    let pairs = names.iter().zip(found.iter().zip(reference));
    pairs
        .filter_map(|(name, (found, reference))| {
            let mut gap = Gap::default();
            let what = match gap.add(found, reference) {
                Err(e) => e.to_string(),
                Ok(()) if gap.broken > 0 => {
                    format!("has {} elements that are NaN or infinite", gap.broken)
                }
                Ok(()) if gap.is_alike(allowed(0.0)) => return None,
                Ok(()) => format!("differs by {:.1} %", 100.0 * gap.deviation().relative),
            };
            Some(format!("output '{name}' {what}"))
        })
        .next()
}

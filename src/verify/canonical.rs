//! Checks that a net's canonical form computes what the net does.
//!
//! Canonical form is exact, up to rounding. A fault in it would look like a loss of sharing afterwards, so it
//! is looked for before anything is shared.

use super::loading::able;
use super::measure::Gap;
use super::reported::allowed;
use super::sensitivity::explained;
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

/// What a comparison finds out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether both compute the same.
    pub likeness: Likeness,
    /// Whether the net runs on one sample, but not on several.
    pub runs_alone: bool,
}

/// Whether a net and its canonical form compute the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Likeness {
    /// The outputs are the same up to rounding, or nothing can be said about them.
    Alike,
    /// The outputs differ by no more than rounding moves those of this net, which says so as a clause.
    Unsteady(String),
}

/// Runs a net and its canonical form on one batch. Says nothing about a net that the backend does not run, or
/// whose outputs differ from run to run.
///
/// # Errors
/// [`ErrorKind::Parity`] if an output has another shape or type, or differs by more than rounding explains.
pub fn check_canonical(form: &Form<'_>, backend: &dyn Backend) -> Result<Finding> {
    for size in [SAMPLES, 1] {
        if let Some(answers) = answered(form, backend, size).in_model(form.task)? {
            let likeness = compare(form, backend, size, answers)?;
            return Ok(Finding { likeness, runs_alone: size == 1 });
        }
    }
    Ok(Finding { likeness: Likeness::Alike, runs_alone: false })
}

/// Compares the canonical form with what the net answers.
fn compare(
    form: &Form<'_>,
    backend: &dyn Backend,
    size: usize,
    (batch, original): Answers,
) -> Result<Likeness> {
    let Some(mut canonical) = able(backend.load(form.canonical)).in_model(form.task)? else {
        return Ok(Likeness::Alike);
    };
    let names: Vec<String> = canonical.outputs().iter().map(|port| port.name.clone()).collect();
    let Some(found) = able(canonical.run(&feeds(&batch))).in_model(form.task)? else {
        return Ok(Likeness::Alike);
    };
    drop(canonical);
    let Some(fault) = first_fault(&names, &found, &original, &[]) else {
        return Ok(Likeness::Alike);
    };
    let again = answered(form, backend, size).in_model(form.task)?;
    if again.is_none_or(|(_, again)| first_fault(&names, &again, &original, &[]).is_some()) {
        return Ok(Likeness::Alike);
    }
    let limits = match form.canonical {
        ModelSource::Graph(net) => explained(net, &batch, &found, backend).in_model(form.task)?,
        _ => Vec::new(),
    };
    if first_fault(&names, &found, &original, &limits).is_none() {
        return Ok(Likeness::Unsteady(format!(
            "in canonical form, {fault}; it rounds activations to few bits, and changes of its weights by a \
             thousandth move its outputs as far, so this says nothing about the form"
        )));
    }
    Err(Error::new(ErrorKind::Parity, format!("its canonical form computes something else: {fault}"))
        .in_model(form.task)
        .hint(
            "this is probably a fault of onnx-zip, please report it; until it is mended, simplify the model with \
             another tool, or export it with another operator set",
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

/// The first output that is not the reference's, as a part of a sentence. `limits` are relative differences that are
/// allowed beside those of all nets, by output.
fn first_fault(
    names: &[String],
    found: &[HostArray],
    reference: &[HostArray],
    limits: &[f64],
) -> Option<String> {
    if found.len() != reference.len() {
        return Some(format!("{} outputs in place of {}", found.len(), reference.len()));
    }
    let pairs = names.iter().zip(found.iter().zip(reference)).enumerate();
    pairs
        .filter_map(|(place, (name, (found, reference)))| {
            let mut gap = Gap::default();
            let limit = limits.get(place).copied().unwrap_or(0.0).max(allowed(0.0));
            let what = match gap.add(found, reference) {
                Err(e) => e.to_string(),
                Ok(()) if gap.broken > 0 => {
                    format!("has {} elements that are NaN or infinite", gap.broken)
                }
                Ok(()) if gap.is_alike(limit) => return None,
                Ok(()) => format!("differs by {:.1} %", 100.0 * gap.deviation().relative),
            };
            Some(format!("output '{name}' {what}"))
        })
        .next()
}

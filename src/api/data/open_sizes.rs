//! Finds sizes that inputs leave open by trial, where there are no samples that have them.

use super::{Net, Tried};
use crate::calib::data::{DataOptions, Dataset, Extents, trials};
use crate::error::{Context, Hint, Result};
use crate::runtime::{Port, Session, feeds, fixed_batch};

/// Sizes for open dimensions: the first with which all nets run and return one result per sample. Otherwise
/// sizes with which they run although a reshape makes several samples of one. Empty if nothing is open, or if
/// no size works; a later error then names the open dimension.
///
/// # Errors
/// As [`crate::runtime::Backend::load`]; [`crate::error::ErrorKind::Interrupted`] where the user stops it.
pub(super) fn settled(
    nets: &[Net<'_>],
    options: &DataOptions,
    seed: u64,
    trial: Tried<'_>,
) -> Result<Extents> {
    let ports: Vec<&[Port]> = nets.iter().map(|net| net.ports).collect();
    let candidates = trials(&ports, &options.dims);
    if candidates.is_empty() {
        return Ok(Extents::new());
    }
    let mut sessions = Vec::new();
    for net in nets {
        let Some(source) = net.source else { return Ok(Extents::new()) };
        sessions.push(trial.backend.load(source).in_model(net.name)?);
    }
    let volume =
        |extents: &Extents| extents.values().fold(1usize, |n, size| n.saturating_mul(*size));
    let mut runs: Option<Extents> = None;
    for extents in candidates {
        trial.progress.check()?;
        // The size that a reshape expects is smaller than sizes that it cuts into several samples.
        if runs.as_ref().is_some_and(|found| volume(&extents) >= volume(found)) {
            continue;
        }
        let mut tried = options.clone();
        tried.dims.extend(extents.clone());
        let mut nets = nets.iter().zip(&mut sessions);
        let answers = nets.try_fold(true, |all, (net, session)| {
            Some(all & answers_by_sample(net, session.as_mut(), seed, &tried)?)
        });
        match answers {
            Some(true) => return Ok(extents),
            Some(false) => runs = runs.or(Some(extents)),
            None => {}
        }
    }
    Ok(runs.unwrap_or_default())
}

/// Whether a net returns one result per sample; `None` if it does not run.
fn answers_by_sample(
    net: &Net<'_>,
    session: &mut dyn Session,
    seed: u64,
    options: &DataOptions,
) -> Option<bool> {
    let samples = fixed_batch(net.ports).unwrap_or(1);
    let data = Dataset::synthetic(net.ports, samples, seed, options).ok()?;
    let outputs = session.run(&feeds(&data.batch(0..samples).ok()?)).ok()?;
    let is_open = |port: &Port| {
        let first = port.shape.as_ref().and_then(|shape| shape.first());
        first.is_some_and(|dim| dim.known().is_none())
    };
    let mut open = session.outputs().iter().zip(&outputs).filter(|(port, _)| is_open(port));
    Some(open.all(|(_, array)| array.shape().first() == Some(&samples)))
}

/// A note about sizes that were found by trial.
pub(super) fn taken(extents: &Extents) -> Hint {
    let sizes: Vec<String> = extents.iter().map(|(key, n)| format!("{key} = {n}")).collect();
    let sizes = sizes.join(", ");
    Hint::from(format!("the models leave sizes open, and these were taken: {sizes}; "))
        .option("dim")
        .then(" takes others")
}

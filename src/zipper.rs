//! The order of stages: load → canonicalise → couple → align → (calibrate → pair → fuse) per site →
//! emit. Nobody else knows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::align::Alignment;
use crate::calib::data::Dataset;
use crate::calib::store::LayerMoments;
use crate::calib::stream::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::grad;
use crate::ir::Model;
use crate::progress::Progress;
use crate::runtime::Backend;
use crate::zip::joint::JointModel;
use crate::zip::options::{Method, ZipOptions};
use crate::zip::run::{Sensitivities, SiteRecord, Zip};
use crate::zip::size::{Sizes, sizes};

mod prepare;
mod search;

pub use prepare::{Input, Part, Prepared, prepare, prepare_parts};
pub use search::{Goal, merge_for};

pub use crate::zip::allocate::Trial;

/// Samples that sensitivities are estimated from.
const SENSITIVITY_SAMPLES: usize = 2048;

/// How calibration runs.
#[derive(Clone)]
pub struct Calibration {
    /// Runs the nets.
    pub backend: Arc<dyn Backend>,
    /// One data set per task.
    pub data: Vec<Dataset>,
    /// Statistics of the original nets from earlier calibrations, per task, or empty. They count
    /// where statistics are taken in one pass ([`crate::zip::options::Passes::One`]).
    pub stored: Vec<LayerMoments>,
    /// Samples per batch; smaller where a model fixes its batch size.
    pub batch: usize,
    /// Bytes that kept activations may take, per task.
    pub memory: u64,
}

/// What happened during a merge.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What happened at each site that several nets have.
    pub sites: Vec<SiteRecord>,
    /// Parameters before and after.
    pub sizes: Sizes,
    /// Seconds per stage, in order.
    pub seconds: Vec<(&'static str, f64)>,
    /// Tasks whose pairs were weighted without gradients, with the reason.
    pub without_sensitivity: Vec<(String, String)>,
    /// Samples used, per task.
    pub samples: Vec<usize>,
}

/// Merges prepared nets: shares neurons and fuses their weights.
///
/// # Errors
/// [`ErrorKind::Misaligned`] if there is nothing that could be shared; else as the stages it runs.
pub fn merge(
    prepared: Prepared,
    calibration: &Calibration,
    options: &ZipOptions,
    progress: &dyn Progress,
) -> Result<(JointModel, Outcome)> {
    let Prepared { mut joint, alignment, mut seconds } = prepared;
    if alignment.groups.is_empty() {
        return Err(misaligned(&joint, &alignment));
    }
    let start = Instant::now();
    let mut without_sensitivity = Vec::new();
    let sensitivities = match options.method {
        Method::Mtz => Vec::new(),
        // Stored statistics stand for data that is not at hand: pairs are weighted by their energy.
        Method::Refit if !calibration.stored.is_empty() => Vec::new(),
        Method::Refit => {
            measure_sensitivities(&joint, calibration, options, progress, &mut without_sensitivity)?
        }
    };
    seconds.push(("sensitivities", start.elapsed().as_secs_f64()));
    let start = Instant::now();
    let sources: Vec<Source<'_>> = joint
        .tasks
        .iter()
        .zip(&calibration.data)
        .map(|(task, data)| Source {
            backend: calibration.backend.as_ref(),
            data,
            batch: batch_size(&task.model, calibration.batch),
            memory: calibration.memory,
        })
        .collect();
    let samples = calibration.data.iter().map(Dataset::len).collect();
    let stored = &calibration.stored;
    let zip = Zip::new(&mut joint, &alignment, sources, &sensitivities, stored, options, progress)?;
    let sites = zip.run()?;
    if sites.iter().all(|site| site.reason.is_some()) {
        return Err(misaligned(&joint, &alignment));
    }
    seconds.push(("zip", start.elapsed().as_secs_f64()));
    let sizes = sizes(&joint)?;
    Ok((joint, Outcome { sites, sizes, seconds, without_sensitivity, samples }))
}

/// The batch size that a model insists on, else `default`.
fn batch_size(model: &Model, default: usize) -> usize {
    let graph = &model.graph;
    let fixed = graph
        .inputs
        .iter()
        .find_map(|i| graph.value(*i).ty.as_ref()?.shape.as_ref()?.first()?.known());
    fixed.unwrap_or(default).max(1)
}

fn measure_sensitivities(
    joint: &JointModel,
    calibration: &Calibration,
    options: &ZipOptions,
    progress: &dyn Progress,
    without: &mut Vec<(String, String)>,
) -> Result<Vec<Sensitivities>> {
    progress.begin("sensitivities", joint.tasks.len() as u64);
    let mut all = Vec::new();
    for (task, data) in joint.tasks.iter().zip(&calibration.data) {
        progress.check()?;
        let batch = batch_size(&task.model, calibration.batch);
        let measured = grad::sensitivities(
            &task.model,
            &task.coupling,
            calibration.backend.as_ref(),
            data,
            SENSITIVITY_SAMPLES,
            batch,
            options.seed,
        );
        all.push(match measured {
            Ok(sensitivities) => sensitivities,
            Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Backend) => {
                without.push((task.name.clone(), e.to_string()));
                BTreeMap::new()
            }
            Err(e) => return Err(e),
        });
        progress.step();
    }
    // Weights of both tasks are compared with each other: either both have them or none.
    if !without.is_empty() {
        all.iter_mut().for_each(BTreeMap::clear);
    }
    Ok(all)
}

fn misaligned(joint: &JointModel, alignment: &Alignment) -> Error {
    let names: Vec<&str> = joint.tasks.iter().map(|t| t.name.as_str()).collect();
    let names = names.join(" and ");
    let what = match (
        alignment.divergences.iter().flatten().next(),
        alignment.refused.values().next(),
    ) {
        (Some(d), _) => format!(
            "{names} have no layers in common that could be shared: they first differ at '{}' against '{}' ({})",
            d.a.as_deref().unwrap_or("the end"),
            d.b.as_deref().unwrap_or("the end"),
            d.difference
        ),
        (None, Some(reason)) => format!("{names} have no channels that could be shared: {reason}"),
        (None, None) => format!("{names} have no layers with weights"),
    };
    Error::new(ErrorKind::Misaligned, what).hint("`onnx-zip plan` shows the whole alignment")
}

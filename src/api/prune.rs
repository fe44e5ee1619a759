//! Prunes the weights of one model.

use std::path::Path;

use super::data::{DataInput, Given, SYNTHETIC_SAMPLES, Tried};
use super::measured::Measured;
use super::models::{self, Loaded, ModelInput};
use super::options::PruneOptions;
use super::plain::check_plain;
use super::{TOOL, inputs, output};
use crate::canon::{CanonOptions, canonicalise};
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::mtz::joint::Task;
use crate::onnx::{self, SaveOptions};
use crate::progress::Progress;
use crate::prune as surgeon;
use crate::report::PruneReport;

/// Prunes a model: sets a part of each layer's weights to zero, and fits the others to the layer's
/// original pre-activations. There is no training.
///
/// ```no_run
/// use onnx_zip::{PruneOptions, Silent, prune};
///
/// let (model, data) = ("a.onnx".into(), ["images.npz".into()]);
/// let options = PruneOptions::sparsity(0.9);
/// let report = prune(&model, &data, &options, "a_sparse.onnx".as_ref(), &Silent)?;
/// assert!(!report.layers.is_empty());
/// # Ok::<(), onnx_zip::Error>(())
/// ```
///
/// # Errors
/// Those of reading and running the model; [`ErrorKind::Usage`] for options that make no sense, and for a
/// joint model.
pub fn prune(
    model: &ModelInput,
    data: &[DataInput],
    options: &PruneOptions,
    output: &Path,
    progress: &dyn Progress,
) -> Result<PruneReport> {
    let given = Given { inputs: data, options: &options.samples };
    let models = std::slice::from_ref(model);
    output::check(output, &[inputs::of_models(models), inputs::of_samples(given)].concat())?;
    let mut loaded = models::load(models, &[])?;
    let (fault, hint) =
        ("a joint model cannot be pruned", "prune the original models, and merge the pruned ones");
    loaded.iter().try_for_each(|one| check_plain(&one.model, fault, hint).in_model(&one.name))?;
    let backend = options.runtime.open(progress)?;
    let limit = if given.is_synthetic() { SYNTHETIC_SAMPLES } else { options.limit };
    let trial = Tried { backend: backend.as_ref(), progress };
    let (limit, seed) = (limit.min(options.limit), options.statistics.seed);
    let mut data = given.open(&loaded, limit, seed, trial)?;
    let (Some(Loaded { name, model, .. }), Some(data)) = (loaded.pop(), data.pop()) else {
        return Err(Error::new(ErrorKind::Usage, "there is no model to prune"));
    };
    if given.is_synthetic() {
        let remark = Hint::from("no samples were given (")
            .option("data")
            .then("), so the model was pruned on random numbers");
        progress.warn(&progress.worded(&remark));
    }
    let canonical = canonicalise(model, &CanonOptions::default())?;
    let mut model = Task::new(name.as_str(), canonical)?.model().clone();
    let limits = (options.runtime.batch, options.statistics.bytes());
    let measured = Measured::new(&model, backend, &data.dataset, limits);
    let method = surgeon::PruneOptions {
        sparsity: options.sparsity,
        saliency: options.method,
        damping: options.damping,
        max_rows: options.statistics.max_rows,
        seed,
    };
    let layers =
        surgeon::prune(&mut model, measured.source(), &method, progress).in_model(&name)?;
    onnx::stage(&model, output, &SaveOptions::default(), progress)?.commit()?;
    Ok(PruneReport::new(TOOL.to_owned(), output.display().to_string(), layers))
}

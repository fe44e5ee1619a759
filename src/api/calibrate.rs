//! Statistics of a model's layer inputs, in a file.

use std::path::{Path, PathBuf};

use super::data::{DataInput, Given, Tried};
use super::models::{self, Loaded, ModelInput};
use super::options::CalibrateOptions;
use super::output;
use crate::calib::gram::Moments;
use crate::calib::store::{self, LayerMoments, Meta};
use crate::calib::stream::{Source, Stream};
use crate::calib::taps::{RowLimit, Running, collect};
use crate::canon::{CanonOptions, canonicalise};
use crate::couple::{CoupledLayer, Coupling};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::Model;
use crate::mtz::joint::coupled;
use crate::progress::Progress;
use crate::runtime::{fixed_batch, measuring};

/// Stores the statistics (second moments) of a model's layer inputs in the file `output`. Without
/// `data`, samples are made up.
///
/// ```no_run
/// use onnx_zip::{CalibrateOptions, Silent, calibrate};
///
/// let (model, data) = ("a.onnx".into(), ["part1.npz".into()]);
/// calibrate(&model, &data, &CalibrateOptions::default(), "a1.gram".as_ref(), &Silent)?;
/// # Ok::<(), onnx_zip::Error>(())
/// ```
///
/// # Errors
/// Those of reading and running the model; [`ErrorKind::Memory`] if the statistics exceed the limit of
/// memory.
pub fn calibrate(
    model: &ModelInput,
    data: &[DataInput],
    options: &CalibrateOptions,
    output: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    output::check(output, &ModelInput::paths(std::slice::from_ref(model)))?;
    let (moments, meta) = Calibrator { options, progress }.measure(model, data)?;
    store::save(output, &moments, &meta, progress)
}

/// Adds up statistics of one model that were collected on several parts of the data.
///
/// ```no_run
/// use onnx_zip::{Silent, add_statistics};
///
/// add_statistics(&["a1.gram".into(), "a2.gram".into()], "a.gram".as_ref(), &Silent)?;
/// # Ok::<(), onnx_zip::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Calibration`] for statistics of different models.
pub fn add_statistics(shards: &[PathBuf], output: &Path, progress: &dyn Progress) -> Result<()> {
    output::check(output, shards)?;
    let loaded = shards.iter().map(|path| store::load(path)).collect::<Result<_>>()?;
    let (moments, meta) = store::merge(loaded)?;
    store::save(output, &moments, &meta, progress)
}

struct Calibrator<'a> {
    options: &'a CalibrateOptions,
    progress: &'a dyn Progress,
}

impl Calibrator<'_> {
    fn measure(&self, model: &ModelInput, data: &[DataInput]) -> Result<(LayerMoments, Meta)> {
        let Self { options, progress } = self;
        let mut loaded = models::load(std::slice::from_ref(model), &[])?;
        let backend = options.runtime.open(*progress)?;
        let trial = Tried { backend: backend.as_ref(), progress: *progress };
        let (limit, seed) = (options.limit.unwrap_or(usize::MAX), options.statistics.seed);
        let given = Given { inputs: data, options: &options.samples };
        let mut data = given.open(&loaded, limit, seed, trial)?;
        let (Some(Loaded { model, ports, sha256, .. }), Some(data)) = (loaded.pop(), data.pop())
        else {
            return Err(Error::new(ErrorKind::Usage, "there is no model to calibrate"));
        };
        data.record.notes.iter().for_each(|note| progress.note(&progress.worded(note)));
        let (model, _) = coupled(canonicalise(model, &CanonOptions::default())?)?;
        let backend = measuring(backend, [&model.graph]);
        let source = Source {
            backend: backend.as_ref(),
            data: &data.dataset,
            batch: fixed_batch(&ports).unwrap_or(options.runtime.batch),
            memory: options.statistics.bytes(),
        };
        let moments = self.collect(&model, source)?;
        let samples = data.dataset.len() as u64;
        let sources = data.record.source.into_iter().collect();
        Ok((moments, Meta { model_sha256: sha256, samples, sources }))
    }

    fn collect(&self, model: &Model, source: Source<'_>) -> Result<LayerMoments> {
        let statistics = &self.options.statistics;
        let coupling = Coupling::of(&model.graph)?;
        let layers: Vec<&CoupledLayer> =
            coupling.layers.iter().filter(|l| !l.per_channel && !l.layer.is_table()).collect();
        self.check_memory(model, &layers)?;
        self.progress.begin("calibrate", (source.batches() * layers.len()) as u64);
        let limit =
            RowLimit { rows: statistics.max_rows, kept: 0, seed: statistics.seed, part: None };
        let mut stream = Stream::new(model, source)?;
        let mut all = LayerMoments::new();
        for layer in layers {
            let running = Running { model, stream: &mut stream };
            let taken = collect(layer, running, None, limit, self.progress)?;
            all.insert(layer.name.clone(), taken.into_moments()?);
        }
        Ok(all)
    }

    fn check_memory(&self, model: &Model, layers: &[&CoupledLayer]) -> Result<()> {
        let mut needed = 0u64;
        for layer in layers {
            let (_, inputs, taps) = layer.layer.sizes(&model.graph)?;
            needed = needed.saturating_add(Moments::bytes(inputs * taps, 0));
        }
        if needed <= self.options.statistics.bytes() {
            return Ok(());
        }
        let mib = needed >> 20;
        Err(Error::new(ErrorKind::Memory, format!("the statistics take {mib} MiB"))
            .hint(Hint::from("allow more with ").option("memory"))
            .in_model(&model.name))
    }
}

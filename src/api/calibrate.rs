//! Statistics of a model's layer inputs, in a file.

use std::path::{Path, PathBuf};

use super::data::{DataInput, Given, Tried};
use super::measured::Measured;
use super::models::{self, Loaded, ModelInput};
use super::options::CalibrateOptions;
use super::{inputs, output};
use crate::calib::net::{NetStatistics, names};
use crate::calib::product::check_buffers;
use crate::calib::store::{self, Meta};
use crate::calib::stream::{Source, Stream};
use crate::calib::taps::{RowLimit, Running, survey};
use crate::canon::{CanonOptions, canonicalise};
use crate::couple::Coupling;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::Model;
use crate::mtz::joint::coupled;
use crate::mtz::statistics::{CHANNEL_ROWS, survey_bytes};
use crate::progress::Progress;
use crate::zipper::{SENSITIVITY_SAMPLES, sensitivities};

/// Stores statistics of a model in the file `output`: second moments of its layers' inputs, and how much
/// each neuron moves the outputs. Without `data`, samples are random numbers.
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
    let given = Given { inputs: data, options: &options.samples };
    let models = inputs::of_models(std::slice::from_ref(model));
    output::check(output, &[models, inputs::of_samples(given)].concat())?;
    let (statistics, meta) = Calibrator { options, progress }.measure(model, given)?;
    store::save(output, &statistics, &meta, progress)
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
    let (statistics, meta) = store::merge(loaded)?;
    store::save(output, &statistics, &meta, progress)
}

struct Calibrator<'a> {
    options: &'a CalibrateOptions,
    progress: &'a dyn Progress,
}

impl Calibrator<'_> {
    fn measure(&self, model: &ModelInput, given: Given<'_>) -> Result<(NetStatistics, Meta)> {
        let Self { options, progress } = self;
        let mut loaded = models::load(std::slice::from_ref(model), &[])?;
        let backend = options.runtime.open(*progress)?;
        let trial = Tried { backend: backend.as_ref(), progress: *progress };
        let (limit, seed) = (options.limit.unwrap_or(usize::MAX), options.statistics.seed);
        let mut data = given.open(&loaded, limit, seed, trial)?;
        let (Some(Loaded { model, sha256, .. }), Some(data)) = (loaded.pop(), data.pop()) else {
            return Err(Error::new(ErrorKind::Usage, "there is no model to calibrate"));
        };
        data.record.notes.iter().for_each(|note| progress.note(&progress.worded(note)));
        let batchnorm = options.models.batchnorm;
        let is_normalised = model.graph.nodes().any(|(_, node)| node.is("BatchNormalization"));
        let canon = CanonOptions { batchnorm, ..CanonOptions::default() };
        let (model, coupling) = coupled(canonicalise(model, &canon)?)?;
        self.check_memory(&model, &coupling)?;
        check_buffers()?;
        let limits = (options.runtime.batch, options.statistics.bytes());
        let measured = Measured::new(&model, backend, &data.dataset, limits);
        let source = measured.source();
        let mut statistics = self.collect(&model, &coupling, &source)?;
        let without = self.weigh(&model, &coupling, &source, &mut statistics)?;
        let samples = source.data.len();
        let meta = Meta {
            model_sha256: sha256,
            samples: samples as u64,
            sources: data.record.source.into_iter().collect(),
            fingerprints: vec![source.data.digest()?],
            batchnorm: is_normalised.then(|| batchnorm.name().to_owned()),
            sensitivity_samples: samples.min(SENSITIVITY_SAMPLES) as u64,
            without_sensitivity: without,
        };
        Ok((statistics, meta))
    }

    /// Statistics of all layers' inputs.
    fn collect(
        &self,
        model: &Model,
        coupling: &Coupling,
        source: &Source<'_>,
    ) -> Result<NetStatistics> {
        let options = &self.options.statistics;
        let limit = RowLimit {
            rows: options.max_rows,
            kept: 0,
            coherence: 1.0,
            seed: options.seed,
            part: None,
        };
        let layers = &coupling.layers;
        self.progress.begin("calibrate", (source.batches() * layers.len()) as u64);
        let mut stream = Stream::new(model, source.clone())?;
        let mut all = NetStatistics::default();
        for (layer, name) in layers.iter().zip(names(layers)) {
            let running = Running { model, stream: &mut stream };
            let rows = if layer.per_channel { limit.rows.min(CHANNEL_ROWS) } else { limit.rows };
            let limit = RowLimit { rows, ..limit };
            all.layers.insert(name, survey(layer, running, limit, self.progress)?);
        }
        Ok(all)
    }

    /// Adds sensitivities of all layers, or returns the reason why there are none.
    fn weigh(
        &self,
        model: &Model,
        coupling: &Coupling,
        source: &Source<'_>,
        statistics: &mut NetStatistics,
    ) -> Result<Option<String>> {
        self.progress.begin("sensitivities", 1);
        let seed = self.options.statistics.seed;
        let measured = match sensitivities((model, coupling), source, seed, true)? {
            Ok(measured) => measured,
            Err(reason) => {
                let message =
                    "the statistics hold no sensitivities, so merges weight errors by variance";
                self.progress.note(&format!("{message}: {reason}"));
                return Ok(Some(reason));
            }
        };
        self.progress.step();
        let all = names(&coupling.layers);
        let named =
            measured.into_iter().filter_map(|(id, own)| Some((all.get(id.0)?.clone(), own)));
        statistics.sensitivities = named.collect();
        Ok(None)
    }

    fn check_memory(&self, model: &Model, coupling: &Coupling) -> Result<()> {
        let mut needed = 0u64;
        for layer in &coupling.layers {
            needed = needed.saturating_add(survey_bytes(&model.graph, layer)?);
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

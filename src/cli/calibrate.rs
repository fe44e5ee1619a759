//! `calibrate`: statistics of a model's layer inputs, in a file.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::console::Console;
use super::data::{DataArgs, Tried};
use super::models::Loaded;
use super::runtime::RuntimeArgs;
use super::statistics::StatisticsArgs;
use super::{Status, models, output};
use crate::calib::gram::Moments;
use crate::calib::store::{self, LayerMoments, Meta};
use crate::calib::stream::{Source, Stream};
use crate::calib::taps::{RowLimit, Running, collect};
use crate::canon::{CanonOptions, canonicalise};
use crate::couple::{CoupledLayer, Coupling};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::Model;
use crate::mtz::joint::coupled;
use crate::progress::Progress;
use crate::runtime::fixed_batch;

/// Store the statistics of one model's layer inputs, or add up stored ones
///
/// Statistics (second moments of each layer's inputs) of several parts of the data, taken on several
/// machines, add up to those of all of it.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct CalibrateArgs {
    /// The model, as an .onnx file
    #[arg(value_name = "MODEL", required_unless_present = "merge", requires = "data")]
    model: Option<PathBuf>,
    /// Add up these files of statistics of one model
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["model", "data"])]
    merge: Vec<PathBuf>,
    /// Where to write the statistics
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// Samples to run, drawn at random where there are more [default: all]
    #[arg(long, value_name = "N", help_heading = "Data",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    samples: Option<usize>,
    #[command(flatten)]
    statistics: StatisticsArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

const EXAMPLES: &str = "\
Examples:
  onnx-zip calibrate a.onnx --data part1.npz -o a1.gram
  onnx-zip calibrate a.onnx --data part2.npz -o a2.gram
  onnx-zip calibrate --merge a1.gram a2.gram -o a.gram";

impl CalibrateArgs {
    pub(super) fn run(&self, console: &Console) -> Result<Status> {
        let inputs: Vec<PathBuf> = self.model.iter().chain(&self.merge).cloned().collect();
        output::check(&self.output, &inputs)?;
        let (moments, meta) = match &self.model {
            Some(path) => self.measure(path, console)?,
            None => {
                let shards = self.merge.iter().map(|path| store::load(path));
                store::merge(shards.collect::<Result<_>>()?)?
            }
        };
        console.finish();
        store::save(&self.output, &moments, &meta, console)?;
        Ok(Status::Done)
    }

    fn measure(&self, path: &Path, console: &Console) -> Result<(LayerMoments, Meta)> {
        let mut loaded = models::load(&[path.to_owned()], &[])?;
        let backend = self.runtime.open(console)?;
        let trial = Tried { backend: backend.as_ref(), console };
        let (limit, seed) = (self.samples.unwrap_or(usize::MAX), self.statistics.seed);
        let mut data = self.data.open(&loaded, limit, seed, trial)?;
        let (Some(Loaded { model, ports, sha256, .. }), Some(data)) = (loaded.pop(), data.pop())
        else {
            return Err(Error::new(ErrorKind::Usage, "there is no model to calibrate"));
        };
        data.record.notes.iter().for_each(|note| console.note(note));
        let (model, _) = coupled(canonicalise(model, &CanonOptions::default())?)?;
        let source = Source {
            backend: backend.as_ref(),
            data: &data.dataset,
            batch: fixed_batch(&ports).unwrap_or(self.runtime.batch),
            memory: self.statistics.memory(),
        };
        let moments = self.collect(&model, source, console)?;
        let samples = data.dataset.len() as u64;
        let sources = data.record.source.into_iter().collect();
        Ok((moments, Meta { model_sha256: sha256, samples, sources }))
    }

    fn collect(
        &self,
        model: &Model,
        source: Source<'_>,
        console: &Console,
    ) -> Result<LayerMoments> {
        let coupling = Coupling::of(&model.graph)?;
        let layers: Vec<&CoupledLayer> =
            coupling.layers.iter().filter(|layer| !layer.per_channel).collect();
        self.check_memory(model, &layers)?;
        console.begin("calibrate", (source.batches() * layers.len()) as u64);
        let limit =
            RowLimit { rows: self.statistics.max_rows, kept: 0, seed: self.statistics.seed };
        let mut stream = Stream::new(model, source)?;
        let mut all = LayerMoments::new();
        for layer in layers {
            let running = Running { model, stream: &mut stream };
            let statistics = collect(layer, running, None, limit, console)?;
            all.insert(layer.name.clone(), statistics.into_moments()?);
        }
        Ok(all)
    }

    fn check_memory(&self, model: &Model, layers: &[&CoupledLayer]) -> Result<()> {
        let mut needed = 0u64;
        for layer in layers {
            let (_, inputs, taps) = layer.layer.sizes(&model.graph)?;
            needed = needed.saturating_add(Moments::bytes(inputs * taps, 0));
        }
        if needed <= self.statistics.memory() {
            return Ok(());
        }
        let mib = needed >> 20;
        Err(Error::new(ErrorKind::Memory, format!("the statistics take {mib} MiB"))
            .hint("allow that with --memory")
            .in_model(&model.name))
    }
}

//! `prune`: leaves out weights of one model.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, RangedU64ValueParser};

use super::console::Console;
use super::data::{DataArgs, SYNTHETIC_SAMPLES, Tried};
use super::models::{self, Loaded};
use super::runtime::RuntimeArgs;
use super::statistics::StatisticsArgs;
use super::{Status, TOOL, output};
use crate::calib::stream::Source;
use crate::canon::{CanonOptions, canonicalise};
use crate::error::{Error, ErrorKind, Result};
use crate::mtz::options::MergeOptions;
use crate::onnx::{self, SaveOptions};
use crate::prune::{PruneOptions, Saliency, prune};
use crate::report::PruneReport;
use crate::runtime::fixed_batch;

/// Leave out the weights that a model's layers can do without
///
/// A part of each layer's weights becomes zero, and those that stay are fitted to what the layer computed
/// before; there is no training. Merging two pruned models keeps their zeros: the joint model has no more
/// connections than the two had.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct PruneArgs {
    /// The trained model, as an .onnx file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Where to write the pruned model
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Part of each layer's weights that become zero: 0.9 or 90%; biases stay
    #[arg(long, value_name = "S", value_parser = super::share::fraction)]
    sparsity: f64,
    /// How weights are chosen
    #[arg(long, value_name = "METHOD", default_value = METHODS[0].0, value_parser = methods())]
    method: String,
    #[command(flatten)]
    data: DataArgs,
    /// Samples to take statistics from, drawn at random where there are more
    #[arg(long, value_name = "N", default_value_t = 10_000, help_heading = "Data",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    samples: usize,
    /// Added to each Hessian's diagonal, relative to its mean
    #[arg(long, value_name = "D", default_value_t = MergeOptions::default().damping)]
    damping: f64,
    #[command(flatten)]
    statistics: StatisticsArgs,
    /// Print the report as JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

const EXAMPLES: &str = "\
Examples:
  onnx-zip prune a.onnx --sparsity 90% --data images.npz --scale 1/255 -o a_sparse.onnx
  onnx-zip prune a.onnx --sparsity 0.5 --method magnitude --data images.npz -o a_sparse.onnx";

const METHODS: [(&str, Saliency, &str); 2] = [
    (
        "l-obs",
        Saliency::LObs,
        "those that cost least, if the others make up for them (optimal brain surgeon)",
    ),
    ("magnitude", Saliency::Magnitude, "the smallest"),
];

fn methods() -> PossibleValuesParser {
    METHODS.iter().map(|(name, _, help)| PossibleValue::new(*name).help(*help)).into()
}

impl PruneArgs {
    pub(super) fn run(&self, console: &Console) -> Result<Status> {
        output::check(&self.output, std::slice::from_ref(&self.model))?;
        let mut loaded = models::load(std::slice::from_ref(&self.model), &[])?;
        let backend = self.runtime.open(console)?;
        let limit = if self.data.is_synthetic() { SYNTHETIC_SAMPLES } else { self.samples };
        let trial = Tried { backend: backend.as_ref(), console };
        let (limit, seed) = (limit.min(self.samples), self.statistics.seed);
        let mut data = self.data.open(&loaded, limit, seed, trial)?;
        let (Some(Loaded { name, model, ports, .. }), Some(data)) = (loaded.pop(), data.pop())
        else {
            return Err(Error::new(ErrorKind::Usage, "there is no model to prune"));
        };
        if self.data.is_synthetic() {
            console.warn("no --data was given, so the model was pruned on random numbers");
        }
        let mut model = canonicalise(model, &CanonOptions::default())?.into_inner();
        let source = Source {
            backend: backend.as_ref(),
            data: &data.dataset,
            batch: fixed_batch(&ports).unwrap_or(self.runtime.batch),
            memory: self.statistics.memory(),
        };
        let saliency = METHODS.iter().find(|(name, ..)| *name == self.method);
        let options = PruneOptions {
            sparsity: self.sparsity,
            saliency: saliency.map(|(_, s, _)| *s).unwrap_or_default(),
            damping: self.damping,
            max_rows: self.statistics.max_rows,
            seed: self.statistics.seed,
        };
        let layers = prune(&mut model, source, &options, console).map_err(|e| e.in_model(&name))?;
        onnx::stage(&model, &self.output, &SaveOptions::default(), console)?.commit()?;
        console.finish();
        let report = PruneReport::new(TOOL.to_owned(), self.output.display().to_string(), layers);
        let text = if self.json { output::json(&report)? } else { report.text() };
        output::print_beside(&self.output, &text)?;
        Ok(Status::Done)
    }
}

//! Merges pairs of trained nets in full, retrains them, and prints test errors: the table of
//! `docs/retraining.md`.
//!
//!     cargo run --release --example retrain -- [PAIR…] [--iterations N] [--alpha A] [--scratch]
//!
//! Pairs are those of `PAIRS`. With `--alpha`, errors of the first task count A and those of the second
//! 1 − A in the merge. With `--scratch`, the merged net's weights are drawn at random before it is
//! trained on labels: what a fully shared net learns without a merge.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::ArrayD;
use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::emit::{InputMode, trainable};
use onnx_zip::error::{Error, ErrorKind, Result};
use onnx_zip::ir::{Model, Tensor};
use onnx_zip::onnx;
use onnx_zip::progress::Silent;
use onnx_zip::retrain::{Lesson, LossKind, RetrainOptions, retrain};
use onnx_zip::runtime::{self, Backend, ModelSource, RuntimeOptions, feeds};
use onnx_zip::zip::joint::JointModel;
use onnx_zip::zip::options::ZipOptions;
use onnx_zip::zipper::{self, Calibration, Input};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A net of `fixtures/models` and the data set of its task.
type Net = (&'static str, &'static str);

/// Name, nets, iterations.
const PAIRS: [(&str, [Net; 2], usize); 7] = [
    ("lenet300-ab", [("lenet300_mnist_a", "mnist"), ("lenet300_mnist_b", "mnist")], 550),
    ("lenet5-ab", [("lenet5_mnist_a", "mnist"), ("lenet5_mnist_b", "mnist")], 600),
    ("lenet300-mf", [("lenet300_mnist_a", "mnist"), ("lenet300_fashion", "fashion")], 1000),
    ("vggbn-mf", [("zoo/vggbn_mnist", "mnist"), ("zoo/vggbn_fashion", "fashion")], 1000),
    ("resnet-mf", [("zoo/resnet_mnist", "mnist"), ("zoo/resnet_fashion", "fashion")], 1000),
    (
        "mobilenet-mf",
        [("zoo/mobilenet_mnist", "mnist"), ("zoo/mobilenet_fashion", "fashion")],
        1000,
    ),
    (
        "inception-mf",
        [("zoo/inception_mnist", "mnist"), ("zoo/inception_fashion", "fashion")],
        1000,
    ),
];

/// What the command line asks for.
struct Wishes {
    pairs: Vec<String>,
    iterations: Option<usize>,
    alpha: Option<f64>,
    scratch: bool,
}

fn main() -> Result<()> {
    let wishes = wishes()?;
    let backend = runtime::open(&RuntimeOptions::default())?;
    println!("{:14} {:28} {:>6} {:>6}  rise", "pair", "state", "A", "B");
    for (name, nets, iterations) in PAIRS {
        if wishes.pairs.is_empty() || wishes.pairs.iter().any(|p| p == name) {
            let pair = Pair::open(name, nets, &backend)?;
            pair.report(wishes.iterations.unwrap_or(iterations), &wishes)?;
        }
    }
    Ok(())
}

fn wishes() -> Result<Wishes> {
    let mut wishes = Wishes { pairs: Vec::new(), iterations: None, alpha: None, scratch: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let number = |text: Option<String>| {
            let number = text.and_then(|t| t.parse::<f64>().ok());
            number.ok_or_else(|| Error::new(ErrorKind::Usage, format!("{arg} needs a number")))
        };
        match arg.as_str() {
            "--iterations" => wishes.iterations = Some(number(args.next())? as usize),
            "--alpha" => wishes.alpha = Some(number(args.next())?),
            "--scratch" => wishes.scratch = true,
            _ => wishes.pairs.push(arg),
        }
    }
    Ok(wishes)
}

/// Two nets with their data.
struct Pair {
    name: &'static str,
    models: [Model; 2],
    train: Vec<Dataset>,
    test: Vec<Dataset>,
    backend: Arc<dyn Backend>,
}

impl Pair {
    fn open(name: &'static str, nets: [Net; 2], backend: &Arc<dyn Backend>) -> Result<Pair> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let load = |(net, _): Net| onnx::load(&fixtures.join(format!("models/{net}.onnx")));
        let models = [load(nets[0])?, load(nets[1])?];
        let open = |part: &str| -> Result<Vec<Dataset>> {
            let sets = models.iter().zip(nets).map(|(model, (_, task))| {
                data(model, fixtures.join(format!("data/{task}_{part}.npz")), backend.as_ref())
            });
            sets.collect()
        };
        let (train, test) = (open("train")?, open("test")?);
        Ok(Pair { name, models, train, test, backend: Arc::clone(backend) })
    }

    fn report(&self, iterations: usize, wishes: &Wishes) -> Result<()> {
        let before = self.line("original", &self.models, None)?;
        let merged = self.merge(wishes.alpha)?;
        let nets = |joint: &JointModel| [0, 1].map(|t| joint.tasks[t].model.clone());
        self.line("merged", &nets(&merged), Some(before))?;
        let losses = [("distilled", LossKind::Distillation), ("labels", LossKind::CrossEntropy)];
        for (what, loss) in losses {
            let mut joint = merged.clone();
            if wishes.scratch {
                randomise(&mut joint)?;
            }
            let options = RetrainOptions { iterations, loss, ..RetrainOptions::default() };
            let lesson = Lesson {
                data: &self.train,
                teachers: &self.models,
                backend: self.backend.as_ref(),
                checkpoint: None,
                resume: false,
            };
            let outcome = retrain(&mut joint, &lesson, &options, &Silent)?;
            let start = if wishes.scratch { "from scratch" } else { "retrained" };
            let state = format!("{start}, {what}, {}", outcome.best);
            self.line(&state, &nets(&joint), Some(before))?;
        }
        Ok(())
    }

    fn merge(&self, alpha: Option<f64>) -> Result<JointModel> {
        let named = ["a", "b"].iter().zip(&self.models);
        let inputs =
            named.map(|(name, model)| Input { name: (*name).to_owned(), model: model.clone() });
        let prepared = zipper::prepare(inputs.collect())?;
        let calibration = Calibration {
            backend: Arc::clone(&self.backend),
            data: self.train.clone(),
            stored: Vec::new(),
            batch: 200,
            memory: 2 << 30,
        };
        let alpha = alpha.map(|a| vec![a, 1.0 - a]).unwrap_or_default();
        let options = ZipOptions { alpha, ..ZipOptions::default() };
        Ok(zipper::merge(prepared, &calibration, &options, &Silent)?.0)
    }

    /// Prints test errors and their mean rise in points.
    fn line(&self, state: &str, nets: &[Model; 2], before: Option<[f64; 2]>) -> Result<[f64; 2]> {
        let mut errors = [0.0; 2];
        for ((error, net), test) in errors.iter_mut().zip(nets).zip(&self.test) {
            *error = wrong(net, test, self.backend.as_ref())?;
        }
        let rise = before.map(|b| (errors[0] + errors[1] - b[0] - b[1]) / 2.0);
        let rise = rise.map(|r| format!("{r:+.2}")).unwrap_or_default();
        println!("{:14} {state:28} {:6.2} {:6.2}  {rise}", self.name, errors[0], errors[1]);
        Ok(errors)
    }
}

/// Draws every weight of a joint model anew, with the variance that keeps activations alive.
fn randomise(joint: &mut JointModel) -> Result<()> {
    let net = trainable(joint, InputMode::Auto)?;
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut values = Vec::new();
    for parameter in &net.parameters {
        let Some(tensor) = net.model.graph.initializer(parameter.value) else { continue };
        let fan_in: usize = tensor.dims.iter().skip(1).product();
        let reach = if parameter.is_weight { (6.0 / fan_in as f32).sqrt() } else { 0.0 };
        let drawn = ArrayD::from_shape_simple_fn(tensor.dims.clone(), || {
            if reach > 0.0 { random.random_range(-reach..reach) } else { 0.0 }
        });
        values.push(Tensor::from_f32(&drawn));
    }
    net.store(joint, &values)
}

fn data(model: &Model, path: PathBuf, backend: &dyn Backend) -> Result<Dataset> {
    let bytes = onnx::encode(model)?;
    let session = backend.load(ModelSource::Bytes(&bytes))?;
    let options = DataOptions { scale: Some("1/255".parse()?), ..DataOptions::default() };
    Dataset::open(&path, session.inputs(), &options)
}

/// Classification error of a net, in percent.
fn wrong(model: &Model, data: &Dataset, backend: &dyn Backend) -> Result<f64> {
    let bytes = onnx::encode(model)?;
    let mut session = backend.load(ModelSource::Bytes(&bytes))?;
    let mut wrong = 0;
    for range in data.batches(500) {
        let batch = data.batch(range.clone())?;
        let scores = session.run(&feeds(&batch))?.remove(0).into_f32()?;
        for (row, label) in scores.outer_iter().zip(data.labels(range).unwrap_or_default()) {
            let best = row.iter().enumerate().max_by(|x, y| x.1.total_cmp(y.1));
            wrong += usize::from(best.map(|(i, _)| i as i64) != Some(label));
        }
    }
    Ok(100.0 * wrong as f64 / data.len() as f64)
}

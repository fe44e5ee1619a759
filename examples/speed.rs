//! Compares the time of a merge with the time of its necessary runtime passes and matrix work alone.
//!
//!     cargo run --release --example speed [lenet5|stack|vgg16] [--repeat N]
//!
//! Everything is measured in one process, one after the other. The result is a ratio: the time of the
//! whole merge, from models in memory to the bytes of the joint model, over the sum of the times of
//! - the nets' forward passes over the calibration data, four in all (each original and each zipped
//!   net), and the backward passes behind the sensitivities, in whole nets that are loaded once;
//! - bare products of the sizes of the Gram matrices (one half of each, they are symmetric) and the
//!   cross-moments, on rows that are ready in memory; and one Cholesky factor with its solves for
//!   each refit and for each pair of layers.
//!
//! Uneven sensitivities take up to four more factors for each pair of layers, with half solves for all
//! neurons. They are listed separately ("levels"), and a second ratio counts them as necessary work.
//!
//! The best of all repetitions counts, on both sides. Processor time is printed beside elapsed time; it
//! is steadier on a machine with other load.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ndarray::{Array2, Array4, ArrayD, IxDyn, s};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use onnx_zip::calib::data::{DataOptions, Dataset, Scale};
use onnx_zip::calib::product::single_threaded_blas;
use onnx_zip::emit::{EmitOptions, emit};
use onnx_zip::error::{Error, ErrorKind, Result};
use onnx_zip::grad::{self, Sample};
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Model, Tensor};
use onnx_zip::mtz::options::MergeOptions;
use onnx_zip::mtz::site::SiteRecord;
use onnx_zip::mtz::solver::cholesky::Spd;
use onnx_zip::onnx;
use onnx_zip::progress::Silent;
use onnx_zip::runtime::{self, Backend, ModelSource, RuntimeOptions, Session, feeds};
use onnx_zip::zipper::{self, Calibration, Input, Outcome, Prepared};

const BATCH: usize = 128;

/// Rows of one product; larger ones are no faster.
const ROWS: usize = 2048;

/// Samples for sensitivities, as in a merge.
const SENSITIVITY_SAMPLES: usize = 2048;

/// Ratios of sensitivities at which costs are computed, at most.
const LEVELS: usize = 5;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked_for = |name| {
        let cases = ["lenet5", "stack", "vgg16"];
        let named = arguments.iter().any(|a| cases.contains(&a.as_str()));
        !named || arguments.iter().any(|a| a == name)
    };
    let after_repeat = arguments.iter().skip_while(|a| *a != "--repeat").nth(1);
    let repeat = after_repeat.and_then(|n| n.parse().ok()).unwrap_or(3);
    let backend = runtime::open(&RuntimeOptions::default())?;
    println!("{}, {} threads", backend.describe(), rayon::current_num_threads());
    if asked_for("lenet5") {
        lenet5(&backend)?.report(&backend, repeat)?;
    }
    if asked_for("stack") {
        stacks(&backend)?.report(&backend, repeat)?;
    }
    if asked_for("vgg16") {
        vgg16(&backend)?.report(&backend, repeat)?;
    }
    Ok(())
}

/// Two nets to merge, with the data of each.
struct Case {
    name: &'static str,
    nets: [Model; 2],
    data: [Dataset; 2],
    options: MergeOptions,
}

/// Two trained LeNet-5 nets with 10 000 images, and otherwise the defaults of `merge`.
fn lenet5(backend: &Arc<dyn Backend>) -> Result<Case> {
    let fixture = |name: &str| onnx::load(&Path::new("fixtures/models").join(name));
    let nets = [fixture("lenet5_mnist_a.onnx")?, fixture("lenet5_mnist_b.onnx")?];
    let session = loaded(&nets[0], backend)?;
    let options = DataOptions { scale: Some(Scale(1.0 / 255.0)), ..DataOptions::default() };
    let path = Path::new("fixtures/data/mnist_train.npz");
    let data = Dataset::open(path, session.inputs(), &options)?;
    Ok(Case { name: "LeNet-5", nets, data: [data.clone(), data], options: MergeOptions::default() })
}

/// Two stacks of eight 3×3 convolutions of 64 to 512 channels over 32×32 pixels, with pooling after every
/// second one and random weights; 1024 random images, 16 rows per image and layer.
fn stacks(backend: &Arc<dyn Backend>) -> Result<Case> {
    let layers = [64, 64, 128, 128, 256, 256, 512, 512].map(Some);
    let layers: Vec<_> = layers.chunks(2).flat_map(|pair| [pair[0], pair[1], None]).collect();
    let nets = [("a", 2), ("b", 3)].map(|(name, seed)| stack(name, seed, 32, &layers, &[10]));
    made_up("conv stack to 512 channels", nets, 32, 1024, backend)
}

/// Two VGG-16 of random weights, of 1000 and 40 classes, with 256 made-up images of 64×64 pixels.
fn vgg16(backend: &Arc<dyn Backend>) -> Result<Case> {
    let blocks = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)];
    let block = |(count, width)| std::iter::repeat_n(Some(width), count).chain([None]);
    let layers: Vec<_> = blocks.into_iter().flat_map(block).collect();
    let net = |(name, seed, classes)| stack(name, seed, 64, &layers, &[4096, 4096, classes]);
    made_up("VGG-16", [("a", 4, 1000), ("b", 5, 40)].map(net), 64, 256, backend)
}

/// Nets with random images. Each layer takes 16 rows per image.
fn made_up(
    name: &'static str,
    nets: [Model; 2],
    size: usize,
    samples: usize,
    backend: &Arc<dyn Backend>,
) -> Result<Case> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let images = Array4::from_shape_simple_fn((samples, 3, size, size), || {
        random.random_range(-1.0f32..1.0)
    });
    let failed = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Io, e.to_string());
    let folder = tempfile::tempdir().map_err(|e| failed(&e))?;
    let path = folder.path().join("images.npy");
    ndarray_npy::write_npy(&path, &images).map_err(|e| failed(&e))?;
    let data = Dataset::open(&path, loaded(&nets[0], backend)?.inputs(), &DataOptions::default())?;
    let options = MergeOptions { max_rows: 16 * samples, ..MergeOptions::default() };
    Ok(Case { name, nets, data: [data.clone(), data], options })
}

/// 3×3 convolutions of the given channels, `None` for pooling, and fully connected layers. Weights are
/// drawn so that activations keep their scale from layer to layer.
fn stack(
    name: &str,
    seed: u64,
    size: usize,
    convolutions: &[Option<usize>],
    connected: &[usize],
) -> Model {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = |dims: &[usize]| {
        let bound = (6.0 / dims[1..].iter().product::<usize>() as f32).sqrt();
        let drawn = || random.random_range(-bound..bound);
        Tensor::from_f32(&ArrayD::from_shape_simple_fn(IxDyn(dims), drawn))
    };
    let mut b = GraphBuilder::new(name, 17);
    let mut x = b.input("x", &format!("batch,3,{size},{size}"));
    let (mut channels, mut size) = (3, size);
    for (i, layer) in convolutions.iter().enumerate() {
        let Some(width) = *layer else {
            let window = [("kernel_shape", [2, 2].into()), ("strides", [2, 2].into())];
            x = b.op("MaxPool", &format!("pool{i}"), &[x], window);
            size /= 2;
            continue;
        };
        let w = b.constant(&format!("{name}.w{i}"), weights(&[width, channels, 3, 3]));
        let bias = b.weights(&format!("{name}.b{i}"), &[width]);
        x = b.op("Conv", &format!("conv{i}"), &[x, w, bias], [("pads", [1, 1, 1, 1].into())]);
        x = b.op("Relu", &format!("relu{i}"), &[x], []);
        channels = width;
    }
    x = b.op("Flatten", "flat", &[x], []);
    let mut inputs = channels * size * size;
    for (i, width) in connected.iter().enumerate() {
        let w = b.constant(&format!("{name}.fc{i}"), weights(&[*width, inputs]));
        let bias = b.weights(&format!("{name}.fb{i}"), &[*width]);
        x = b.op("Gemm", &format!("fc{i}"), &[x, w, bias], [("transB", 1.into())]);
        if i + 1 < connected.len() {
            x = b.op("Relu", &format!("fr{i}"), &[x], []);
        }
        inputs = *width;
    }
    b.build(&[x])
}

fn loaded(net: &Model, backend: &Arc<dyn Backend>) -> Result<Box<dyn Session>> {
    backend.load(ModelSource::Bytes(&onnx::encode(net)?))
}

/// Seconds of each measured part, by one clock.
#[derive(Clone, Copy)]
struct Times {
    merge: f64,
    forward: f64,
    backward: f64,
    products: f64,
    solves: f64,
    levels: f64,
}

impl Times {
    fn row(&self, clock: &str) -> String {
        let Times { merge, forward, backward, products, solves, levels } = self;
        let least = forward + backward + products + solves;
        let ratios = format!("{:.2} | {:.2}", merge / least, merge / (least + levels));
        let seconds =
            [merge, forward, backward, products, solves, levels].map(|s| format!("{s:.2} s"));
        format!("| {clock} | {} | {ratios} |", seconds.join(" | "))
    }
}

impl Case {
    fn report(&self, backend: &Arc<dyn Backend>, repeat: usize) -> Result<()> {
        let mut runs = Vec::new();
        for _ in 0..repeat.max(1) {
            runs.push(self.measure(backend)?);
        }
        println!("\n## {}: {} images, best of {repeat}\n", self.name, self.data[0].len());
        println!(
            "| | merge | forward | backward | products | solves | levels | ratio | with levels |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
        println!("{}", fastest(runs.iter().map(|run| run.0[0])).row("elapsed"));
        println!("{}\n", fastest(runs.iter().map(|run| run.0[1])).row("all processors"));
        let Some((_, outcome)) = runs.pop() else { return Ok(()) };
        let stages = outcome.seconds.iter().map(|(stage, s)| format!("{stage} {s:.2} s"));
        println!("stages of the merge: {}\n", stages.collect::<Vec<_>>().join(", "));
        println!("| layer | rows | inputs | neurons | statistics | pairs and weights |");
        println!("|---|---:|---:|---:|---:|---:|");
        for SiteRecord { layers, rows, inputs, neurons, seconds, .. } in &outcome.sites {
            let rows = rows.first().copied().unwrap_or(0);
            let (name, (statistics, solving)) = (&layers[0], seconds);
            let sizes = format!("{rows} | {} | {}", inputs[0], neurons[0]);
            println!("| {name} | {sizes} | {statistics:.2} s | {solving:.2} s |");
        }
        Ok(())
    }

    /// Times by both clocks: elapsed time and processor time.
    fn measure(&self, backend: &Arc<dyn Backend>) -> Result<([Times; 2], Outcome)> {
        let prepared = self.prepare()?;
        let taps = self.taps(&prepared)?;
        let forward = time(|| self.run_forward(&prepared, backend))?;
        let backward = time(|| self.run_backward(&prepared, backend))?;
        let calibration = Calibration {
            backend: backend.clone(),
            data: self.data.to_vec(),
            stored: Vec::new(),
            predicts: false,
            batch: BATCH,
            memory: 4 << 30,
            shards: None,
        };
        let mut outcome = None;
        let merge = time(|| {
            let (joint, told) =
                zipper::merge(self.prepare()?, &calibration, &self.options, &Silent)?;
            outcome = Some(told);
            black_box(onnx::encode(&emit(&joint, &EmitOptions::default())?)?);
            Ok(())
        })?;
        let Some(outcome) = outcome else {
            return Err(Error::new(ErrorKind::Usage, "nothing was merged"));
        };
        single_threaded_blas();
        let sized = |site: &SiteRecord| taps.get(&site.layers[0]).copied().unwrap_or(1);
        let sites: Vec<(&SiteRecord, usize)> =
            outcome.sites.iter().map(|s| (s, sized(s))).collect();
        let products = time(|| {
            sites.iter().for_each(|(s, taps)| bare_products(s, *taps));
            Ok(())
        })?;
        let solves = time(|| {
            let numbered = sites.iter().enumerate();
            numbered.into_iter().try_for_each(|(i, (s, taps))| bare_solves(s, *taps, i > 0))
        })?;
        let levels = time(|| sites.iter().try_for_each(|(s, taps)| bare_levels(s, *taps)))?;
        let by = |clock: usize| Times {
            merge: merge[clock],
            forward: forward[clock],
            backward: backward[clock],
            products: products[clock],
            solves: solves[clock],
            levels: levels[clock],
        };
        Ok(([by(0), by(1)], outcome))
    }

    fn prepare(&self) -> Result<Prepared> {
        let inputs = self.nets.iter().cloned().zip(["a", "b"]);
        let inputs = inputs.map(|(model, name)| Input { name: name.to_owned(), model });
        zipper::prepare(inputs.collect())
    }

    /// Positions under the kernel of each layer.
    fn taps(&self, prepared: &Prepared) -> Result<BTreeMap<String, usize>> {
        let first = &prepared.joint.tasks()[0];
        let sizes = |layer: &onnx_zip::couple::CoupledLayer| {
            Ok((layer.name.clone(), layer.layer.sizes(&first.model().graph)?.2))
        };
        first.coupling().layers.iter().map(sizes).collect()
    }

    /// Two forward passes of each net.
    fn run_forward(&self, prepared: &Prepared, backend: &Arc<dyn Backend>) -> Result<()> {
        for (task, data) in prepared.joint.tasks().iter().zip(&self.data) {
            let mut session = loaded(task.model(), backend)?;
            for range in data.batches(BATCH).chain(data.batches(BATCH)) {
                session.run(&feeds(&data.batch(range)?))?;
            }
        }
        Ok(())
    }

    fn run_backward(&self, prepared: &Prepared, backend: &Arc<dyn Backend>) -> Result<()> {
        let (backend, seed) = (backend.as_ref(), self.options.seed);
        for (task, data) in prepared.joint.tasks().iter().zip(&self.data) {
            let samples = SENSITIVITY_SAMPLES;
            let sample = Sample { backend, data, samples, batch: BATCH, seed, together: true };
            grad::sensitivities(task.model(), task.coupling(), sample)?;
        }
        Ok(())
    }
}

/// The minimum of each time.
fn fastest(runs: impl Iterator<Item = Times>) -> Times {
    let least = |a: Times, b: Times| Times {
        merge: a.merge.min(b.merge),
        forward: a.forward.min(b.forward),
        backward: a.backward.min(b.backward),
        products: a.products.min(b.products),
        solves: a.solves.min(b.solves),
        levels: a.levels.min(b.levels),
    };
    let none = f64::INFINITY;
    let longest = Times {
        merge: none,
        forward: none,
        backward: none,
        products: none,
        solves: none,
        levels: none,
    };
    runs.fold(longest, least)
}

/// Elapsed seconds and processor seconds.
fn time(work: impl FnOnce() -> Result<()>) -> Result<[f64; 2]> {
    let (start, spent) = (Instant::now(), processor_seconds());
    work()?;
    Ok([start.elapsed().as_secs_f64(), processor_seconds() - spent])
}

/// Processor time of all threads of this process, in user and system mode, if the system reports it.
/// Unlike elapsed time, it hardly depends on other load of the machine.
fn processor_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let told = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, which may hold anything, ends with the last parenthesis; times are fields 14 and 15.
    let after_name = told.rsplit(')').next().unwrap_or_default();
    let ticks =
        after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

/// The products of one pair of layers on made-up rows, on all threads.
fn bare_products(site: &SiteRecord, taps: usize) {
    for (task, rows) in site.rows.iter().enumerate() {
        let rows = *rows as usize;
        let width = site.inputs[task] * taps;
        let x = Array2::<f32>::from_elem((ROWS.min(rows), width), 0.5);
        if in_samples(site, width) {
            black_box(x.dot(&x.t()));
            continue;
        }
        let y = Array2::<f32>::from_elem((x.nrows(), site.neurons[task]), 0.5);
        let half = x.slice(s![.., ..width.div_ceil(2)]);
        (0..rows.div_ceil(ROWS)).into_par_iter().for_each(|_| {
            black_box(half.t().dot(&x));
            black_box(x.t().dot(&y));
        });
    }
}

/// The factors and solves of one pair of layers: refits from the second pair on, pairing and fusing.
fn bare_solves(site: &SiteRecord, taps: usize, refits: bool) -> Result<()> {
    if site.rows.is_empty() {
        return Ok(());
    }
    for (task, neurons) in site.neurons.iter().enumerate() {
        let shares = usize::from(task == 0);
        for tasks in
            std::iter::repeat_n(2, shares).chain(std::iter::repeat_n(1, usize::from(refits)))
        {
            let width = order(site, site.inputs[task] * taps + 1, tasks);
            let h = Array2::<f64>::eye(width) * 2.0;
            let weights = Array2::<f64>::ones((width, *neurons));
            black_box(Spd::factor(h.view(), 0.0)?.solve(weights.view()));
        }
    }
    Ok(())
}

/// Whether the rows of a layer are kept, because all tasks together have fewer rows than the layer has inputs.
fn in_samples(site: &SiteRecord, width: usize) -> bool {
    site.rows.iter().sum::<u64>() as usize <= width
}

/// The size of the matrix for the given number of tasks at a layer of `width` inputs: the number of inputs, or
/// of rows.
fn order(site: &SiteRecord, width: usize, tasks: usize) -> usize {
    match in_samples(site, width) {
        true => site.rows.iter().take(tasks).sum::<u64>() as usize,
        false => width,
    }
}

/// The factors and half solves at further ratios of sensitivities of one pair of layers.
fn bare_levels(site: &SiteRecord, taps: usize) -> Result<()> {
    let (Some(_), Some(inputs)) = (site.rows.first(), site.inputs.first()) else { return Ok(()) };
    let width = order(site, inputs * taps + 1, site.rows.len());
    let h = Array2::<f64>::eye(width) * 2.0;
    let weights = Array2::<f64>::ones((width, site.neurons.iter().sum()));
    for _ in 1..LEVELS {
        black_box(Spd::factor(h.view(), 0.0)?.solve_half(weights.view()));
    }
    Ok(())
}

//! Times a merge against the runtime passes and the matrix work that it cannot do without.
//!
//!     cargo run --release --example speed
//!
//! Everything is measured in one process, one after the other; what counts is the ratio in the last
//! column: the whole merge over the sum of
//! - the nets' forward passes over the calibration data, four in all (each original and each zipped net),
//!   and the backward passes behind the sensitivities,
//! - bare products of the Gram matrices' sizes (one half of each, they are symmetric) and of the
//!   cross-moments, and one Cholesky factor with its solves per layer for each refit, pairing and fusing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ndarray::{Array2, s};
use rayon::prelude::*;

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::error::Result;
use onnx_zip::grad;
use onnx_zip::ir::Model;
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::onnx;
use onnx_zip::progress::Silent;
use onnx_zip::runtime::{self, Backend, ModelSource, RuntimeOptions, feeds};
use onnx_zip::zip::options::ZipOptions;
use onnx_zip::zip::run::SiteRecord;
use onnx_zip::zip::solve::Spd;
use onnx_zip::zipper::{self, Calibration, Input, Prepared};

const BATCH: usize = 128;

/// Rows of one product.
const ROWS: usize = 8192;

fn main() -> Result<()> {
    let backend = runtime::open(&RuntimeOptions::default())?;
    println!("{}", backend.describe());
    println!("| nets | samples | merge s | runtime s | products and solves s | ratio |");
    println!("|---|---|---|---|---|---|");
    let fixture = |name: &str| onnx::load(&Path::new("fixtures/models").join(name));
    let lenets = [fixture("lenet5_mnist_a.onnx")?, fixture("lenet5_mnist_b.onnx")?];
    report("LeNet-5", lenets, 4000, &backend)?;
    report("conv stack to 512 channels", [stack("a"), stack("b")], 128, &backend)
}

/// Eight 3×3 convolutions of 64 to 512 channels over 32×32 pixels, pooled after every second.
fn stack(name: &str) -> Model {
    let mut b = GraphBuilder::new(name, 17);
    let mut x = b.input("x", "batch,3,32,32");
    let mut channels = 3;
    for (i, width) in [64, 64, 128, 128, 256, 256, 512, 512].into_iter().enumerate() {
        let w = b.weights(&format!("{name}.w{i}"), &[width, channels, 3, 3]);
        let bias = b.weights(&format!("{name}.b{i}"), &[width]);
        x = b.op("Conv", &format!("conv{i}"), &[x, w, bias], [("pads", [1, 1, 1, 1].into())]);
        x = b.op("Relu", &format!("relu{i}"), &[x], []);
        if i % 2 == 1 {
            let window = [("kernel_shape", [2, 2].into()), ("strides", [2, 2].into())];
            x = b.op("MaxPool", &format!("pool{i}"), &[x], window);
        }
        channels = width;
    }
    x = b.op("Flatten", "flat", &[x], []);
    let w = b.weights(&format!("{name}.fc"), &[10, 2048]);
    x = b.op("Gemm", "fc", &[x, w], [("transB", 1.into())]);
    b.build(&[x])
}

fn report(name: &str, nets: [Model; 2], samples: usize, backend: &Arc<dyn Backend>) -> Result<()> {
    let data = nets.iter().map(|net| made_up(net, samples, backend)).collect::<Result<Vec<_>>>()?;
    let inputs = nets.into_iter().zip(["a", "b"]);
    let inputs = inputs.map(|(model, name)| Input { name: name.to_owned(), model }).collect();
    let prepared = zipper::prepare(inputs)?;
    let options = ZipOptions::default();
    let first = &prepared.joint.tasks[0];
    let mut taps = BTreeMap::new();
    for layer in &first.coupling.layers {
        taps.insert(layer.name.clone(), layer.layer.sizes(&first.model.graph)?.2);
    }
    let passes = time(|| run_nets(&prepared, &data, backend, &options))?;
    let calibration = Calibration {
        backend: backend.clone(),
        data,
        stored: Vec::new(),
        batch: BATCH,
        memory: 4 << 30,
    };
    let start = Instant::now();
    let (_, outcome) = zipper::merge(prepared, &calibration, &options, &Silent)?;
    let merge = start.elapsed().as_secs_f64();
    let algebra = time(|| {
        outcome
            .sites
            .iter()
            .try_for_each(|s| bare_algebra(s, taps.get(&s.layers[0]).copied().unwrap_or(1)))
    })?;
    let ratio = merge / (passes + algebra);
    println!("| {name} | {samples} | {merge:.1} | {passes:.1} | {algebra:.1} | {ratio:.2} |");
    Ok(())
}

fn time(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

fn made_up(net: &Model, samples: usize, backend: &Arc<dyn Backend>) -> Result<Dataset> {
    let bytes = onnx::encode(net)?;
    let session = backend.load(ModelSource::Bytes(&bytes))?;
    Dataset::synthetic(session.inputs(), samples, 0, &DataOptions::default())
}

/// Two forward passes of each net, and its sensitivities.
fn run_nets(
    prepared: &Prepared,
    data: &[Dataset],
    backend: &Arc<dyn Backend>,
    options: &ZipOptions,
) -> Result<()> {
    for (task, data) in prepared.joint.tasks.iter().zip(data) {
        let bytes = onnx::encode(&task.model)?;
        let mut session = backend.load(ModelSource::Bytes(&bytes))?;
        for range in data.batches(BATCH).chain(data.batches(BATCH)) {
            session.run(&feeds(&data.batch(range)?))?;
        }
        let (model, coupling) = (&task.model, &task.coupling);
        grad::sensitivities(model, coupling, backend.as_ref(), data, 2048, BATCH, options.seed)?;
    }
    Ok(())
}

/// The matrix work of one pair of layers on made-up matrices, on all threads.
fn bare_algebra(site: &SiteRecord, taps: usize) -> Result<()> {
    for (task, rows) in site.rows.iter().enumerate() {
        let rows = *rows as usize;
        let width = site.inputs[task] * taps + 1;
        let x = Array2::<f32>::from_elem((ROWS.min(rows), width), 0.5);
        let y = Array2::<f32>::from_elem((x.nrows(), site.neurons[task]), 0.5);
        (0..rows.div_ceil(ROWS)).into_par_iter().for_each(|_| {
            let half = x.slice(s![.., ..width.div_ceil(2)]);
            std::hint::black_box(half.t().dot(&x));
            std::hint::black_box(x.t().dot(&y));
        });
        let h = Array2::<f64>::eye(width) * 2.0;
        let weights = Array2::<f64>::ones((width, site.neurons[task]));
        for _ in 0..2 {
            std::hint::black_box(Spd::factor(h.view(), 0.0)?.solve(weights.view()));
        }
    }
    Ok(())
}

//! Merges two classifiers with labelled data and prints each task's error before and after.
//!
//!     cargo run --release --example accuracy -- A.onnx B.onnx TRAIN_A TRAIN_B TEST_A TEST_B [method] [share]
//!
//! Data are `.npz` files with images in 0…255 and `labels`.

use std::path::Path;

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::error::{Error, ErrorKind, Result};
use onnx_zip::ir::Model;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions, Method};
use onnx_zip::onnx;
use onnx_zip::progress::Silent;
use onnx_zip::runtime::{self, Backend, ModelSource, RuntimeOptions, feeds};
use onnx_zip::zipper::{self, Calibration, Input};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [a, b, train_a, train_b, test_a, test_b, rest @ ..] = args.as_slice() else {
        return Err(Error::new(ErrorKind::Usage, "six paths are needed"));
    };
    let backend = runtime::open(&RuntimeOptions::default())?;
    let data = DataOptions { scale: Some("1/255".parse()?), ..DataOptions::default() };
    let open = |model: &str, path: &str| -> Result<Dataset> {
        let bytes = onnx::encode(&onnx::load(Path::new(model))?)?;
        let session = backend.load(ModelSource::Bytes(&bytes))?;
        Dataset::open(Path::new(path), session.inputs(), &data)
    };
    let inputs = [(a, "a"), (b, "b")].map(|(path, name)| {
        onnx::load(Path::new(path)).map(|model| Input { name: name.to_owned(), model })
    });
    let prepared = zipper::prepare(inputs.into_iter().collect::<Result<_>>()?)?;
    let tests = [open(a, test_a)?, open(b, test_b)?];
    let before: Vec<f64> = (0..2)
        .map(|t| error(prepared.joint.tasks()[t].model(), &tests[t], backend.as_ref()))
        .collect::<Result<_>>()?;
    let method = rest.first().map_or("refit", String::as_str);
    let share = rest.get(1).and_then(|s| s.parse().ok()).unwrap_or(1.0);
    let options = MergeOptions {
        method: if method == "mtz" { Method::Mtz } else { Method::Refit },
        matcher: rest.get(2).cloned(),
        budget: Budget::uniform(Share::Fraction(share)),
        ..MergeOptions::default()
    };
    let samples = rest.get(3).and_then(|s| s.parse().ok()).unwrap_or(10_000);
    let calibration = Calibration {
        backend: backend.clone(),
        data: vec![open(a, train_a)?.take(samples), open(b, train_b)?.take(samples)],
        stored: Vec::new(),
        predicts: false,
        batch: 256,
        memory: 2 << 30,
        shards: None,
    };
    let (joint, outcome) = zipper::merge(prepared, &calibration, &options, &Silent)?;
    for site in &outcome.sites {
        println!(
            "{:?} {:?} shared {} inputs {} cost {:.4} relative {:?} rows {:?} {:?} {:?}",
            site.layers,
            site.neurons,
            site.shared,
            site.shared_inputs,
            site.cost,
            site.relative_errors,
            site.rows,
            site.seconds,
            site.reason
        );
    }
    println!("{:?} {:?} {:?}", outcome.sizes, outcome.seconds, outcome.without_sensitivity);
    for (t, test) in tests.iter().enumerate() {
        let after = error(joint.tasks()[t].model(), test, backend.as_ref())?;
        println!("task {t}: {:.2} % -> {after:.2} %  (+{:.2})", before[t], after - before[t]);
    }
    Ok(())
}

/// Classification error of a net, in percent.
fn error(model: &Model, data: &Dataset, backend: &dyn Backend) -> Result<f64> {
    let bytes = onnx::encode(model)?;
    let mut session = backend.load(ModelSource::Bytes(&bytes))?;
    let mut wrong = 0;
    for start in (0..data.len()).step_by(500) {
        let range = start..(start + 500).min(data.len());
        let batch = data.batch(range.clone())?;
        let logits = session.run(&feeds(&batch))?.remove(0).into_f32()?;
        let labels = data.labels(range).unwrap_or_default();
        for (row, label) in logits.outer_iter().zip(labels) {
            let best = row.iter().enumerate().max_by(|x, y| x.1.total_cmp(y.1));
            wrong += usize::from(best.map(|(i, _)| i as i64) != Some(label));
        }
    }
    Ok(100.0 * wrong as f64 / data.len() as f64)
}

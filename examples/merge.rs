//! Merges two models that see the same kind of images and writes the joint model.
//!
//!     cargo run --release --example merge -- A.onnx B.onnx SAMPLES JOINT.onnx
//!
//! SAMPLES is a `.npz` or `.npy` file or a folder of images, with pixels in 0…255 that the models
//! take in 0…1; labels are not needed.

use std::path::Path;

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::emit::{self, EmitOptions};
use onnx_zip::error::{Error, ErrorKind, Result};
use onnx_zip::mtz::options::MergeOptions;
use onnx_zip::onnx::{self, SaveOptions};
use onnx_zip::progress::Silent;
use onnx_zip::runtime::{self, ModelSource, RuntimeOptions};
use onnx_zip::zipper::{self, Calibration, Input};

/// The default of the command line's `--samples`.
const SAMPLES: usize = 10_000;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [a, b, samples, joint] = args.as_slice() else {
        return Err(Error::new(ErrorKind::Usage, "four paths are needed"));
    };
    let backend = runtime::open(&RuntimeOptions::default())?;
    let options = DataOptions { scale: Some("1/255".parse()?), ..DataOptions::default() };

    // Every model gets the samples in its own type and shape, and the name of its file as task name.
    let (mut inputs, mut data) = (Vec::new(), Vec::new());
    for path in [a, b].map(Path::new) {
        let session = backend.load(ModelSource::File(path))?;
        data.push(
            Dataset::open(Path::new(samples), session.inputs(), &options)?.subset(SAMPLES, 0),
        );
        let model = onnx::load(path)?;
        inputs.push(Input { name: model.name.clone(), model });
    }

    let prepared = zipper::prepare(inputs)?;
    if let Some(difference) = prepared.alignment.divergences.iter().flatten().next() {
        println!("the models first differ at {difference:?}");
    }
    let calibration = Calibration {
        backend,
        data,
        stored: Vec::new(),
        predicts: false,
        batch: 128,
        memory: 2 << 30,
        shards: None,
    };
    let (merged, outcome) =
        zipper::merge(prepared, &calibration, &MergeOptions::default(), &Silent)?;
    for site in &outcome.sites {
        println!("{:?}: {} of {:?} neurons shared", site.layers, site.shared, site.neurons);
    }

    let model = emit::emit(&merged, &EmitOptions::default())?;
    let bytes = onnx::save(&model, Path::new(joint), &SaveOptions::default())?;
    let (before, after) = (outcome.sizes.separate(), outcome.sizes.joint());
    println!("{after} of {before} parameters left; {bytes} bytes in {joint}");
    Ok(())
}

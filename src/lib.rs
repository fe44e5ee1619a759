//! Merge several pre-trained ONNX networks into one smaller multi-task network.
//!
//! Neurons that do nearly the same in several networks become one, with weights that serve every
//! task (Multi-Task Zipping); the layers behind them make up for the change. The result is one ONNX
//! model that has all tasks' outputs, or one per task over a common file of weights.
//!
//! ```text
//! load → canonicalise → couple → align → (calibrate → pair → fuse) per layer → emit
//! onnx   canon          couple   align    calib       mtz    mtz               emit
//! ```
//!
//! [`Merger`] takes models and samples and gives a verified [`Joint`] model; [`api`] has it and what else
//! users need, re-exported here. All other modules are the rooms behind it, which change without notice.
//!
//! ```
//! use onnx_zip::{MergeOptions, Merger, Silent};
//!
//! let mut options = MergeOptions::default();
//! options.sharing.share = Some(0.0);
//! let joint = Merger::new(options)
//!     .named_model("digits", "fixtures/models/lenet300_mnist_a.onnx")
//!     .named_model("fashion", "fixtures/models/lenet300_fashion.onnx")
//!     .merge(&Silent)?;
//! assert_eq!(joint.tasks()?, ["digits", "fashion"]);
//! # Ok::<(), onnx_zip::Error>(())
//! ```
//!
//! # Features
//!
//! - `cli` (default): the command line, and how it reads options ([`cli::options`]).
//! - `html`: reports as HTML; part of `cli`.
//! - `parquet` (default): data in Parquet files.
//! - `tract` (default): the built-in runtime.
//!
//! `default-features = false` leaves out all of them. Without tract, ONNX Runtime's library must be installed.
//!
//! # Rooms
//!
//! [`zipper`] knows the order of the steps. The two halves of a merge are [`zipper::prepare`], which needs no
//! data and tells what corresponds and what cannot be shared, and [`zipper::merge`], which shares
//! neurons and fuses weights. All approximation happens in [`mtz`]; every other stage computes the
//! same function before and after, up to rounding. Between stages each task is a plain network that
//! can be run, saved or merged.
//!
//! # Example of the rooms
//!
//! Two classifiers with a frozen feature extractor in common, merged without any samples at hand. The
//! extractor is found by what it computes, not by its name, and is stored once.
//!
//! ```
//! use onnx_zip::calib::data::{DataOptions, Dataset};
//! use onnx_zip::emit::{EmitOptions, emit};
//! use onnx_zip::error::Result;
//! use onnx_zip::ir::{Model, builder::GraphBuilder, text};
//! use onnx_zip::onnx;
//! use onnx_zip::progress::Silent;
//! use onnx_zip::runtime::{self, ModelSource, RuntimeChoice, RuntimeOptions};
//! use onnx_zip::mtz::options::MergeOptions;
//! use onnx_zip::zipper::{self, Calibration, Input};
//!
//! /// Weights are random but the same in every net: only the heads differ, in size.
//! fn net(classes: usize) -> Model {
//!     let mut b = GraphBuilder::new("net", 17);
//!     let x = b.input("x", "batch,8");
//!     let (w1, b1) = (b.weights("w1", &[32, 8]), b.weights("b1", &[32]));
//!     let (w2, b2) = (b.weights("w2", &[classes, 32]), b.weights("b2", &[classes]));
//!     let h = b.op("Gemm", "features", &[x, w1, b1], [("transB", 1.into())]);
//!     let h = b.op("Relu", "relu", &[h], []);
//!     let y = b.op("Gemm", "logits", &[h, w2, b2], [("transB", 1.into())]);
//!     b.build(&[y])
//! }
//!
//! # fn main() -> Result<()> {
//! let tract = RuntimeOptions { choice: RuntimeChoice::Tract, ..RuntimeOptions::default() };
//! let backend = runtime::open(&tract)?;
//! let made_up = |model: &Model| -> Result<Dataset> {
//!     let bytes = onnx::encode(model)?;
//!     let session = backend.load(ModelSource::Bytes(&bytes))?;
//!     Dataset::synthetic(session.inputs(), 256, 0, &DataOptions::default())
//! };
//! let (birds, cars) = (net(3), net(5));
//! let data = vec![made_up(&birds)?, made_up(&cars)?];
//! let inputs = [("birds", birds), ("cars", cars)];
//! let inputs = inputs.map(|(name, model)| Input { name: name.to_owned(), model });
//!
//! let prepared = zipper::prepare(inputs.into())?;
//! let calibration =
//!     Calibration { backend: backend.clone(), data, stored: Vec::new(), predicts: false, batch: 64, memory: 1 << 30, shards: None };
//! let (joint, outcome) = zipper::merge(prepared, &calibration, &MergeOptions::default(), &Silent)?;
//! assert_eq!(outcome.sizes.shared, 32 * 8 + 32);
//!
//! let model = emit(&joint, &EmitOptions::default())?;
//! assert_eq!(
//!     text::dump(&model.graph),
//!     "\
//! input x: f32[batch,8]
//! shared/features = Gemm(x, shared/w1: f32[32,8], shared/b1: f32[32]) {transB=1}
//! shared/relu = Relu(shared/features)
//! birds/logits: f32[batch,3] = Gemm(shared/relu, birds/w2: f32[3,32], birds/b2: f32[3]) {transB=1}
//! cars/logits: f32[batch,5] = Gemm(shared/relu, cars/w2: f32[5,32], cars/b2: f32[5]) {transB=1}
//! output birds/logits
//! output cars/logits
//! "
//! );
//! # Ok(())
//! # }
//! ```
//!
//! With samples at hand, [`calib::data::Dataset::open`] reads them from files or folders of any
//! of its formats, and [`onnx::save`] writes the joint model; `examples/merge.rs` does both.

pub mod align;
pub mod api;
pub mod calib;
pub mod canon;
#[cfg(feature = "cli")]
pub mod cli;
pub mod compare;
pub mod couple;
pub mod emit;
pub mod error;
pub mod grad;
pub mod handoff;
pub mod ir;
pub mod mtz;
mod naming;
pub mod onnx;
pub mod ops;
pub mod progress;
pub mod prune;
pub mod report;
pub mod retrain;
pub mod runtime;
mod staging;
pub mod verify;
mod workers;
pub mod zipper;

pub use api::options::{
    CalibrateOptions, FrontierOptions, MergeOptions, PlanOptions, PruneOptions, RetrainOptions,
    VerifyOptions, WorkerOptions,
};
pub use api::{
    DataInput, Destination, FrontierDestination, Joint, Merged, Merger, ModelInput,
    RetrainDestination, Retrainer, add_statistics, calibrate, fix, import_weights, inspect, plan,
    prune, read_plan, strip, verify, worker,
};
pub use calib::data::Arrays;
pub use error::{Error, ErrorKind, Hint, Result};
pub use progress::{Progress, Silent};
pub use report::Report;
pub use runtime::HostArray;
pub use zipper::PlanFile;

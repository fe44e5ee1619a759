//! Models and data named on the command line.

use std::path::PathBuf;

use clap::Args;

use crate::api::DataInput;

/// Models to merge.
#[derive(Args)]
pub(super) struct ModelArgs {
    /// The trained models, as .onnx files
    ///
    /// A joint model stands for all its tasks, so nets can be added to it.
    #[arg(value_name = "MODEL", required = true, num_args = 1..)]
    pub(super) paths: Vec<PathBuf>,
    /// Name of a task, once per model in order; outputs become NAME/OUTPUT [default: file name]
    #[arg(long = "name", value_name = "NAME")]
    pub(super) names: Vec<String>,
}

/// Where samples come from.
#[derive(Args)]
#[command(next_help_heading = "Data")]
pub(super) struct DataArgs {
    /// Samples: a .npz, .npy, .safetensors, .csv, .tar or .parquet file, or a folder of images or sounds
    ///
    /// Give it once for all models, or once per model in the models' order. A file holds one array or
    /// column per model input, under the input's name (a single one serves a single input), and perhaps
    /// `labels`. A folder of images (PNG, JPEG, WebP, BMP) or sounds (WAV) holds one sub-folder per
    /// class; a folder of .parquet or .tar files counts as one. Samples need no labels; with
    /// labels, errors are reported. Without data, random numbers are used, which
    /// costs accuracy. Example: --data mnist.npz --data fashion.npz
    #[arg(short, long, value_name = "PATH")]
    pub(super) data: Vec<PathBuf>,
}

impl DataArgs {
    /// The samples, as the library takes them.
    pub(super) fn inputs(&self) -> Vec<DataInput> {
        self.data.iter().cloned().map(DataInput::Path).collect()
    }
}

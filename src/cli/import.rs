//! `import`: takes trained weights back into a joint model.

use std::path::PathBuf;

use clap::Args;

use super::Status;
use super::console::Console;
use crate::api::{ModelInput, inputs, output};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::handoff;
use crate::onnx::{self, SaveOptions};
use crate::progress::Progress;

/// Import weights trained by ONNX Runtime training into their joint model
///
/// DIR is a folder of `onnx-zip retrain --export` after train.py has run there. The result has the
/// form, inputs and metadata of the exported joint model.
#[derive(Args)]
#[command(after_long_help = "Example:\n  onnx-zip import training/ -o joint2.onnx")]
pub(super) struct ImportArgs {
    /// Folder of `onnx-zip retrain --export`
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Where to write the joint model
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

impl ImportArgs {
    pub(super) fn run(&self, console: &Console) -> Result<Status> {
        let [joint, trained] = [handoff::JOINT, handoff::TRAINED].map(|n| self.folder.join(n));
        for (path, next) in [
            (&joint, "name a folder that `onnx-zip retrain --export` wrote"),
            (&trained, "run train.py in that folder first"),
        ] {
            if !path.is_file() {
                let message = format!("there is no '{}'", path.display());
                return Err(Error::new(ErrorKind::Io, message).hint(next));
            }
        }
        let models = [&joint, &trained].map(|path| ModelInput::from(path.as_path()));
        output::check(&self.output, &inputs::of_models(&models))?;
        let base = onnx::load(&joint)?;
        let mut weights = onnx::load(&trained)?;
        weights.name = trained.display().to_string();
        let model = handoff::trained(&base, &weights).in_model(joint.display())?;
        console.check()?;
        onnx::stage(&model, &self.output, &SaveOptions::default(), console)?.commit()?;
        Ok(Status::Done)
    }
}

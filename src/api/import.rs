//! Weights that were trained elsewhere.

use std::path::Path;

use super::models::ModelInput;
use super::{inputs, output};
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::handoff;
use crate::onnx::{self, SaveOptions};
use crate::progress::Progress;

/// Imports the weights of a folder of [`Retrainer::export`](super::Retrainer::export), after its train.py has run,
/// into their joint model, and writes it to the file `output`. Form, inputs and metadata are those of the exported
/// one. Returns the bytes written.
///
/// ```no_run
/// onnx_zip::import_weights("training".as_ref(), "joint2.onnx".as_ref(), &onnx_zip::Silent)?;
/// # Ok::<(), onnx_zip::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Io`] where the folder lacks a file; [`ErrorKind::Format`] for weights of another model;
/// [`ErrorKind::Numeric`] for weights that are not finite; those of reading and writing models.
pub fn import_weights(folder: &Path, output: &Path, progress: &dyn Progress) -> Result<u64> {
    let [joint, trained] = [handoff::JOINT, handoff::TRAINED].map(|name| folder.join(name));
    let exported =
        Hint::from("name a folder that retraining with ").option("export").then(" wrote");
    for (path, next) in
        [(&joint, exported), (&trained, Hint::from("run train.py in that folder first"))]
    {
        if !path.is_file() {
            let message = format!("there is no '{}'", path.display());
            return Err(Error::new(ErrorKind::Io, message).hint(next));
        }
    }
    let models = [&joint, &trained].map(|path| ModelInput::from(path.as_path()));
    output::check(output, &inputs::of_models(&models))?;
    let base = onnx::load(&joint)?;
    let mut weights = onnx::load(&trained)?;
    weights.name = trained.display().to_string();
    let model = handoff::trained(&base, &weights).in_model(joint.display())?;
    progress.check()?;
    onnx::stage(&model, output, &SaveOptions::default(), progress)?.commit()
}

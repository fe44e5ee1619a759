//! A copy of a joint model for a device.

use std::path::Path;

use super::models::ModelInput;
use super::{inputs, output};
use crate::emit;
use crate::error::{Error, ErrorKind, Result};
use crate::onnx::{self, SaveOptions};
use crate::progress::Progress;

/// Writes a copy of a joint model to the file `output`, without data that a run does not need: the metadata from
/// which task nets are recovered, and names of inner values and nodes. Inputs, outputs, weights and results stay the
/// same. Returns the bytes written.
///
/// ```no_run
/// onnx_zip::strip(&"joint.onnx".into(), "device.onnx".as_ref(), &onnx_zip::Silent)?;
/// # Ok::<(), onnx_zip::Error>(())
/// ```
///
/// # Errors
/// Those of reading and writing the model; [`ErrorKind::Format`] for what is not a joint model.
pub fn strip(joint: &ModelInput, output: &Path, progress: &dyn Progress) -> Result<u64> {
    output::check(output, &inputs::of_models(std::slice::from_ref(joint)))?;
    let model = joint.read()?;
    if !emit::is_emitted(&model) {
        return Err(Error::new(ErrorKind::Format, "the model is no joint model of onnx-zip")
            .hint("give a file that `onnx-zip merge` wrote")
            .in_model(joint.shown().display()));
    }
    progress.check()?;
    onnx::stage(&emit::stripped(model), output, &SaveOptions::default(), progress)?.commit()
}

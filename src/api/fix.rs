//! Sets inputs of a model to constants.

use std::path::Path;

use super::models::ModelInput;
use super::plain::check_plain;
use super::{inputs, output};
use crate::canon::{check_sizes, fix_inputs};
use crate::error::{Context, Result};
use crate::onnx::{self, SaveOptions};
use crate::progress::Progress;

/// Sets inputs of a model to constants, and writes what is left of the model to the file `output`: without these
/// inputs, and without the branches that are not taken any more and the inputs that only these read. Each of `values`
/// is the name of an input and its value: one number for all elements, or one per element with commas between.
///
/// ```no_run
/// use onnx_zip::{Silent, fix};
///
/// let rate = [("sr".to_owned(), "16000".to_owned())];
/// fix(&"voices.onnx".into(), &rate, "voices_16k.onnx".as_ref(), &Silent)?;
/// # Ok::<(), onnx_zip::Error>(())
/// ```
///
/// # Errors
/// Those of reading and writing the model; [`Usage`](crate::ErrorKind::Usage) for an input that there is not, for a value that it
/// cannot have, and for a joint model.
pub fn fix(
    model: &ModelInput,
    values: &[(String, String)],
    output: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    output::check(output, &inputs::of_models(std::slice::from_ref(model)))?;
    let read = model.read()?;
    let (fault, hint) = (
        "inputs of a joint model cannot be set",
        "set those of the original models, and merge what this writes",
    );
    let fixed = check_plain(&read, fault, hint).and_then(|()| check_sizes(&read));
    let fixed = fixed.in_model(model.shown().display()).and_then(|()| fix_inputs(read, values))?;
    progress.check()?;
    onnx::stage(&fixed, output, &SaveOptions::default(), progress)?.commit()?;
    Ok(())
}

//! Errors of the library as exceptions of the module.

use onnx_zip::{Error, ErrorKind};
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The class of `onnx_zip.errors` for a kind of error.
fn class(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Io => "FileError",
        ErrorKind::Usage => "UsageError",
        ErrorKind::Format => "FormatError",
        ErrorKind::Unsupported => "UnsupportedError",
        ErrorKind::Misaligned => "MisalignedError",
        ErrorKind::Calibration => "DataError",
        ErrorKind::Numeric => "NumericError",
        ErrorKind::Backend => "BackendError",
        ErrorKind::Parity => "VerificationError",
        ErrorKind::Memory => "MemoryLimitError",
        _ => "Error",
    }
}

/// The exception of an error, whose text is the command line's.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    if error.kind() == ErrorKind::Interrupted {
        return PyKeyboardInterrupt::new_err(error.to_string());
    }
    let found = py.import("onnx_zip.errors").and_then(|module| module.getattr(class(error.kind())));
    match found.and_then(|class| Ok(class.cast_into::<PyType>()?)) {
        Ok(class) => PyErr::from_type(class, error.to_string()),
        Err(_) => PyRuntimeError::new_err(error.to_string()),
    }
}

//! Python bindings: the compiled part of the package `onnx_zip`.
//!
//! Options arrive as arguments of the command line (`--share=0.5`), so that both use one table of
//! options.

mod arrays;
mod commands;
mod errors;
mod joint;
mod listener;
mod shards;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use onnx_zip::{cli, runtime};
use pyo3::prelude::*;

/// The options of a command, as JSON.
#[pyfunction]
fn keywords(command: &str) -> PyResult<String> {
    serde_json::to_string(&cli::keywords(command))
        .map_err(|e| pyo3::exceptions::PyValueError::new_err(e.to_string()))
}

/// Runs the command line in a process that `program` starts; returns its exit code.
#[pyfunction]
fn main(py: Python<'_>, program: Vec<OsString>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| match cli::run_as(program, arguments) {
        Ok(status) => status.code(),
        Err(error) => {
            // If standard error cannot be written, the exit code must do.
            let _ = writeln!(io::stderr(), "error: {}", error.with_flags());
            cli::error_code(&error)
        }
    })
}

/// Looks for ONNX Runtime's library in a folder first.
#[pyfunction]
fn look_in(folder: PathBuf) {
    runtime::look_in(folder);
}

/// The compiled half of `onnx_zip`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<arrays::Spooler>()?;
    module.add_class::<arrays::Data>()?;
    module.add_class::<joint::NativeJoint>()?;
    module.add_class::<shards::NativeShardWorker>()?;
    module.add_function(wrap_pyfunction!(keywords, module)?)?;
    module.add_function(wrap_pyfunction!(main, module)?)?;
    module.add_function(wrap_pyfunction!(look_in, module)?)?;
    module.add_function(wrap_pyfunction!(commands::merge, module)?)?;
    module.add_function(wrap_pyfunction!(commands::plan, module)?)?;
    module.add_function(wrap_pyfunction!(commands::frontier, module)?)?;
    module.add_function(wrap_pyfunction!(commands::inspect, module)?)?;
    module.add_function(wrap_pyfunction!(commands::dry_run, module)?)?;
    module.add_function(wrap_pyfunction!(commands::strip, module)?)?;
    module.add_function(wrap_pyfunction!(commands::import_weights, module)?)?;
    module.add_function(wrap_pyfunction!(commands::export, module)?)?;
    module.add_function(wrap_pyfunction!(commands::worker, module)?)?;
    module.add_function(wrap_pyfunction!(commands::fix, module)?)?;
    module.add_function(wrap_pyfunction!(commands::verify, module)?)?;
    module.add_function(wrap_pyfunction!(commands::prune, module)?)?;
    module.add_function(wrap_pyfunction!(commands::calibrate, module)?)?;
    module.add_function(wrap_pyfunction!(commands::add_statistics, module)?)?;
    module.add_function(wrap_pyfunction!(commands::retrain, module)?)?;
    Ok(())
}

//! Reports progress to Python, and takes Ctrl-C from there.

use std::sync::{Mutex, PoisonError};

use onnx_zip::{Error, Progress, Result};
use pyo3::prelude::*;

use crate::errors::exception;

/// Reports progress to a Python object, and stops if a signal handler or that object raises.
pub(crate) struct Listener {
    target: Py<PyAny>,
    raised: Mutex<Option<PyErr>>,
}

impl Listener {
    pub(crate) fn new(target: Py<PyAny>) -> Self {
        Listener { target, raised: Mutex::new(None) }
    }

    /// Runs work without Python's lock.
    pub(crate) fn run<T: Send>(
        &self,
        py: Python<'_>,
        work: impl Send + FnOnce(&dyn Progress) -> Result<T>,
    ) -> PyResult<T> {
        let done = py.detach(|| work(self));
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (done, raised) {
            (Ok(done), None) => Ok(done),
            (_, Some(raised)) => Err(raised),
            (Err(error), None) => Err(exception(py, &error)),
        }
    }

    fn call(&self, method: impl for<'py> FnOnce(&Bound<'py, PyAny>) -> PyResult<()>) {
        Python::attach(|py| method(self.target.bind(py))).unwrap_or_else(|error| self.keep(error));
    }

    /// The first exception counts.
    fn keep(&self, error: PyErr) {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.get_or_insert(error);
    }

    fn has_raised(&self) -> bool {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl Progress for Listener {
    fn begin(&self, stage: &str, steps: u64) {
        self.call(|target| target.call_method1("begin", (stage, steps)).map(drop));
    }

    fn step(&self) {
        self.call(|target| target.call_method0("step").map(drop));
    }

    fn status(&self, message: &str) {
        self.call(|target| target.call_method1("status", (message,)).map(drop));
    }

    fn note(&self, message: &str) {
        self.call(|target| target.call_method1("note", (message,)).map(drop));
    }

    fn warn(&self, message: &str) {
        self.call(|target| target.call_method1("warn", (message,)).map(drop));
    }

    fn stopped(&self) -> bool {
        if !self.has_raised() {
            Python::attach(|py| py.check_signals()).unwrap_or_else(|error| self.keep(error));
        }
        self.has_raised()
    }
}

/// Runs short work without Python's lock.
pub(crate) fn quietly<T: Send>(
    py: Python<'_>,
    work: impl Send + FnOnce() -> std::result::Result<T, Error>,
) -> PyResult<T> {
    py.detach(work).map_err(|error| exception(py, &error))
}

//! Shards of a merge with workers started by Python.

use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};

use onnx_zip::api::options::RuntimeOptions;
use onnx_zip::mtz::statistics::{Job, ShardWorker, Shards, Take};
use onnx_zip::{Error, ErrorKind, Progress, Result};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::commands::read;
use crate::listener::{Listener, quietly};

/// Workers behind a Python object, with methods `start(nets)`, `shard(samples)`, and `ask(request, begins)`,
/// which yields replies.
pub(crate) struct Crew {
    target: Py<PyAny>,
}

impl Crew {
    pub(crate) fn new(target: Py<PyAny>) -> Self {
        Crew { target }
    }
}

impl Shards for Crew {
    fn start(&mut self, job: &Job<'_>, progress: &dyn Progress) -> Result<()> {
        let call = |method: &str, bytes: &[u8]| {
            let call = |py: Python<'_>| {
                self.target.bind(py).call_method1(method, (PyBytes::new(py, bytes),)).map(drop)
            };
            Python::attach(call).map_err(failed)
        };
        call("start", job.nets())?;
        for shard in 0..job.shards() {
            progress.check()?;
            call("shard", &job.shard(shard)?)?;
        }
        Ok(())
    }

    fn ask(
        &mut self,
        request: Vec<u8>,
        begins: bool,
        take: &mut Take<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let replies = Python::attach(|py| {
            let request = PyBytes::new(py, &request);
            let replies = self.target.bind(py).call_method1("ask", (request, begins))?;
            Ok(replies.try_iter()?.into_any().unbind())
        });
        let replies = replies.map_err(failed)?;
        loop {
            progress.check()?;
            let next = Python::attach(|py| -> PyResult<Option<Vec<u8>>> {
                let mut replies = replies.bind(py).try_iter()?;
                replies.next().transpose()?.map(|reply| reply.extract()).transpose()
            });
            match next.map_err(failed)? {
                Some(reply) => take(reply)?,
                None => return Ok(()),
            }
        }
    }
}

fn failed(error: PyErr) -> Error {
    let is_stop = Python::attach(|py| error.is_instance_of::<PyKeyboardInterrupt>(py));
    if is_stop {
        return Error::new(ErrorKind::Interrupted, "stopped on request");
    }
    let text = Python::attach(|py| error.value(py).to_string());
    Error::new(ErrorKind::Calibration, "a worker cannot go on").because(text)
}

/// Works on one shard.
#[pyclass(frozen)]
pub(crate) struct NativeShardWorker {
    worker: Mutex<ShardWorker>,
}

#[pymethods]
impl NativeShardWorker {
    #[new]
    fn new(
        py: Python<'_>,
        nets: Vec<u8>,
        samples: Vec<u8>,
        arguments: Vec<OsString>,
        listener: Py<PyAny>,
    ) -> PyResult<Self> {
        let options: RuntimeOptions = read(py, arguments)?;
        let worker = Listener::new(listener)
            .run(py, |progress| onnx_zip::api::shard_worker(&nets, &samples, &options, progress))?;
        Ok(NativeShardWorker { worker: Mutex::new(worker) })
    }

    /// The shard's sums for a request.
    fn answer<'py>(&self, py: Python<'py>, request: Vec<u8>) -> PyResult<Bound<'py, PyBytes>> {
        let reply = quietly(py, || self.lock().answer(&request, &onnx_zip::Silent))?;
        Ok(PyBytes::new(py, &reply))
    }

    /// Applies a request that was answered before.
    fn replay(&self, py: Python<'_>, request: Vec<u8>) -> PyResult<()> {
        quietly(py, || self.lock().replay(&request, &onnx_zip::Silent))
    }
}

impl NativeShardWorker {
    fn lock(&self) -> std::sync::MutexGuard<'_, ShardWorker> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

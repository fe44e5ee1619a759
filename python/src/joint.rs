//! The joint model.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use onnx_zip::api::options::RuntimeOptions;
use onnx_zip::runtime::Session;
use onnx_zip::{Hint, HostArray, Joint, report};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::arrays::{host_array, numpy_array};
use crate::commands::read;
use crate::listener::{Listener, quietly};

/// A session, with the arguments that it was opened with.
type Opened = (Vec<OsString>, Box<dyn Session>);

/// A joint model in a file.
#[pyclass(frozen)]
pub(crate) struct NativeJoint {
    joint: Joint,
    /// The model in a runtime, from the first run on.
    session: Mutex<Option<Opened>>,
}

impl NativeJoint {
    pub(crate) fn new(joint: Joint) -> Self {
        NativeJoint { joint, session: Mutex::new(None) }
    }
}

#[pymethods]
impl NativeJoint {
    /// Opens a joint model that was merged before.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        quietly(py, || Joint::open(path)).map(NativeJoint::new)
    }

    /// The path of its file.
    #[getter]
    fn path(&self) -> PathBuf {
        self.joint.path().to_owned()
    }

    /// Names of its tasks.
    fn tasks(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        quietly(py, || self.joint.tasks())
    }

    /// Names of its inputs.
    fn inputs(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        quietly(py, || self.joint.inputs())
    }

    /// Text, JSON, HTML and model card of the report; nothing for a model that was opened.
    fn report(&self) -> PyResult<Option<(String, String, String, String)>> {
        let Some(merged) = self.joint.outcome() else { return Ok(None) };
        let json = serde_json::to_string(&merged.report)
            .map_err(|e| pyo3::exceptions::PyValueError::new_err(e.to_string()))?;
        let (html, text) = (report::html(&merged.report), report::text(&merged.report, false));
        Ok(Some((text, json, html, report::card(&merged.report))))
    }

    /// Unmet requirements, and the respects in which the model is worse than its originals, as sentences.
    fn complaints(&self) -> (Option<String>, Option<String>) {
        let merged = self.joint.outcome();
        let worded = |hint: &Option<Hint>| hint.as_ref().map(Hint::in_fields);
        merged.map(|m| (worded(&m.unmet), worded(&m.worse))).unwrap_or_default()
    }

    fn save(&self, py: Python<'_>, path: PathBuf, listener: Py<PyAny>) -> PyResult<u64> {
        Listener::new(listener).run(py, |progress| self.joint.save(&path, progress))
    }

    fn extract(
        &self,
        py: Python<'_>,
        task: &str,
        path: PathBuf,
        listener: Py<PyAny>,
    ) -> PyResult<u64> {
        Listener::new(listener).run(py, |progress| self.joint.extract(task, &path, progress))
    }

    fn extract_bytes<'py>(
        &self,
        py: Python<'py>,
        task: &str,
        listener: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let bytes =
            Listener::new(listener).run(py, |progress| self.joint.extract_bytes(task, progress))?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn split(&self, py: Python<'_>, folder: PathBuf, listener: Py<PyAny>) -> PyResult<()> {
        Listener::new(listener).run(py, |progress| self.joint.split(&folder, progress))
    }

    /// Runs the model once.
    fn run<'py>(
        &self,
        py: Python<'py>,
        feeds: Vec<(String, Bound<'py, PyAny>)>,
        arguments: Vec<OsString>,
        listener: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let arrays = feeds.iter().map(|(name, array)| Ok((name.clone(), host_array(array)?)));
        let arrays: Vec<(String, HostArray)> = arrays.collect::<PyResult<_>>()?;
        let options: RuntimeOptions = read(py, arguments.clone())?;
        let outputs = Listener::new(listener).run(py, |progress| {
            let mut kept = self.session.lock().unwrap_or_else(PoisonError::into_inner);
            let mut session = match kept.take() {
                Some((own, session)) if own == arguments => session,
                _ => self.joint.session(&options, progress)?,
            };
            let feeds: Vec<_> = arrays.iter().map(|(name, a)| (name.as_str(), a)).collect();
            let outputs = session.run(&feeds)?;
            let names: Vec<String> = session.outputs().iter().map(|o| o.name.clone()).collect();
            *kept = Some((arguments, session));
            Ok(names.into_iter().zip(outputs).collect::<Vec<_>>())
        })?;
        let found = PyDict::new(py);
        for (name, array) in outputs {
            found.set_item(name, numpy_array(py, array)?)?;
        }
        Ok(found)
    }
}

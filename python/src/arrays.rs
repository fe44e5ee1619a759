//! Arrays between numpy and the library.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use half::f16;
use ndarray::{ArrayD, Axis};
use numpy::{Element, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use onnx_zip::calib::data::{Rows, Spooler as Spool};
use onnx_zip::ir::DataType;
use onnx_zip::{Arrays, DataInput, Error, ErrorKind, HostArray, Result};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::errors::exception;

/// Evaluates an expression for the element type of a numpy array, and `None` for other types.
macro_rules! for_element {
    ($array:expr, $found:ident => $body:expr) => {
        for_element!(@ $array, $found => $body, f32, f64, f16, i64, i32, i16, i8, u64, u32,
            u16, u8, bool)
    };
    (@ $array:expr, $found:ident => $body:expr, $($element:ty),*) => {{
        $(if let Ok($found) = $array.cast::<PyArrayDyn<$element>>() { Some($body) } else)* { None }
    }};
}

/// A numpy array whose rows are copied when they are needed.
struct NumpyRows {
    array: Py<PyAny>,
    dtype: DataType,
    shape: Vec<usize>,
}

impl fmt::Debug for NumpyRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NumpyRows({:?} {:?})", self.dtype, self.shape)
    }
}

impl NumpyRows {
    fn new(array: &Bound<'_, PyAny>) -> PyResult<Self> {
        let dtype = for_element!(array, found => type_of(found)).ok_or_else(|| refused(array))?;
        let shape = array.cast::<PyUntypedArray>()?.shape().to_vec();
        Ok(NumpyRows { array: array.clone().unbind(), dtype, shape })
    }
}

impl Rows for NumpyRows {
    fn dtype(&self) -> DataType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn rows(&self, rows: &[usize]) -> Result<HostArray> {
        let changed = |message: &str| Error::new(ErrorKind::Calibration, message.to_owned());
        Python::attach(|py| {
            let array = self.array.bind(py);
            let select = for_element!(array, found => select(found, &self.shape, rows)).flatten();
            select.ok_or_else(|| changed("an array of the data has changed since it was given"))
        })
    }
}

/// Some rows of an array; `None` if its shape has changed.
fn select<T: Element + Copy>(
    array: &Bound<'_, PyArrayDyn<T>>,
    shape: &[usize],
    rows: &[usize],
) -> Option<HostArray>
where
    HostArray: From<ArrayD<T>>,
{
    let array = array.try_readonly().ok()?;
    let view = array.as_array();
    let fits = view.shape() == shape && rows.iter().all(|row| shape.first() > Some(row));
    fits.then(|| HostArray::from(view.select(Axis(0), rows)))
}

fn type_of<T: Element>(_: &Bound<'_, PyArrayDyn<T>>) -> DataType
where
    HostArray: From<ArrayD<T>>,
{
    HostArray::from(ndarray::Array1::<T>::from_vec(Vec::new()).into_dyn()).dtype()
}

fn refused(array: &Bound<'_, PyAny>) -> PyErr {
    let dtype = array.getattr("dtype").map(|d| d.to_string()).unwrap_or_default();
    PyTypeError::new_err(format!("arrays of {dtype} cannot feed a model"))
}

/// The words in a numpy array of texts; `None` for other types.
fn words(array: &Bound<'_, PyAny>) -> PyResult<Option<HostArray>> {
    if array.getattr("dtype")?.getattr("kind")?.extract::<String>()? != "U" {
        return Ok(None);
    }
    let shape = array.cast::<PyUntypedArray>()?.shape().to_vec();
    let words: Vec<String> = array.call_method0("ravel")?.call_method0("tolist")?.extract()?;
    Ok(ArrayD::from_shape_vec(shape, words).ok().map(HostArray::Text))
}

/// A copy of a numpy array.
pub(crate) fn host_array(array: &Bound<'_, PyAny>) -> PyResult<HostArray> {
    if let Some(words) = words(array)? {
        return Ok(words);
    }
    for_element!(array, found => HostArray::from(found.try_readonly()?.as_array().to_owned()))
        .ok_or_else(|| refused(array))
}

/// A numpy array that takes over an array of the library.
pub(crate) fn numpy_array(py: Python<'_>, array: HostArray) -> PyResult<Py<PyAny>> {
    macro_rules! moved {
        ($array:expr) => {
            PyArrayDyn::from_owned_array(py, $array).into_any().unbind()
        };
    }
    Ok(match array {
        HostArray::F32(a) => moved!(a),
        HostArray::F64(a) => moved!(a),
        HostArray::F16(a) => moved!(a),
        HostArray::I64(a) => moved!(a),
        HostArray::I32(a) => moved!(a),
        HostArray::I16(a) => moved!(a),
        HostArray::I8(a) => moved!(a),
        HostArray::U64(a) => moved!(a),
        HostArray::U32(a) => moved!(a),
        HostArray::U16(a) => moved!(a),
        HostArray::U8(a) => moved!(a),
        HostArray::Bool(a) => moved!(a),
        HostArray::Text(a) => {
            let texts = a.map(|text| PyString::new(py, text).into_any().unbind());
            PyArrayDyn::from_owned_object_array(py, texts).into_any().unbind()
        }
    })
}

/// Samples for one model or for all.
#[pyclass(frozen)]
pub(crate) struct Data {
    pub(crate) input: DataInput,
}

#[pymethods]
impl Data {
    /// Samples in a file or folder.
    #[staticmethod]
    fn path(path: std::path::PathBuf) -> Self {
        Data { input: path.into() }
    }

    /// Samples in arrays, of which only words are copied.
    #[staticmethod]
    fn arrays(names: Option<Vec<String>>, arrays: Vec<Bound<'_, PyAny>>) -> PyResult<Self> {
        let rows = |array: &Bound<'_, PyAny>| -> PyResult<Arc<dyn Rows>> {
            Ok(match words(array)? {
                Some(words) => Arc::new(words),
                None => Arc::new(NumpyRows::new(array)?),
            })
        };
        let rows = arrays.iter().map(rows).collect::<PyResult<_>>()?;
        let arrays = Arrays::of_rows(names, rows);
        Ok(Data { input: arrays.into() })
    }
}

/// Batches on their way into a temporary file.
#[pyclass(frozen)]
pub(crate) struct Spooler {
    spool: Mutex<Option<Spool>>,
}

#[pymethods]
impl Spooler {
    #[new]
    fn new() -> Self {
        Spooler { spool: Mutex::new(Some(Spool::default())) }
    }

    /// Adds a batch.
    fn push(
        &self,
        py: Python<'_>,
        names: Option<Vec<String>>,
        batch: Vec<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let batch = batch.iter().map(host_array).collect::<PyResult<_>>()?;
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(spool) = spool.as_mut() else { return Err(finished()) };
        spool.push(names, batch).map_err(|error| exception(py, &error))
    }

    /// All batches as samples.
    fn finish(&self, py: Python<'_>) -> PyResult<Data> {
        let spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner).take();
        let arrays = spool.ok_or_else(finished)?.finish();
        let input = arrays.map_err(|error| exception(py, &error))?.into();
        Ok(Data { input })
    }
}

fn finished() -> PyErr {
    PyTypeError::new_err("these batches are complete")
}

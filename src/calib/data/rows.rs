//! Arrays of samples, in memory or in files.

use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::ir::DataType;
use crate::runtime::HostArray;

/// Number of elements that a check reads at once.
const CHUNK: usize = 1 << 20;

/// An array whose first axis counts samples, in memory or in a file.
pub trait Rows: Send + Sync + fmt::Debug {
    /// The type of its elements.
    fn dtype(&self) -> DataType;

    /// Its sizes, the number of samples first.
    fn shape(&self) -> &[usize];

    /// The samples `rows`, in that order.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Calibration`] where there is no such sample;
    /// [`crate::error::ErrorKind::Io`] where it cannot be read.
    fn rows(&self, rows: &[usize]) -> Result<HostArray>;

    /// The number of samples; none for a single number.
    fn count(&self) -> usize {
        self.shape().first().copied().unwrap_or(0)
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`Rows::rows`].
    fn whole(&self) -> Result<HostArray> {
        self.rows(&(0..self.count()).collect::<Vec<_>>())
    }

    /// Whether all samples are checked before the work begins. If not, samples are checked when they
    /// are used.
    fn is_scanned(&self) -> bool {
        true
    }

    /// The first sample with a value that is NaN or infinite.
    ///
    /// # Errors
    /// As [`Rows::rows`].
    fn first_not_finite(&self) -> Result<Option<usize>> {
        if !self.dtype().is_float() {
            return Ok(None);
        }
        let found = find(self, |array| Some((array.first_non_finite()?, ())))?;
        Ok(found.map(|(sample, ())| sample))
    }
}

/// The first sample with an element that `look` finds, and the result of `look`. `look` gets several
/// samples at a time, and returns the element's position among them.
///
/// # Errors
/// As [`Rows::rows`].
pub(super) fn find<R: Rows + ?Sized, T>(
    array: &R,
    look: impl Fn(&HostArray) -> Option<(usize, T)>,
) -> Result<Option<(usize, T)>> {
    let sample = array.shape().iter().skip(1).product::<usize>().max(1);
    let step = (CHUNK / sample).max(1);
    for start in (0..array.count()).step_by(step) {
        let rows: Vec<usize> = (start..array.count().min(start + step)).collect();
        if let Some((position, found)) = look(&array.rows(&rows)?) {
            return Ok(Some((start + position / sample, found)));
        }
    }
    Ok(None)
}

impl Rows for HostArray {
    fn dtype(&self) -> DataType {
        HostArray::dtype(self)
    }

    fn shape(&self) -> &[usize] {
        HostArray::shape(self)
    }

    fn rows(&self, rows: &[usize]) -> Result<HostArray> {
        self.select_rows(rows)
    }

    fn whole(&self) -> Result<HostArray> {
        Ok(self.clone())
    }
}

/// Samples in memory: one array per input, and perhaps one of labels.
///
/// ```
/// use ndarray::ArrayD;
/// use onnx_zip::Arrays;
///
/// let images = ArrayD::<f32>::zeros(vec![100, 1, 28, 28]);
/// let labels = ArrayD::<i64>::zeros(vec![100]);
/// let named = Arrays::named([("image", images.into()), ("labels", labels.into())]);
/// let batches = (0..10).map(|_| Ok(vec![ArrayD::<f32>::zeros(vec![10, 784]).into()]));
/// let streamed = Arrays::from_batches(batches)?;
/// # Ok::<(), onnx_zip::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Arrays {
    pub(super) names: Option<Vec<String>>,
    pub(super) arrays: Vec<Arc<dyn Rows>>,
}

impl Arrays {
    /// Arrays under the names of their inputs; one called `labels` holds labels.
    pub fn named<N: Into<String>>(arrays: impl IntoIterator<Item = (N, HostArray)>) -> Self {
        let shared =
            |(name, array): (N, HostArray)| (name.into(), Arc::new(array) as Arc<dyn Rows>);
        let (names, arrays) = arrays.into_iter().map(shared).unzip();
        Arrays { names: Some(names), arrays }
    }

    /// Arrays in the order of the model's inputs; one more holds labels.
    pub fn in_order(arrays: impl IntoIterator<Item = HostArray>) -> Self {
        let shared = |array: HostArray| Arc::new(array) as Arc<dyn Rows>;
        Arrays { names: None, arrays: arrays.into_iter().map(shared).collect() }
    }

    /// Arrays of any kind, named or in the order of the model's inputs.
    pub fn of_rows(names: Option<Vec<String>>, arrays: Vec<Arc<dyn Rows>>) -> Self {
        Arrays { names, arrays }
    }
}

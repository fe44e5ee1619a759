//! Batches of samples in temporary files, so that they need not fit in memory.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::ArrayD;

use super::bytes::{decoded, encoded};
use super::rows::{Arrays, Rows};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::DataType;
use crate::runtime::{HostArray, shape_text};

impl Arrays {
    /// Batches, read once and kept in a temporary file, so that they need not fit in memory. Each holds
    /// arrays in the order of the model's inputs; one more holds labels.
    ///
    /// # Errors
    /// Those of `batches`; [`ErrorKind::Calibration`] where batches differ in more than their length;
    /// [`ErrorKind::Io`] where no temporary file can be written.
    pub fn from_batches(batches: impl IntoIterator<Item = Result<Vec<HostArray>>>) -> Result<Self> {
        let mut spooler = Spooler::default();
        for batch in batches {
            spooler.push(None, batch?)?;
        }
        spooler.finish()
    }
}

/// Batches on their way into temporary files.
#[derive(Default)]
pub struct Spooler {
    names: Option<Vec<String>>,
    columns: Vec<Writing>,
    batches: usize,
}

struct Writing {
    kept: Kept,
    dtype: DataType,
    shape: Vec<usize>,
}

/// Where the elements of an array are kept.
enum Kept {
    File(BufWriter<File>),
    /// Words can only be labels, of which there are few.
    Words(Vec<String>),
}

impl Spooler {
    /// Adds one batch, whose arrays may be named.
    ///
    /// # Errors
    /// As [`Arrays::from_batches`].
    pub fn push(&mut self, names: Option<Vec<String>>, batch: Vec<HostArray>) -> Result<()> {
        self.batches += 1;
        if self.batches == 1 {
            self.names = names;
            self.columns = batch.iter().map(Writing::new).collect::<Result<_>>()?;
        } else if self.names != names || self.columns.len() != batch.len() {
            return Err(self.unlike("other arrays than the batches before"));
        }
        let lengths = batch.iter().map(|array| array.rows());
        let first = batch.first().and_then(HostArray::rows);
        if first.is_none() || lengths.into_iter().any(|length| length != first) {
            return Err(self.unlike("arrays of different lengths"));
        }
        for (column, array) in self.columns.iter_mut().zip(&batch) {
            let same_sample = column.shape.get(1..) == array.shape().get(1..);
            if !same_sample || column.dtype != array.dtype() {
                let (found, expected) = (shape_text(array.shape()), shape_text(&column.shape));
                let clause = format!(
                    "an array of {:?} {found}, but those before were {:?} {expected}",
                    array.dtype(),
                    column.dtype
                );
                return Err(self.unlike(&clause));
            }
            column.write(array)?;
        }
        Ok(())
    }

    /// All batches as arrays.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] without batches; [`ErrorKind::Io`] if a file cannot be written.
    pub fn finish(self) -> Result<Arrays> {
        if self.batches == 0 {
            return Err(Error::new(ErrorKind::Calibration, "the data has no batches")
                .hint("an iterator can be read once only: make a new one for every call"));
        }
        let arrays = self.columns.into_iter().map(Writing::finish).collect::<Result<_>>()?;
        Ok(Arrays { names: self.names, arrays })
    }

    fn unlike(&self, clause: &str) -> Error {
        Error::new(ErrorKind::Calibration, format!("batch {} has {clause}", self.batches))
    }
}

impl Writing {
    fn new(first: &HostArray) -> Result<Self> {
        let kept = match first.dtype() {
            DataType::STRING => Kept::Words(Vec::new()),
            _ => Kept::File(BufWriter::with_capacity(
                1 << 20,
                tempfile::tempfile().map_err(no_spool)?,
            )),
        };
        let mut shape = first.shape().to_vec();
        shape.iter_mut().take(1).for_each(|rows| *rows = 0);
        Ok(Writing { kept, dtype: first.dtype(), shape })
    }

    fn write(&mut self, array: &HostArray) -> Result<()> {
        match (&mut self.kept, array) {
            (Kept::Words(words), HostArray::Text(more)) => words.extend(more.iter().cloned()),
            (Kept::Words(_), _) => return Err(wrong_kind()),
            (Kept::File(file), _) => file.write_all(&encoded(array)?).map_err(no_spool)?,
        }
        if let (Some(all), Some(rows)) = (self.shape.first_mut(), array.rows()) {
            *all += rows;
        }
        Ok(())
    }

    /// The whole array.
    fn finish(self) -> Result<Arc<dyn Rows>> {
        let Writing { kept, dtype, shape } = self;
        match kept {
            Kept::File(file) => {
                let file = Mutex::new(file.into_inner().map_err(|e| no_spool(e.into_error()))?);
                Ok(Arc::new(Spooled { file, dtype, shape }))
            }
            Kept::Words(words) => {
                let words = ArrayD::from_shape_vec(shape, words);
                Ok(Arc::new(HostArray::Text(words.map_err(|e| wrong_kind().because(e))?)))
            }
        }
    }
}

/// An array in a temporary file, element after element.
struct Spooled {
    file: Mutex<File>,
    dtype: DataType,
    shape: Vec<usize>,
}

impl fmt::Debug for Spooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spooled({:?} {})", self.dtype, shape_text(&self.shape))
    }
}

impl Rows for Spooled {
    fn dtype(&self) -> DataType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn rows(&self, rows: &[usize]) -> Result<HostArray> {
        let sample: usize = self.shape.iter().skip(1).product();
        let length = sample * self.dtype.size().unwrap_or(1);
        let mut bytes = vec![0; rows.len() * length];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        for (row, place) in rows.iter().zip(bytes.chunks_exact_mut(length.max(1))) {
            let read = file.seek(SeekFrom::Start((row * length) as u64));
            read.and_then(|_| file.read_exact(place)).map_err(|e| {
                Error::new(ErrorKind::Io, "cannot read the temporary file of the samples")
                    .because(e)
            })?;
        }
        let mut shape = self.shape.clone();
        shape.iter_mut().take(1).for_each(|count| *count = rows.len());
        decoded(self.dtype, &shape, &bytes)
    }
}

fn wrong_kind() -> Error {
    Error::new(ErrorKind::Calibration, "words and numbers cannot be mixed in one array")
}

pub(super) fn no_spool(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot write the samples to a temporary file")
        .because(error)
        .hint("free space there, or name another folder in TMPDIR")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::data::{DataOptions, Dataset};
    use crate::ir::Dim;
    use crate::runtime::Port;

    fn batch(start: usize, rows: usize) -> Vec<HostArray> {
        let x = ArrayD::from_shape_fn(vec![rows, 2], |i| (10 * (start + i[0]) + i[1]) as f32);
        let y = ArrayD::from_shape_fn(vec![rows], |i| (start + i[0]) as i64);
        let b = ArrayD::from_shape_fn(vec![rows, 1], |i| (start + i[0]).is_multiple_of(2));
        vec![x.into(), y.into(), b.into()]
    }

    #[test]
    fn spooled_batches_are_the_array_that_they_were_cut_from() {
        let batches = [(0, 3), (3, 3), (6, 1)].map(|(start, rows)| Ok(batch(start, rows)));
        let spooled = Arrays::from_batches(batches).unwrap();
        for (found, whole) in spooled.arrays.iter().zip(batch(0, 7)) {
            assert_eq!(found.shape(), whole.shape());
            for rows in [&[6, 0, 3, 3][..], &[0, 1, 2, 3, 4, 5, 6], &[]] {
                assert_eq!(found.rows(rows).unwrap(), whole.select_rows(rows).unwrap());
            }
        }
    }

    #[test]
    fn words_of_batches_are_labels_and_feed_nothing() {
        let words = |words: &[&str]| {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            HostArray::Text(ArrayD::from_shape_vec(vec![2], words).unwrap())
        };
        let x = || batch(0, 2).swap_remove(0);
        let mut spooler = Spooler::default();
        let names = Some(["x", "file", "label"].map(str::to_owned).to_vec());
        for labels in [["fox", "cat"], ["dog", "cat"]] {
            let batch = vec![x(), words(&["1.png", "2.png"]), words(&labels)];
            spooler.push(names.clone(), batch).unwrap();
        }
        let arrays = spooler.finish().unwrap();
        let shape = vec![Dim::Unknown, Dim::Known(2)];
        let port = Port { name: "x".to_owned(), dtype: DataType::F32, shape: Some(shape) };
        let data = Dataset::from_arrays(&arrays, &[port], &DataOptions::default()).unwrap();
        assert_eq!(data.labels(0..4).unwrap(), [2, 0, 1, 0]);
        assert!(data.notes().iter().any(|note| note.in_flags().contains("cat, dog, fox")));
        let mixed = Arrays::from_batches([Ok(vec![words(&["a", "b"])]), Ok(vec![x()])]);
        assert!(mixed.unwrap_err().to_string().contains("batch 2"));
    }

    #[test]
    fn batches_that_differ_are_refused() {
        let ragged = ArrayD::<f32>::zeros(vec![2, 3]);
        let mut other = batch(0, 2);
        other[0] = ragged.into();
        for second in [other, batch(0, 2)[..1].to_vec(), vec![]] {
            let error = Arrays::from_batches([Ok(batch(0, 2)), Ok(second)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Calibration);
            assert!(error.to_string().contains("batch 2"), "{error}");
        }
        assert!(Arrays::from_batches([]).is_err());
    }

    #[test]
    fn values_that_are_not_finite_are_found_where_they_are() {
        let mut x = ArrayD::<f32>::zeros(vec![9, 2]);
        x[[7, 1]] = f32::NAN;
        let spooled = Arrays::from_batches([Ok(vec![x.into()])]).unwrap();
        assert_eq!(spooled.arrays[0].first_not_finite().unwrap(), Some(7));
    }
}

//! `.npy` files that are written batch by batch, so that samples need not fit into memory.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::calib::data::encoded;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::DataType;
use crate::runtime::HostArray;
use crate::staging::unwritable;

/// The magic bytes and version 1.0 of the format.
const MAGIC: &[u8; 8] = b"\x93NUMPY\x01\x00";

/// Header and data together begin at a multiple of this.
const ALIGNMENT: usize = 64;

/// An array of a known number of rows, of which some are written.
pub(super) struct NpyFile {
    path: PathBuf,
    out: BufWriter<File>,
    dtype: DataType,
    /// Sizes of one row.
    row: Vec<usize>,
    left: usize,
}

impl NpyFile {
    /// Begins an array of `rows` rows like those of `like`.
    pub(super) fn create(path: &Path, rows: usize, like: &HostArray) -> Result<Self> {
        let row: Vec<usize> = like.shape().iter().skip(1).copied().collect();
        let dtype = like.dtype();
        let header = header(dtype, rows, &row)?;
        let begun = File::create(path).map(BufWriter::new).and_then(|mut out| {
            out.write_all(&header)?;
            Ok(out)
        });
        let out = begun.map_err(|e| unwritable(path, e))?;
        Ok(NpyFile { path: path.to_owned(), out, dtype, row, left: rows })
    }

    /// Appends the rows of `batch`.
    pub(super) fn push(&mut self, batch: &HostArray) -> Result<()> {
        let rows = batch.rows().unwrap_or(0);
        if batch.dtype() != self.dtype || batch.shape().get(1..) != Some(&self.row[..]) {
            return Err(misfit("batches differ in type or shape"));
        }
        self.left = self.left.checked_sub(rows).ok_or_else(|| misfit("there are too many rows"))?;
        self.out.write_all(&encoded(batch)?).map_err(|e| unwritable(&self.path, e))
    }

    /// Ends the array, of which all rows must have been written.
    pub(super) fn finish(mut self) -> Result<()> {
        if self.left > 0 {
            return Err(misfit("rows are missing"));
        }
        self.out.flush().map_err(|e| unwritable(&self.path, e))
    }
}

fn misfit(message: &str) -> Error {
    Error::new(ErrorKind::Calibration, message)
        .hint("every sample must give one row of each output, whatever the batch size")
}

fn header(dtype: DataType, rows: usize, row: &[usize]) -> Result<Vec<u8>> {
    let descr = match dtype {
        DataType::F32 => "<f4",
        DataType::F64 => "<f8",
        DataType::F16 => "<f2",
        DataType::I64 => "<i8",
        DataType::I32 => "<i4",
        DataType::I16 => "<i2",
        DataType::I8 => "|i1",
        DataType::U64 => "<u8",
        DataType::U32 => "<u4",
        DataType::U16 => "<u2",
        DataType::U8 => "|u1",
        DataType::Bool => "|b1",
        other => {
            let message = format!("arrays of type {other:?} cannot be written");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    };
    let sizes: String = std::iter::once(&rows).chain(row).map(|size| format!("{size}, ")).collect();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let end = (MAGIC.len() + 2 + text.len() + 1).next_multiple_of(ALIGNMENT);
    let length = end - MAGIC.len() - 2;
    text.push_str(&" ".repeat(length - text.len() - 1));
    text.push('\n');
    // A header holds a few sizes, far below the 65 535 bytes that two bytes can count.
    let length = u16::try_from(length).map_err(|e| misfit("a shape is too long").because(e))?;
    Ok([MAGIC.as_slice(), &length.to_le_bytes(), text.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::*;

    fn counted(rows: usize, first: usize) -> HostArray {
        let at = |i: ndarray::IxDyn| (first + i[0] * 6 + i[1] * 3 + i[2]) as f32;
        ArrayD::from_shape_fn(IxDyn(&[rows, 2, 3]), at).into()
    }

    #[test]
    fn batches_are_one_array_that_others_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let mut file = NpyFile::create(&path, 3, &counted(2, 0)).unwrap();
        file.push(&counted(2, 0)).unwrap();
        file.push(&counted(1, 12)).unwrap();
        file.finish().unwrap();
        let read: ndarray::Array3<f32> = ndarray_npy::read_npy(&path).unwrap();
        assert_eq!(HostArray::from(read.into_dyn()), counted(3, 0));
    }

    #[test]
    fn labels_are_one_axis_and_miscounted_rows_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.npy");
        let labels = HostArray::from(ArrayD::from_shape_vec(IxDyn(&[2]), vec![3i64, -1]).unwrap());
        let mut file = NpyFile::create(&path, 2, &labels).unwrap();
        file.push(&labels).unwrap();
        assert!(file.push(&labels).is_err());
        let mut file = NpyFile::create(&path, 2, &labels).unwrap();
        file.push(&labels).unwrap();
        file.finish().unwrap();
        let read: ndarray::Array1<i64> = ndarray_npy::read_npy(&path).unwrap();
        assert_eq!(read.to_vec(), [3, -1]);
        assert!(NpyFile::create(&path, 2, &labels).unwrap().finish().is_err());
    }
}

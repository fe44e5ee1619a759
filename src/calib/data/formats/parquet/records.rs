//! Rows that are decoded once, when they are first needed.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, PoisonError};

use parquet::column::reader::ColumnReader;

use super::super::super::media::{LARGEST, Media, too_large};
use super::super::super::rows::{Rows, decoded, no_spool};
use super::leaf::{skip, take};
use super::{Column, Group};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::DataType;
use crate::runtime::{HostArray, shape_text};

/// The rows of a column, each as its bytes.
pub(super) struct Records {
    column: Column,
    state: Mutex<State>,
}

/// The progress of decoding, and the decoded rows.
struct State {
    cursor: Option<Cursor>,
    spool: File,
    /// Bytes in the temporary file.
    length: u64,
    /// Places of rows in the temporary file.
    places: HashMap<usize, (u64, usize)>,
}

struct Cursor {
    group: Group,
    reader: ColumnReader,
    /// The row of the group that comes next.
    next: usize,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} of {})", self.column.field, self.column.rows())
    }
}

impl Records {
    pub(super) fn new(column: Column) -> Result<Self> {
        let spool = tempfile::tempfile().map_err(no_spool)?;
        let state = State { cursor: None, spool, length: 0, places: HashMap::new() };
        Ok(Records { column, state: Mutex::new(state) })
    }

    fn row(&self, state: &mut State, row: usize) -> Result<Vec<u8>> {
        if let Some((offset, length)) = state.places.get(&row) {
            let mut bytes = vec![0; *length];
            let read = state.spool.seek(SeekFrom::Start(*offset));
            read.and_then(|_| state.spool.read_exact(&mut bytes)).map_err(no_spool)?;
            return Ok(bytes);
        }
        let bytes = self.decode(state, row)?;
        let written = state.spool.seek(SeekFrom::Start(state.length));
        written.and_then(|_| state.spool.write_all(&bytes)).map_err(no_spool)?;
        state.places.insert(row, (state.length, bytes.len()));
        state.length += bytes.len() as u64;
        Ok(bytes)
    }

    fn decode(&self, state: &mut State, row: usize) -> Result<Vec<u8>> {
        let after = self.column.groups.partition_point(|group| group.first <= row);
        // An empty group begins at the same row as the next one, so take the last.
        let group = after.checked_sub(1).and_then(|at| self.column.groups.get(at)).copied();
        let Some(group) = group.filter(|group| row < group.first + group.rows) else {
            let message = format!(
                "sample {row} is outside the data, which have {} samples",
                self.column.rows()
            );
            return Err(Error::new(ErrorKind::Calibration, message));
        };
        let wanted = row - group.first;
        // Taken out, so that a failed reader is not used again.
        let cursor = state
            .cursor
            .take()
            .filter(|cursor| cursor.group.first == group.first && cursor.next <= wanted);
        let mut cursor = match cursor {
            Some(cursor) => cursor,
            None => Cursor { group, reader: self.column.reader(group)?, next: 0 },
        };
        skip(&self.column, group, &mut cursor.reader, wanted - cursor.next)?;
        let run = take(&self.column, group, &mut cursor.reader, 1)?;
        if run.rows != 1 || run.has_gaps {
            let clause = format!(
                "has no value in row {row}: pictures and sounds that are stored as paths have none"
            );
            return Err(self.column.wrong(group, &clause));
        }
        cursor.next = wanted + 1;
        state.cursor = Some(cursor);
        if run.bytes.len() as u64 > LARGEST {
            return Err(too_large(&self.name(row)));
        }
        Ok(run.bytes)
    }
}

impl Media for Records {
    fn count(&self) -> usize {
        self.column.rows()
    }

    fn name(&self, row: usize) -> String {
        format!("row {row} of '{}'", self.column.field)
    }

    fn bytes(&self, rows: &[usize]) -> Result<Vec<Vec<u8>>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter().map(|row| self.row(&mut state, *row)).collect()
    }
}

/// Rows that are lists of numbers of equal length.
#[derive(Debug)]
pub(super) struct Numbers {
    records: Records,
    dtype: DataType,
    shape: Vec<usize>,
}

impl Numbers {
    pub(super) fn new(records: Records) -> Result<Self> {
        let dtype = records.column.leaf.dtype;
        let first = records.bytes(&[0])?.pop().unwrap_or_default();
        let length = first.len() / dtype.size().unwrap_or(1).max(1);
        let shape = vec![records.count(), length];
        Ok(Numbers { records, dtype, shape })
    }
}

impl Rows for Numbers {
    fn dtype(&self) -> DataType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn rows(&self, rows: &[usize]) -> Result<HostArray> {
        let length = self.shape.get(1).copied().unwrap_or(0);
        let size = length * self.dtype.size().unwrap_or(1);
        let all = self.records.bytes(rows)?;
        if let Some((row, _)) = rows.iter().zip(&all).find(|(_, own)| own.len() != size) {
            let (name, shape) = (self.records.name(*row), shape_text(&[length]));
            let message =
                format!("{name} has another number of values than row 0, which has {shape}");
            return Err(Error::new(ErrorKind::Calibration, message));
        }
        decoded(self.dtype, &[rows.len(), length], &all.concat())
    }

    fn is_scanned(&self) -> bool {
        false
    }
}

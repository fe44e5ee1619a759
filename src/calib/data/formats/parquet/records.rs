//! Rows that are decoded once, when they are first needed.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, PoisonError};

use parquet::column::reader::ColumnReader;

use super::super::super::bytes::decoded;
use super::super::super::media::{LARGEST, Media, too_large};
use super::super::super::rows::Rows;
use super::super::super::spool::no_spool;
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
    /// How often each group was opened, by its first row.
    opened: HashMap<usize, usize>,
}

impl State {
    /// Reads a decoded row; `None` where there is none yet.
    fn kept(&mut self, row: usize) -> Result<Option<Vec<u8>>> {
        let Some((offset, length)) = self.places.get(&row) else { return Ok(None) };
        let mut bytes = vec![0; *length];
        let read = self.spool.seek(SeekFrom::Start(*offset));
        read.and_then(|_| self.spool.read_exact(&mut bytes)).map_err(no_spool)?;
        Ok(Some(bytes))
    }

    fn keep(&mut self, row: usize, bytes: &[u8]) -> Result<()> {
        let written = self.spool.seek(SeekFrom::Start(self.length));
        written.and_then(|_| self.spool.write_all(bytes)).map_err(no_spool)?;
        self.places.insert(row, (self.length, bytes.len()));
        self.length += bytes.len() as u64;
        Ok(())
    }
}

struct Cursor {
    group: Group,
    reader: ColumnReader,
    /// The row of the group that comes next.
    next: usize,
    /// Whether rows are kept that it passes.
    keeps: bool,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} of {})", self.column.field, self.column.rows())
    }
}

impl Records {
    pub(super) fn new(column: Column) -> Result<Self> {
        let spool = tempfile::tempfile().map_err(no_spool)?;
        let state = State {
            cursor: None,
            spool,
            length: 0,
            places: HashMap::new(),
            opened: HashMap::new(),
        };
        Ok(Records { column, state: Mutex::new(state) })
    }

    fn row(&self, state: &mut State, row: usize) -> Result<Vec<u8>> {
        if let Some(bytes) = state.kept(row)? {
            return Ok(bytes);
        }
        let bytes = self.decode(state, row)?;
        state.keep(row, &bytes)?;
        Ok(bytes)
    }

    fn decode(&self, state: &mut State, row: usize) -> Result<Vec<u8>> {
        let after = self.column.groups.partition_point(|group| group.first <= row);
        // An empty group begins at the same row as the next one, so take the last.
        let group = after.checked_sub(1).and_then(|at| self.column.groups.get(at)).copied();
        let Some(group) = group.filter(|group| row < group.first + group.rows) else {
            let samples = crate::naming::counted(self.column.rows(), "sample");
            let message = format!("sample {row} is outside the data, which have {samples}");
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
            None => self.cursor(state, group)?,
        };
        self.pass(state, &mut cursor, wanted)?;
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

    /// A cursor at the first row of a group.
    fn cursor(&self, state: &mut State, group: Group) -> Result<Cursor> {
        let before = state.opened.entry(group.first).or_default();
        // Samples in the order of the file open a group once. In any other order, a group is opened again, and
        // would be skipped through for nearly every sample.
        let keeps = *before > 0;
        *before += 1;
        Ok(Cursor { group, reader: self.column.reader(group)?, next: 0, keeps })
    }

    /// Moves the cursor to row `wanted` of its group.
    fn pass(&self, state: &mut State, cursor: &mut Cursor, wanted: usize) -> Result<()> {
        while cursor.next < wanted {
            let (group, row) = (cursor.group, cursor.group.first + cursor.next);
            let passed = match cursor.keeps {
                true => {
                    let left = row..group.first + wanted;
                    left.take_while(|row| state.places.contains_key(row)).count()
                }
                false => wanted - cursor.next,
            };
            if passed > 0 {
                skip(&self.column, group, &mut cursor.reader, passed)?;
                cursor.next += passed;
                continue;
            }
            let run = take(&self.column, group, &mut cursor.reader, 1)?;
            if run.rows != 1 {
                return Err(self.column.wrong(group, "ends before its last row"));
            }
            // What cannot be a sample is an error once it is asked for.
            if !run.has_gaps && run.bytes.len() as u64 <= LARGEST {
                state.keep(row, &run.bytes)?;
            }
            cursor.next += 1;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::Files;
    use super::super::table;
    use super::*;

    /// The pictures of 40 rows in groups of 16.
    fn records() -> Records {
        let given =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/data/formats/flat.parquet");
        let files = Files { all: vec![given.clone()], given };
        Records::new(table(&files).unwrap().column("image").unwrap()).unwrap()
    }

    /// How often each group was opened.
    fn opened(records: &Records) -> Vec<usize> {
        let state = records.state.lock().unwrap();
        let count = |group: &Group| state.opened.get(&group.first).copied().unwrap_or(0);
        records.column.groups.iter().map(count).collect()
    }

    #[test]
    fn rows_in_order_are_decoded_once_and_only_as_far_as_needed() {
        let (records, some) = (records(), [1, 9, 20, 39]);
        let first = records.bytes(&some).unwrap();
        assert_eq!(records.bytes(&some).unwrap(), first);
        assert_eq!(opened(&records), [1, 1, 1]);
        assert_eq!(records.state.lock().unwrap().places.len(), some.len());
    }

    #[test]
    fn rows_in_any_order_open_a_group_a_few_times() {
        let all: Vec<usize> = (0..40).collect();
        let expected = records().bytes(&all).unwrap();
        let backward: Vec<usize> = (0..40).rev().collect();
        let across: Vec<usize> = (0..40).map(|n| 23 * n % 40).collect();
        for (order, most) in [(backward, 2), (across, 6)] {
            let records = records();
            let found = records.bytes(&order).unwrap();
            assert!(order.iter().zip(&found).all(|(row, own)| *own == expected[*row]));
            assert!(opened(&records).iter().all(|count| *count <= most), "{:?}", opened(&records));
        }
    }
}

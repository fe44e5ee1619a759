//! Values of one column, row after row.

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType as Stored;
use parquet::errors::Result as Outcome;

use super::super::super::bytes::decoded;
use super::{Column, Group, damaged, guarded};
use crate::error::Result;
use crate::ir::DataType;
use crate::runtime::HostArray;

/// Number of rows that are decoded at once.
const RUN: usize = 4096;

/// Limit of a word's bytes.
const LONGEST_WORD: usize = 1 << 12;

/// The values of some rows.
#[derive(Default)]
pub(super) struct Run {
    /// Number of rows.
    pub(super) rows: usize,
    /// Their values, in little-endian order.
    pub(super) bytes: Vec<u8>,
    /// The end of each value, for byte strings.
    pub(super) ends: Vec<usize>,
    /// Whether a value is missing.
    pub(super) has_gaps: bool,
}

/// Decodes up to `most` rows.
pub(super) fn take(
    column: &Column,
    group: Group,
    reader: &mut ColumnReader,
    most: usize,
) -> Result<Run> {
    let path = column.path(group);
    guarded(path, || run(reader, most, column.leaf.dtype).map_err(|error| damaged(path, error)))
}

/// Skips rows.
pub(super) fn skip(
    column: &Column,
    group: Group,
    reader: &mut ColumnReader,
    rows: usize,
) -> Result<()> {
    macro_rules! skipped {
        ($($variant:ident),*) => {
            match reader { $(ColumnReader::$variant(reader) => reader.skip_records(rows),)* }
        };
    }
    let path = column.path(group);
    let work = || {
        let done = skipped!(
            BoolColumnReader,
            Int32ColumnReader,
            Int64ColumnReader,
            Int96ColumnReader,
            FloatColumnReader,
            DoubleColumnReader,
            ByteArrayColumnReader,
            FixedLenByteArrayColumnReader
        );
        done.map_err(|error| damaged(path, error))
    };
    match guarded(path, work)? == rows {
        true => Ok(()),
        false => Err(column.wrong(group, "ends before its last row")),
    }
}

fn run(reader: &mut ColumnReader, most: usize, dtype: DataType) -> Outcome<Run> {
    match reader {
        ColumnReader::BoolColumnReader(r) => read(r, most, |v, out| out.push(u8::from(*v))),
        ColumnReader::Int32ColumnReader(r) => read(r, most, |v, out| match dtype {
            DataType::U8 => out.push(*v as u8),
            DataType::I64 => out.extend(i64::from(*v as u32).to_le_bytes()),
            _ => out.extend(v.to_le_bytes()),
        }),
        ColumnReader::Int64ColumnReader(r) => read(r, most, |v, out| out.extend(v.to_le_bytes())),
        ColumnReader::FloatColumnReader(r) => read(r, most, |v, out| out.extend(v.to_le_bytes())),
        ColumnReader::DoubleColumnReader(r) => read(r, most, |v, out| out.extend(v.to_le_bytes())),
        ColumnReader::ByteArrayColumnReader(r) => {
            read(r, most, |v, out| out.extend_from_slice(v.data()))
        }
        // No field has these types.
        ColumnReader::Int96ColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {
            Ok(Run::default())
        }
    }
}

fn read<T: Stored>(
    reader: &mut ColumnReaderImpl<T>,
    most: usize,
    encode: impl Fn(&T::T, &mut Vec<u8>),
) -> Outcome<Run> {
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut run = Run::default();
    while run.rows < most {
        let (rows, _, levels) = reader.read_records(
            most - run.rows,
            Some(&mut definitions),
            Some(&mut repetitions),
            &mut values,
        )?;
        if rows == 0 && levels == 0 {
            break;
        }
        run.rows += rows;
    }
    let full = definitions.iter().max().copied().unwrap_or(0);
    run.has_gaps = values.is_empty() || definitions.iter().any(|level| *level < full);
    for value in &values {
        encode(value, &mut run.bytes);
        run.ends.push(run.bytes.len());
    }
    Ok(run)
}

/// Calls `each` with runs of all rows.
fn runs(column: &Column, mut each: impl FnMut(Group, Run) -> Result<()>) -> Result<()> {
    for group in column.groups.iter().copied() {
        let mut reader = column.reader(group)?;
        let mut left = group.rows;
        while left > 0 {
            let run = take(column, group, &mut reader, left.min(RUN))?;
            if run.rows == 0 || run.rows > left {
                return Err(column.wrong(group, "ends before its last row"));
            }
            if run.has_gaps || run.ends.len() != run.rows {
                return Err(column.wrong(group, "lacks values"));
            }
            left -= run.rows;
            each(group, run)?;
        }
    }
    Ok(())
}

/// A column of one number per row.
pub(super) fn flat(column: &Column) -> Result<HostArray> {
    let mut bytes = Vec::new();
    runs(column, |_, run| {
        bytes.extend_from_slice(&run.bytes);
        Ok(())
    })?;
    decoded(column.leaf.dtype, &[column.rows()], &bytes)
}

/// A column of one word per row.
pub(super) fn words(column: &Column) -> Result<Vec<String>> {
    let mut words = Vec::new();
    runs(column, |group, run| {
        let mut start = 0;
        for end in run.ends {
            if end - start > LONGEST_WORD {
                return Err(column.wrong(group, "holds texts, not classes"));
            }
            let word = run.bytes.get(start..end).unwrap_or_default();
            words.push(String::from_utf8_lossy(word).into_owned());
            start = end;
        }
        Ok(())
    })?;
    Ok(words)
}

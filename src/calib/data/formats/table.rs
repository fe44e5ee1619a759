//! Tables as text: each column holds paths, numbers or classes.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use csv_core::{ReadFieldResult, ReaderBuilder};
use ndarray::Array1;

use super::super::choice::{Field, Kind, LABELS_KEY};
use super::super::complaints::unreadable;
use super::super::file::opened;
use super::super::media::{LARGEST, Paths, too_large};
use super::super::options::DataOptions;
use super::folder::{PICTURES, SOUNDS};
use super::{Content, Files, Format, Source, suffix};
use crate::calib::memory;
use crate::error::{Error, ErrorKind, Result};
use crate::naming::counted;
use crate::runtime::HostArray;

pub(super) const FORMAT: Format =
    Format { name: "a table", suffixes: &["csv", "tsv"], sharded: false, open };

/// Limit of a cell's bytes.
const LONGEST_CELL: usize = 1 << 16;

/// Limit of columns: a row of nothing but commas would take a hundred times its bytes.
const MOST_COLUMNS: usize = 1 << 18;

/// Bytes of memory that a cell takes beside its text, at most.
const CELL: u64 = 64;

/// What to do about a table that is too large.
const ELSEWHERE: &str = "a table names files; keep numbers in .npy files or in Parquet";

/// The columns of a table.
struct Table {
    columns: Vec<(Field, Vec<String>)>,
    /// The folder that paths are relative to.
    folder: std::path::PathBuf,
}

fn open(files: &Files, _: &DataOptions) -> Result<Box<dyn Source>> {
    let path = files.first();
    let file = opened(path)?;
    let length = file.metadata().map_err(|error| unreadable(path, error))?.len();
    if length > LARGEST {
        return Err(too_large(&path.display().to_string()).hint(ELSEWHERE));
    }
    let refused =
        |message: &str| Error::new(ErrorKind::Calibration, format!("{} {message}", path.display()));
    let delimiter = if suffix(path).as_deref() == Some("tsv") { b'\t' } else { b',' };
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text).map_err(|error| unreadable(path, error))?;
    let room = memory::room().unwrap_or(u64::MAX);
    let mut columns = columns(&text, delimiter, room).map_err(|clause| refused(&clause))?;
    let names = names(&mut columns);
    if columns.first().is_none_or(Vec::is_empty) {
        return Err(refused("holds no rows"));
    }
    let named = names.into_iter().zip(columns);
    let columns = named.map(|(name, cells)| (Field { name, kind: kind(&cells) }, cells)).collect();
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok(Box::new(Table { columns, folder }))
}

/// The cells of a table, column by column, in up to `room` bytes of memory. The error is a clause about the file.
fn columns(mut text: &[u8], delimiter: u8, room: u64) -> Result<Vec<Vec<String>>, String> {
    let mut reader = ReaderBuilder::new().delimiter(delimiter).build();
    let mut columns: Vec<Vec<String>> = Vec::new();
    let mut cell = vec![0; LONGEST_CELL];
    let (mut row, mut place, mut length) = (0usize, 0usize, 0usize);
    let mut taken = 0;
    loop {
        let (found, read, written) =
            reader.read_field(text, cell.get_mut(length..).unwrap_or_default());
        text = text.get(read..).unwrap_or_default();
        length += written;
        let ends_row = match found {
            // Empty input ends the last cell.
            ReadFieldResult::InputEmpty => continue,
            ReadFieldResult::OutputFull => return Err(format!("has an endless cell in row {row}")),
            ReadFieldResult::End => return Ok(columns),
            ReadFieldResult::Field { record_end } => record_end,
        };
        let own = String::from_utf8_lossy(cell.get(..length).unwrap_or_default());
        if row == 0 {
            columns.push(Vec::with_capacity(1));
        }
        taken += CELL + length as u64;
        if columns.len() > MOST_COLUMNS {
            return Err(format!("has more than {MOST_COLUMNS} columns; {ELSEWHERE}"));
        } else if taken > room {
            return Err(format!("takes more memory than is free; {ELSEWHERE}"));
        }
        let wide = columns.len();
        match columns.get_mut(place) {
            Some(column) => column.push(own.trim().to_owned()),
            None => return Err(format!("has more than {} in row {row}", counted(wide, "cell"))),
        }
        (place, length) = (place + 1, 0);
        if ends_row {
            if place != wide {
                let own = counted(place, "cell");
                return Err(format!("has {own} in row {row}, but {wide} in the first"));
            }
            (row, place) = (row + 1, 0);
        }
    }
}

/// The names of the columns: the first row, unless it names a file.
fn names(columns: &mut [Vec<String>]) -> Vec<String> {
    let is_row = |cells: &Vec<String>| cells.first().is_some_and(|cell| is_file(cell));
    if !columns.iter().any(is_row) {
        let head = |cells: &mut Vec<String>| match cells.is_empty() {
            true => String::new(),
            false => cells.remove(0),
        };
        return columns.iter_mut().map(head).collect();
    }
    let two = columns.len() == 2;
    let name = |(place, cells): (usize, &Vec<String>)| match is_row(cells) {
        true => format!("file{}", place + 1),
        false if two => LABELS_KEY.to_owned(),
        false => format!("column{}", place + 1),
    };
    columns.iter().enumerate().map(name).collect()
}

fn is_file(cell: &str) -> bool {
    let own = suffix(Path::new(cell));
    own.is_some_and(|own| PICTURES.contains(&own.as_str()) || SOUNDS.contains(&own.as_str()))
}

fn kind(cells: &[String]) -> Kind {
    if cells.iter().all(|cell| is_file(cell)) {
        Kind::Media
    } else if cells.iter().all(|cell| cell.parse::<f64>().is_ok()) {
        Kind::Array
    } else {
        Kind::Text
    }
}

impl Source for Table {
    fn fields(&self) -> Vec<Field> {
        self.columns.iter().map(|(field, _)| field.clone()).collect()
    }

    fn read(&mut self, field: &str) -> Result<Content> {
        let column = self.columns.iter().find(|(own, _)| own.name == field);
        let Some((Field { kind, .. }, cells)) = column else {
            return Ok(Content::Text(Vec::new()));
        };
        Ok(match kind {
            Kind::Media => {
                let paths = cells.iter().map(|cell| self.folder.join(cell)).collect();
                Content::Media(Arc::new(Paths(paths)))
            }
            Kind::Array => Content::Array(Arc::new(numbers(cells))),
            Kind::Text => Content::Text(cells.clone()),
        })
    }
}

/// Integers if all numbers are integers, else floats.
fn numbers(cells: &[String]) -> HostArray {
    let whole: Option<Vec<i64>> = cells.iter().map(|cell| cell.parse().ok()).collect();
    match whole {
        Some(whole) => Array1::from_vec(whole).into_dyn().into(),
        None => {
            let numbers = cells.iter().map(|cell| cell.parse::<f64>().unwrap_or(f64::NAN));
            Array1::from_iter(numbers).into_dyn().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_grow_beyond_memory_are_refused() {
        let text = b"file,label\na.png,1\nb.png,2\n";
        assert_eq!(columns(text, b',', 1000).unwrap().len(), 2);
        let error = columns(text, b',', 300).unwrap_err();
        assert!(error.starts_with("takes more memory than is free; a table names"), "{error}");
    }

    #[test]
    fn a_row_of_nothing_but_commas_is_refused() {
        let wide = vec![b','; MOST_COLUMNS - 1];
        assert_eq!(columns(&wide, b',', u64::MAX).unwrap().len(), MOST_COLUMNS);
        let error = columns(&vec![b','; MOST_COLUMNS], b',', u64::MAX).unwrap_err();
        assert!(error.starts_with("has more than 262144 columns; "), "{error}");
    }
}

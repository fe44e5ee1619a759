//! Parquet, as Hugging Face stores datasets: pictures and sounds as bytes, classes as numbers or words.
//!
//! Rows are decoded when they are needed, in the order of the file. Decoded rows are kept in a
//! temporary file. So a pass over the samples reads the file once, and row groups need not fit in
//! memory. In another order, a row group is opened again, and then the rows before the wanted one are
//! kept, too.

mod leaf;
mod records;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{CompressionCodec, ConvertedType, LogicalType, Type as Physical};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use self::leaf::{flat, words};
use self::records::{Numbers, Records};
use super::super::choice::{Field, Kind};
use super::super::complaints::wrong_array;
use super::super::file::opened;
use super::super::options::DataOptions;
use super::{Content, Files, Format, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::DataType;
use crate::runtime::shielded;

pub(super) const FORMAT: Format =
    Format { name: "Parquet", suffixes: &["parquet"], sharded: true, open };

/// Limit of rows that files may claim: each row takes eight bytes before anything is read.
const MOST_ROWS: usize = 100_000_000;

/// Compressions that are read. A page of the others takes memory without a limit, whatever its file claims.
const READ: [CompressionCodec; 5] = [
    CompressionCodec::UNCOMPRESSED,
    CompressionCodec::SNAPPY,
    CompressionCodec::ZSTD,
    CompressionCodec::LZ4,
    CompressionCodec::LZ4_RAW,
];

/// One file.
struct Shard {
    path: PathBuf,
    reader: SerializedFileReader<File>,
}

/// One row group, and the number of its first row.
#[derive(Debug, Clone, Copy)]
struct Group {
    shard: usize,
    index: usize,
    first: usize,
    rows: usize,
}

/// The column of a field.
#[derive(Debug, Clone)]
struct Leaf {
    kind: Kind,
    /// The path of the column, e.g. `image.bytes`.
    path: String,
    dtype: DataType,
    /// Whether each row holds a list.
    listed: bool,
}

/// All files.
struct Table {
    shards: Arc<Vec<Shard>>,
    groups: Arc<Vec<Group>>,
    fields: BTreeMap<String, Leaf>,
    given: PathBuf,
}

fn open(files: &Files, _: &DataOptions) -> Result<Box<dyn Source>> {
    Ok(Box::new(table(files)?))
}

fn table(files: &Files) -> Result<Table> {
    let (mut shards, mut groups) = (Vec::new(), Vec::new());
    let mut rows = 0usize;
    for path in &files.all {
        let reader = guarded(path, || {
            SerializedFileReader::new(opened(path)?).map_err(|error| damaged(path, error))
        })?;
        for (index, group) in reader.metadata().row_groups().iter().enumerate() {
            let own = usize::try_from(group.num_rows()).unwrap_or(usize::MAX);
            groups.push(Group { shard: shards.len(), index, first: rows, rows: own });
            rows = rows.saturating_add(own);
            if rows > MOST_ROWS {
                let message = format!("{} claims more rows than are read", path.display());
                return Err(Error::new(ErrorKind::Calibration, message)
                    .hint(format!("give at most {MOST_ROWS}")));
            }
        }
        shards.push(Shard { path: path.clone(), reader });
    }
    let fields = shards.first().map(fields).unwrap_or_default();
    let given = files.given.clone();
    Ok(Table { shards: Arc::new(shards), groups: Arc::new(groups), fields, given })
}

/// The fields of a file: columns of numbers, bytes or words, and Hugging Face's pictures and sounds,
/// which are structures with a column `bytes`.
fn fields(shard: &Shard) -> BTreeMap<String, Leaf> {
    let schema = shard.reader.metadata().file_metadata().schema_descr();
    let mut fields = BTreeMap::new();
    for (place, column) in schema.columns().iter().enumerate() {
        let root = schema.get_column_root(place);
        let parts = column.path().parts();
        let in_structure = root.is_group() && parts.get(1).is_some_and(|part| part == "bytes");
        let listed = column.max_rep_level() > 0;
        if root.is_group() && !in_structure && !listed {
            continue;
        }
        let Some((kind, dtype)) = kind(column, listed) else { continue };
        let path = column.path().string();
        fields.entry(root.name().to_owned()).or_insert(Leaf { kind, path, dtype, listed });
    }
    fields
}

fn kind(column: &ColumnDescriptor, listed: bool) -> Option<(Kind, DataType)> {
    let converted = column.converted_type();
    let unsigned = |bits: i8| column.logical_type_ref() == Some(&LogicalType::integer(bits, false));
    let words = converted == ConvertedType::UTF8
        || matches!(column.logical_type_ref(), Some(LogicalType::String | LogicalType::Enum));
    Some(match column.physical_type() {
        Physical::BOOLEAN => (Kind::Array, DataType::Bool),
        Physical::INT32 if converted == ConvertedType::UINT_8 || unsigned(8) => {
            (Kind::Array, DataType::U8)
        }
        Physical::INT32 if converted == ConvertedType::UINT_32 || unsigned(32) => {
            (Kind::Array, DataType::I64)
        }
        Physical::INT32 => (Kind::Array, DataType::I32),
        Physical::INT64 => (Kind::Array, DataType::I64),
        Physical::FLOAT => (Kind::Array, DataType::F32),
        Physical::DOUBLE => (Kind::Array, DataType::F64),
        Physical::BYTE_ARRAY if !listed && words => (Kind::Text, DataType::U8),
        Physical::BYTE_ARRAY if !listed => (Kind::Media, DataType::U8),
        _ => return None,
    })
}

impl Table {
    fn column(&self, field: &str) -> Result<Column> {
        let leaf = self.fields.get(field);
        let leaf = leaf.ok_or_else(|| wrong_array(&self.given, field, "is not there"))?;
        let (shards, groups) = (Arc::clone(&self.shards), Arc::clone(&self.groups));
        Ok(Column { shards, groups, leaf: leaf.clone(), field: field.to_owned() })
    }
}

impl Source for Table {
    fn fields(&self) -> Vec<Field> {
        let field = |(name, leaf): (&String, &Leaf)| Field { name: name.clone(), kind: leaf.kind };
        self.fields.iter().map(field).collect()
    }

    fn read(&mut self, field: &str) -> Result<Content> {
        let column = self.column(field)?;
        Ok(match column.leaf.kind {
            Kind::Text => Content::Text(words(&column)?),
            Kind::Array if !column.leaf.listed => Content::Array(Arc::new(flat(&column)?)),
            Kind::Array => Content::Array(Arc::new(Numbers::new(Records::new(column)?)?)),
            Kind::Media => Content::Media(Arc::new(Records::new(column)?)),
        })
    }
}

/// One column of all files.
struct Column {
    shards: Arc<Vec<Shard>>,
    groups: Arc<Vec<Group>>,
    leaf: Leaf,
    field: String,
}

impl Column {
    fn rows(&self) -> usize {
        self.groups.last().map_or(0, |group| group.first + group.rows)
    }

    /// The reader of one group.
    fn reader(&self, group: Group) -> Result<parquet::column::reader::ColumnReader> {
        let missing = || self.wrong(group, "is not there");
        let shard = self.shards.get(group.shard).ok_or_else(missing)?;
        let schema = shard.reader.metadata().file_metadata().schema_descr();
        let own = |column: &Arc<ColumnDescriptor>| {
            column.path().string() == self.leaf.path
                && kind(column, self.leaf.listed) == Some((self.leaf.kind, self.leaf.dtype))
        };
        let place = schema.columns().iter().position(own).ok_or_else(missing)?;
        check_compression(shard, group, place)?;
        guarded(&shard.path, || {
            let group = shard.reader.get_row_group(group.index);
            group
                .and_then(|group| group.get_column_reader(place))
                .map_err(|e| damaged(&shard.path, e))
        })
    }

    /// An error about the column in one file.
    fn wrong(&self, group: Group, clause: &str) -> Error {
        wrong_array(self.path(group), &self.field, clause)
    }

    fn path(&self, group: Group) -> &Path {
        self.shards.get(group.shard).map_or(Path::new(""), |shard| shard.path.as_path())
    }
}

/// Checks that a column is compressed as columns are read.
///
/// # Errors
/// [`ErrorKind::Calibration`] where it is not.
fn check_compression(shard: &Shard, group: Group, place: usize) -> Result<()> {
    let groups = shard.reader.metadata().row_groups();
    let column = groups.get(group.index).and_then(|group| group.columns().get(place));
    match column.map(|column| column.compression_codec()) {
        Some(codec) if !READ.contains(&codec) => {
            let path = shard.path.display();
            let message = format!("{path} is compressed by {codec:?}, which is not read");
            Err(Error::new(ErrorKind::Calibration, message).hint(
                "write it again, compressed by ZSTD: pyarrow.parquet.write_table(table, file, compression='zstd')",
            ))
        }
        _ => Ok(()),
    }
}

/// Runs a step of the reader, and turns a panic into an error about the file.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    shielded("reading Parquet", work).map_err(|error| match error.kind() {
        ErrorKind::Backend => damaged(path, error),
        _ => error,
    })
}

fn damaged(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let message = format!("{} is no whole file of Parquet", path.display());
    Error::new(ErrorKind::Calibration, message).because(error)
}

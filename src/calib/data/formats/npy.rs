//! Arrays in NumPy's file format.
//!
//! This reader replaces a crate, because calibration files are not trusted: memory must not be
//! allocated for sizes that only the header claims, and nested literals must not exhaust the stack. It
//! also reads half precision.

use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::super::choice::Field;
use super::super::file::opened;
use super::super::media::Anywhere;
use super::super::rows::Rows;
use super::super::stored::{Element, Stored, array_of};
use super::{Content, Files, Format, Source, is_per_sample};
use crate::calib::memory;
use crate::error::{Error, ErrorKind, Result as Outcome};
use crate::ir::DataType;
use crate::runtime::HostArray;

pub(super) const FORMAT: Format =
    Format { name: "a .npy file", suffixes: &["npy"], sharded: false, open };

const MAGIC: &[u8] = b"\x93NUMPY";

/// Limit of the header's bytes. NumPy writes 128, and refuses more than 10 000.
const LONGEST_HEADER: usize = 1 << 16;

/// Limit of memory that is reserved before any data are read.
const FIRST_RESERVE: usize = 1 << 24;

/// Checks that an array of `length` bytes, which is read as a whole, fits into `room` bytes of memory: a packed one
/// may be a thousand times as long as its file. The error is a clause about the array.
fn check_room(length: usize, room: Option<u64>) -> Result<(), String> {
    // The bytes, and the numbers that they become.
    let needed = 2 * length as u128;
    match room.filter(|room| needed > u128::from(*room)) {
        None => Ok(()),
        Some(room) => Err(format!(
            "takes {} MiB of memory where {} MiB are free; keep it in a .npy file in C order, whose samples are read \
             when they are needed",
            needed >> 20,
            room >> 20
        )),
    }
}

/// Reads one array of `length` bytes, header included. The error is a clause about the array.
pub(super) fn read(mut reader: impl Read, length: u64) -> Result<HostArray, String> {
    let (header, start) = Header::read(&mut reader)?;
    header.array(reader, length.saturating_sub(start as u64))
}

/// Reads one array of numbers, or one word per sample. The error is a clause about the array.
pub(super) fn content(mut reader: impl Read, length: u64) -> Result<Content, String> {
    let (header, start) = Header::read(&mut reader)?;
    header.content(reader, length.saturating_sub(start as u64))
}

/// [`content`] of labels. Masks and images under their name may be larger than the memory, so an array with several
/// numbers per sample is not read.
pub(super) fn labels(mut reader: impl Read, length: u64) -> Result<Content, String> {
    let (header, start) = Header::read(&mut reader)?;
    if header.word().is_none() && !is_per_sample(&header.shape) {
        let dtype = header.element()?.dtype();
        return Ok(Content::Array(Arc::new(Unread { dtype, shape: header.shape })));
    }
    header.content(reader, length.saturating_sub(start as u64))
}

/// An array of which only the header was read.
#[derive(Debug)]
struct Unread {
    dtype: DataType,
    shape: Vec<usize>,
}

impl Rows for Unread {
    fn dtype(&self) -> DataType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn rows(&self, _: &[usize]) -> Outcome<HostArray> {
        Err(Error::new(ErrorKind::Calibration, "an array of no use was not read"))
    }
}

/// A file of one array.
struct File {
    name: String,
    array: Content,
}

/// Opens a file; samples are read when they are needed. An array in Fortran order is read as a whole,
/// since its samples are not contiguous.
fn open(files: &Files, _: &super::super::options::DataOptions) -> Outcome<Box<dyn Source>> {
    let path = files.first();
    let wrong =
        |clause: String| Error::new(ErrorKind::Calibration, format!("{} {clause}", path.display()));
    let mut reader = BufReader::new(opened(path)?);
    let (header, start) = Header::read(&mut reader).map_err(wrong)?;
    let file = Anywhere::open(path)?;
    let array = if header.fortran_order {
        let found = file.length.saturating_sub(start as u64);
        let array = header.array(reader, found).map_err(wrong)?;
        Content::Array(Arc::new(array))
    } else {
        let end = file.length;
        let (element, big_endian) = (header.element().map_err(wrong)?, header.is_big_endian());
        let shape = header.shape;
        let stored = Stored::new(Arc::new(file), start as u64..end, element, big_endian, shape);
        Content::Array(Arc::new(stored.map_err(wrong)?))
    };
    Ok(Box::new(File { name: name_of(path), array }))
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

impl Source for File {
    fn fields(&self) -> Vec<Field> {
        vec![Field::array(&self.name)]
    }

    fn read(&mut self, _: &str) -> Outcome<Content> {
        Ok(self.array.clone())
    }
}

struct Header {
    /// The name of the element type, with the order of its bytes.
    name: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// Names of element types.
const NAMES: [(&str, Element); 13] = [
    ("b1", Element::Bool),
    ("?", Element::Bool),
    ("u1", Element::U8),
    ("u2", Element::U16),
    ("u4", Element::U32),
    ("u8", Element::U64),
    ("i1", Element::I8),
    ("i2", Element::I16),
    ("i4", Element::I32),
    ("i8", Element::I64),
    ("f2", Element::F16),
    ("f4", Element::F32),
    ("f8", Element::F64),
];

impl Header {
    /// The header and its length in bytes.
    fn read(reader: &mut impl Read) -> Result<(Header, usize), String> {
        let mut take = |length: usize| {
            let mut bytes = vec![0; length];
            reader.read_exact(&mut bytes).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => "ends within its header".to_string(),
                _ => format!("cannot be read ({error})"),
            })?;
            Ok::<_, String>(bytes)
        };
        if take(MAGIC.len())? != MAGIC {
            return Err("is not in NumPy's format".to_string());
        }
        let version = take(2)?;
        let length_bytes = match version.first() {
            Some(1) => 2,
            Some(2 | 3) => 4,
            _ => return Err(format!("has the unknown format version {version:?}")),
        };
        let length = take(length_bytes)?;
        let length = length.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if length > LONGEST_HEADER {
            return Err(format!("claims a header of {length} bytes"));
        }
        let text = String::from_utf8(take(length)?)
            .map_err(|_| "has a header that is not text".to_string())?;
        Ok((Header::parse(&text)?, MAGIC.len() + 2 + length_bytes + length))
    }

    fn is_big_endian(&self) -> bool {
        self.name.starts_with('>')
    }

    /// The name of the element type without the order of its bytes.
    fn bare(&self) -> &str {
        self.name.trim_start_matches(['<', '>', '|', '='])
    }

    fn element(&self) -> Result<Element, String> {
        let element = NAMES.iter().find(|(known, _)| *known == self.bare());
        element.map(|(_, element)| *element).ok_or_else(|| {
            let name = &self.name;
            format!("has elements of type '{name}', which are neither integers, floats nor bools")
        })
    }

    /// If elements are words: the number of their letters, and the bytes of a letter.
    fn word(&self) -> Option<(usize, usize)> {
        let bare = self.bare();
        let unicode = bare.strip_prefix('U').map(|letters| (letters, 4));
        let (letters, bytes) = unicode.or_else(|| Some((bare.strip_prefix('S')?, 1)))?;
        Some((letters.parse().ok().filter(|letters| *letters > 0)?, bytes))
    }

    /// The numbers or words behind the header, in `found` bytes.
    fn content(&self, reader: impl Read, found: u64) -> Result<Content, String> {
        match self.word() {
            Some(word) => self.words(reader, found, word).map(Content::Text),
            None => Ok(Content::Array(Arc::new(self.array(reader, found)?))),
        }
    }

    /// The array behind the header, in `found` bytes.
    fn array(&self, reader: impl Read, found: u64) -> Result<HostArray, String> {
        let element = self.element()?;
        let data = self.data(reader, found, element.size(), element.size())?;
        array_of(element, &self.shape, self.fortran_order, data)
    }

    /// The words behind the header, in `found` bytes.
    fn words(
        &self,
        reader: impl Read,
        found: u64,
        (letters, bytes): (usize, usize),
    ) -> Result<Vec<String>, String> {
        if !is_per_sample(&self.shape) || self.shape.is_empty() {
            return Err("has words, but not one per sample".to_owned());
        }
        let length = letters.checked_mul(bytes).ok_or("has words without end")?;
        let data = self.data(reader, found, length, bytes)?;
        let code =
            |letter: &[u8]| letter.iter().rev().fold(0, |code, byte| code << 8 | u32::from(*byte));
        let word = |word: &[u8]| -> Option<String> {
            let codes = word.chunks_exact(bytes).map(code).take_while(|code| *code != 0);
            codes.map(char::from_u32).collect()
        };
        let words: Option<Vec<String>> = data.chunks_exact(length).map(word).collect();
        words.ok_or_else(|| "has words of letters that are not Unicode".to_owned())
    }

    /// The bytes behind the header, of which there are `found`: elements of `size` bytes, which consist of
    /// little-endian numbers of `unit` bytes.
    fn data(
        &self,
        mut reader: impl Read,
        found: u64,
        size: usize,
        unit: usize,
    ) -> Result<Vec<u8>, String> {
        let shape = &self.shape;
        let length = shape
            .iter()
            .try_fold(size, |product, size| product.checked_mul(*size))
            .ok_or_else(|| format!("claims the impossible shape {shape:?}"))?;
        if length as u64 != found {
            return Err(format!(
                "has {found} bytes of data where its shape {shape:?} takes {length}"
            ));
        }
        if length > FIRST_RESERVE {
            check_room(length, memory::room())?;
        }
        let mut data = Vec::with_capacity(length.min(FIRST_RESERVE));
        let outcome = reader.by_ref().take(found).read_to_end(&mut data);
        // Reading past the end makes an archive verify its checksum.
        let outcome = outcome.and_then(|_| reader.read(&mut [0]));
        outcome.map_err(|error| format!("cannot be read ({error})"))?;
        if data.len() != length {
            return Err(format!("ends after {} of {length} bytes", data.len()));
        }
        if self.is_big_endian() {
            data.chunks_exact_mut(unit).for_each(<[u8]>::reverse);
        }
        Ok(data)
    }

    fn parse(text: &str) -> Result<Header, String> {
        let entry = |key: &str| {
            [format!("'{key}'"), format!("\"{key}\"")]
                .iter()
                .find_map(|quoted| text.split_once(quoted.as_str()))
                .and_then(|(_, rest)| rest.trim_start().strip_prefix(':'))
                .map(str::trim_start)
                .ok_or_else(|| format!("has a header without '{key}'"))
        };
        let descr = entry("descr")?;
        let quoted =
            descr.strip_prefix(['\'', '"']).and_then(|rest| rest.split(['\'', '"']).next());
        let name = quoted.ok_or("holds records, not numbers")?;
        let fortran_order = match entry("fortran_order")? {
            rest if rest.starts_with("True") => true,
            rest if rest.starts_with("False") => false,
            _ => return Err("does not say whether it is in Fortran order".to_string()),
        };
        let shape = entry("shape")?
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'))
            .and_then(|(sizes, _)| shape(sizes))
            .ok_or("has a shape that is not a list of sizes")?;
        Ok(Header { name: name.to_owned(), fortran_order, shape })
    }
}

/// The sizes in `10, 28, 28`; a trailing comma and Python 2's long integers are allowed.
fn shape(text: &str) -> Option<Vec<usize>> {
    let sizes = text.trim().trim_end_matches(',');
    if sizes.is_empty() {
        return Some(Vec::new());
    }
    sizes.split(',').map(|size| size.trim().trim_end_matches('L').parse().ok()).collect()
}

#[cfg(test)]
mod tests;

//! Arrays in NumPy's file format.
//!
//! This reader replaces a crate, because calibration files are not trusted: memory must not be
//! allocated for sizes that only the header claims, and nested literals must not exhaust the stack. It
//! also reads half precision.

use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::super::choice::Field;
use super::super::media::Anywhere;
use super::super::stored::{Element, Stored, array_of};
use super::{Content, Files, Format, Source};
use crate::error::{Error, ErrorKind, Result as Outcome};
use crate::runtime::HostArray;

pub(super) const FORMAT: Format =
    Format { name: "a .npy file", suffixes: &["npy"], sharded: false, open };

const MAGIC: &[u8] = b"\x93NUMPY";

/// Limit of the header's bytes. NumPy writes 128, and refuses more than 10 000.
const LONGEST_HEADER: usize = 1 << 16;

/// Limit of memory that is reserved before any data are read.
const FIRST_RESERVE: usize = 1 << 24;

/// Reads one array of `length` bytes, header included. The error is a clause about the array.
pub(super) fn read(mut reader: impl Read, length: u64) -> Result<HostArray, String> {
    let (header, start) = Header::read(&mut reader)?;
    header.array(reader, length.saturating_sub(start as u64))
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
    let opened =
        std::fs::File::open(path).map_err(|e| super::super::complaints::unreadable(path, e))?;
    let mut reader = BufReader::new(opened);
    let (header, start) = Header::read(&mut reader).map_err(wrong)?;
    let file = Anywhere::open(path)?;
    let array = if header.fortran_order {
        let found = file.length.saturating_sub(start as u64);
        let array = header.array(reader, found).map_err(wrong)?;
        Content::Array(Arc::new(array))
    } else {
        let end = file.length;
        let Header { element, big_endian, shape, .. } = header;
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
    element: Element,
    big_endian: bool,
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

    /// The array behind the header, in `found` bytes.
    fn array(&self, mut reader: impl Read, found: u64) -> Result<HostArray, String> {
        let Header { element, shape, .. } = self;
        let length = shape
            .iter()
            .try_fold(element.size(), |product, size| product.checked_mul(*size))
            .ok_or_else(|| format!("claims the impossible shape {shape:?}"))?;
        if length as u64 != found {
            return Err(format!(
                "has {found} bytes of data where its shape {shape:?} takes {length}"
            ));
        }
        let mut data = Vec::with_capacity(length.min(FIRST_RESERVE));
        let outcome = reader.by_ref().take(found).read_to_end(&mut data);
        // Reading past the end makes an archive verify its checksum.
        let outcome = outcome.and_then(|_| reader.read(&mut [0]));
        outcome.map_err(|error| format!("cannot be read ({error})"))?;
        if data.len() != length {
            return Err(format!("ends after {} of {length} bytes", data.len()));
        }
        if self.big_endian {
            data.chunks_exact_mut(element.size()).for_each(<[u8]>::reverse);
        }
        array_of(*element, shape, self.fortran_order, data)
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
        let bare = name.trim_start_matches(['<', '>', '|', '=']);
        let element = NAMES.iter().find(|(known, _)| *known == bare);
        let element = element.map(|(_, element)| *element).ok_or_else(|| {
            format!("has elements of type '{name}', which are neither integers, floats nor bools")
        })?;
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
        Ok(Header { element, big_endian: name.starts_with('>'), fortran_order, shape })
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
mod tests {
    use super::*;
    use half::f16;
    use ndarray::{Array2, ShapeBuilder, array};
    use ndarray_npy::WriteNpyExt;
    use proptest::prelude::*;

    fn bytes_of<T: WriteNpyExt>(array: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        array.write_npy(&mut bytes).unwrap();
        bytes
    }

    fn read_all(bytes: &[u8]) -> Result<HostArray, String> {
        read(bytes, bytes.len() as u64)
    }

    /// A file as NumPy writes it, from the parts of its header.
    fn file(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let text =
            format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn every_type_is_read() {
        assert_eq!(
            read_all(&bytes_of(&array![1u8, 255])).unwrap(),
            array![1u8, 255].into_dyn().into()
        );
        assert_eq!(read_all(&bytes_of(&array![-1i8])).unwrap(), array![-1i8].into_dyn().into());
        assert_eq!(read_all(&bytes_of(&array![-2i16])).unwrap(), array![-2i32].into_dyn().into());
        assert_eq!(read_all(&bytes_of(&array![9u16])).unwrap(), array![9i32].into_dyn().into());
        assert_eq!(read_all(&bytes_of(&array![-3i32])).unwrap(), array![-3i32].into_dyn().into());
        assert_eq!(read_all(&bytes_of(&array![7u32])).unwrap(), array![7i64].into_dyn().into());
        assert_eq!(read_all(&bytes_of(&array![-4i64])).unwrap(), array![-4i64].into_dyn().into());
        assert_eq!(read_all(&bytes_of(&array![5u64])).unwrap(), array![5i64].into_dyn().into());
        assert_eq!(read_all(&bytes_of(&array![0.5f32])).unwrap(), array![0.5f32].into_dyn().into());
        assert_eq!(read_all(&bytes_of(&array![0.1f64])).unwrap(), array![0.1f64].into_dyn().into());
        assert_eq!(read_all(&bytes_of(&array![true])).unwrap(), array![true].into_dyn().into());
        let half = file("'<f2'", "False", "(1,)", &f16::from_f32(1.5).to_le_bytes());
        assert_eq!(read_all(&half).unwrap(), array![f16::from_f32(1.5)].into_dyn().into());
        let big = file("'>i4'", "False", "(1L,)", &(-6i32).to_be_bytes());
        assert_eq!(read_all(&big).unwrap(), array![-6i32].into_dyn().into());
    }

    #[test]
    fn fortran_order_and_scalars_are_read() {
        let columns = Array2::from_shape_vec((2, 3).f(), vec![1, 4, 2, 5, 3, 6]).unwrap();
        let read_back = read_all(&bytes_of(&columns)).unwrap();
        assert_eq!(read_back, array![[1, 2, 3], [4, 5, 6]].into_dyn().into());
        let scalar = file("'<i8'", "False", "()", &3i64.to_le_bytes());
        assert_eq!(read_all(&scalar).unwrap(), ndarray::arr0(3i64).into_dyn().into());
    }

    #[test]
    fn a_file_in_fortran_order_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.npy");
        let columns = Array2::from_shape_vec((2, 3).f(), vec![1, 4, 2, 5, 3, 6]).unwrap();
        std::fs::write(&path, bytes_of(&columns)).unwrap();
        let files = Files { given: path.clone(), all: vec![path] };
        let opened = open(&files, &Default::default()).unwrap().read("f").unwrap();
        let Content::Array(array) = opened else { panic!("no array") };
        assert_eq!(array.rows(&[1, 0]).unwrap(), array![[4, 5, 6], [1, 2, 3]].into_dyn().into());
    }

    #[test]
    fn damage_is_told_in_a_clause() {
        let whole = bytes_of(&array![[1.0f32, 2.0], [3.0, 4.0]]);
        let nested = file("'<f4'", "False", &"(".repeat(5000), &[]);
        let cases: [(Vec<u8>, &str); 9] = [
            (
                whole[..whole.len() - 1].to_vec(),
                "has 15 bytes of data where its shape [2, 2] takes",
            ),
            (whole[..20].to_vec(), "ends within its header"),
            (b"PK\x03\x04 and so on".to_vec(), "is not in NumPy's format"),
            (file("'|O'", "False", "(1,)", &[0; 8]), "elements of type '|O'"),
            (file("[('a', '<f4')]", "False", "(1,)", &[0; 4]), "records"),
            (file("'<f4'", "False", "(99999999999999999999,)", &[]), "not a list of sizes"),
            (file("'<f4'", "False", "(4294967296, 4294967296)", &[]), "impossible shape"),
            (nested, "not a list of sizes"),
            (file("'|b1'", "False", "(1,)", &[2]), "neither 0 nor 1"),
        ];
        for (bytes, expected) in cases {
            let error = read_all(&bytes).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn random_and_damaged_bytes_never_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..300),
            cut in 0usize..200,
            position in 0usize..144,
            flip in 1u8..,
        ) {
            let _ = read_all(&noise);
            let mut framed = MAGIC.to_vec();
            framed.extend(&noise);
            let _ = read_all(&framed);
            let mut damaged = bytes_of(&array![[1i32, 2], [3, 4]]);
            let position = position % damaged.len();
            damaged[position] ^= flip;
            damaged.truncate(damaged.len().saturating_sub(cut));
            let _ = read_all(&damaged);
        }
    }
}

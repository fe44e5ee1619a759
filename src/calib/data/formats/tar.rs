//! WebDataset: tar archives in which neighbouring members form one sample.
//!
//! Members of a sample have the same name up to the first dot. The rest is the field: `0001.jpg` and
//! `0001.cls` are the picture and the class of sample `0001`. Only headers are read before the work
//! begins; members are read when they are needed.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use tar::{Archive, EntryType, PaxExtensions};

use super::super::choice::{Field, Kind};
use super::super::file::opened;
use super::super::media::{Anywhere, LARGEST, Media, too_large};
use super::super::options::DataOptions;
use super::super::rows::Rows;
use super::folder::{PICTURES, SOUNDS};
use super::npy;
use super::{Content, Files, Format, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::DataType;
use crate::runtime::HostArray;

pub(super) const FORMAT: Format =
    Format { name: "a .tar of WebDataset", suffixes: &["tar"], sharded: true, open };

/// Bytes of the units in which archives are written.
const BLOCK: u64 = 512;

/// Limit of a name's bytes.
const LONGEST_NAME: u64 = 1 << 16;

/// Limit of the bytes of a text label.
const LONGEST_TEXT: u64 = 1 << 12;

/// The place of a member.
#[derive(Debug, Clone, Copy)]
struct Place {
    shard: usize,
    offset: u64,
    size: u64,
}

/// Samples of all archives.
struct Samples {
    shards: Vec<Arc<Anywhere>>,
    /// The fields, in order of first occurrence.
    fields: Vec<String>,
    /// Name and members of each sample; each member with the number of its field.
    samples: Vec<(String, Vec<(usize, Place)>)>,
}

fn open(files: &Files, _: &DataOptions) -> Result<Box<dyn Source>> {
    let mut all = Samples { shards: Vec::new(), fields: Vec::new(), samples: Vec::new() };
    for path in &files.all {
        all.add(path)?;
    }
    if all.samples.is_empty() {
        let message = format!("{} holds no samples", files.given.display());
        return Err(Error::new(ErrorKind::Calibration, message)
            .hint("name the members of a sample alike up to a dot, as 0001.jpg and 0001.cls"));
    }
    Ok(Box::new(all))
}

impl Samples {
    /// Adds the members of one archive.
    fn add(&mut self, path: &Path) -> Result<()> {
        let damaged = |error: std::io::Error| {
            let message = format!("{} is not a whole .tar archive", path.display());
            Error::new(ErrorKind::Calibration, message).because(error)
        };
        let ends = |place: &str| damaged(std::io::Error::other(format!("it ends {place}")));
        let file = Anywhere::open(path)?;
        let (shard, length) = (self.shards.len(), file.length);
        self.shards.push(Arc::new(file));
        let mut archive = Archive::new(opened(path)?);
        let (mut long, mut open_sample, mut behind) = (None, false, 0);
        // Raw entries, since the crate would read long names of any length.
        for entry in archive.entries_with_seek().map_err(damaged)?.raw(true) {
            let mut entry = entry.map_err(damaged)?;
            let place = Place { shard, offset: entry.raw_file_position(), size: entry.size() };
            if place.offset.checked_add(place.size).is_none_or(|end| end > length) {
                return Err(ends("within a member"));
            }
            behind = (place.offset + place.size).next_multiple_of(BLOCK);
            let kind = entry.header().entry_type();
            if matches!(kind, EntryType::GNULongName | EntryType::XHeader) {
                if place.size > LONGEST_NAME {
                    return Err(damaged(std::io::Error::other("it has an endless name")));
                }
                let mut bytes = Vec::new();
                entry.by_ref().take(LONGEST_NAME).read_to_end(&mut bytes).map_err(damaged)?;
                long = long_name(kind, &bytes).or(long);
                continue;
            }
            let name = long.take().unwrap_or_else(|| entry.path_bytes().into_owned());
            if kind.is_file() {
                let name = String::from_utf8_lossy(&name).into_owned();
                open_sample = self.member(path, &name, place, open_sample)?;
            }
        }
        // A block of zeros ends an archive; without it, members may be missing.
        match behind.saturating_add(BLOCK) > length {
            true => Err(ends("without the mark of its end, so members may be missing")),
            false => Ok(()),
        }
    }

    /// Adds a member to the last sample or to a new one. Returns whether further members may join that
    /// sample.
    fn member(&mut self, path: &Path, name: &str, place: Place, open: bool) -> Result<bool> {
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
        let Some((key, field)) = file.split_once('.').filter(|(key, _)| !key.is_empty()) else {
            return Ok(open);
        };
        let (key, field) = (format!("{folder}/{key}"), field.to_ascii_lowercase());
        let field = if field == "jpeg" { "jpg".to_owned() } else { field };
        let number = self.fields.iter().position(|own| *own == field).unwrap_or_else(|| {
            self.fields.push(field.clone());
            self.fields.len() - 1
        });
        match self.samples.last_mut().filter(|(own, _)| open && *own == key) {
            Some((_, members)) if members.iter().any(|(own, _)| *own == number) => {
                let message = format!("{} has '{name}' twice", path.display());
                return Err(Error::new(ErrorKind::Calibration, message));
            }
            Some((_, members)) => members.push((number, place)),
            None => self.samples.push((key, vec![(number, place)])),
        }
        Ok(true)
    }

    /// The members of one field, of which every sample needs one.
    fn members(&self, field: &str) -> Result<Members> {
        let number = self.fields.iter().position(|own| own == field);
        let place = |(key, members): &(String, Vec<(usize, Place)>)| {
            let found = members.iter().find(|(own, _)| Some(*own) == number);
            let name = format!("{}.{field}", key.trim_start_matches('/'));
            match found {
                Some((_, place)) => Ok((name, *place)),
                None => {
                    let message = format!("the archive has no '{name}', which other samples have");
                    Err(Error::new(ErrorKind::Calibration, message))
                }
            }
        };
        let members = self.samples.iter().map(place).collect::<Result<_>>()?;
        Ok(Members { shards: self.shards.clone(), members })
    }
}

/// The long name of the next member, from a member that holds it.
fn long_name(kind: EntryType, bytes: &[u8]) -> Option<Vec<u8>> {
    if kind == EntryType::GNULongName {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        return bytes.get(..end).map(<[u8]>::to_vec);
    }
    let mut paths = PaxExtensions::new(bytes).flatten().filter(|e| e.key_bytes() == b"path");
    paths.next().map(|extension| extension.value_bytes().to_vec())
}

impl Source for Samples {
    fn fields(&self) -> Vec<Field> {
        let kind = |field: &str| match field.rsplit('.').next() {
            Some("npy") => Kind::Array,
            Some(suffix) if PICTURES.contains(&suffix) || SOUNDS.contains(&suffix) => Kind::Media,
            _ => Kind::Text,
        };
        let fields = self.fields.iter();
        fields.map(|name| Field { name: name.clone(), kind: kind(name) }).collect()
    }

    fn read(&mut self, field: &str) -> Result<Content> {
        let members = self.members(field)?;
        let fields = self.fields();
        match fields.iter().find(|own| own.name == field).map(|own| own.kind) {
            Some(Kind::Media) => Ok(Content::Media(Arc::new(members))),
            Some(Kind::Array) => Ok(Content::Array(Arc::new(Arrays::new(members)?))),
            _ => members.texts().map(Content::Text),
        }
    }
}

/// One member of each sample, with its name.
#[derive(Debug)]
struct Members {
    shards: Vec<Arc<Anywhere>>,
    members: Vec<(String, Place)>,
}

impl Members {
    fn read(&self, row: usize, most: u64) -> Result<Vec<u8>> {
        let Some((name, place)) = self.members.get(row) else { return Ok(Vec::new()) };
        if place.size > most {
            return Err(too_large(name));
        }
        let mut bytes = vec![0; place.size as usize];
        if let Some(shard) = self.shards.get(place.shard) {
            shard.read(place.offset, &mut bytes)?;
        }
        Ok(bytes)
    }

    fn texts(&self) -> Result<Vec<String>> {
        let text = |row: usize| {
            let bytes = self.read(row, LONGEST_TEXT)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        (0..self.members.len()).map(text).collect()
    }
}

impl Media for Members {
    fn count(&self) -> usize {
        self.members.len()
    }

    fn name(&self, row: usize) -> String {
        self.members.get(row).map(|(name, _)| name.clone()).unwrap_or_default()
    }

    fn bytes(&self, rows: &[usize]) -> Result<Vec<Vec<u8>>> {
        rows.iter().map(|row| self.read(*row, LARGEST)).collect()
    }
}

/// Members that are arrays of one shape.
#[derive(Debug)]
struct Arrays {
    members: Members,
    dtype: DataType,
    shape: Vec<usize>,
}

impl Arrays {
    fn new(members: Members) -> Result<Self> {
        let first = array(&members, 0)?;
        let mut shape = vec![members.count()];
        shape.extend(first.shape());
        Ok(Arrays { dtype: first.dtype(), shape, members })
    }
}

fn array(members: &Members, row: usize) -> Result<HostArray> {
    let bytes = members.read(row, LARGEST)?;
    npy::read(bytes.as_slice(), bytes.len() as u64).map_err(|clause| {
        Error::new(ErrorKind::Calibration, format!("{} {clause}", members.name(row)))
    })
}

impl Rows for Arrays {
    fn dtype(&self) -> DataType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn rows(&self, rows: &[usize]) -> Result<HostArray> {
        let mut one = self.shape.clone();
        one.iter_mut().take(1).for_each(|count| *count = 1);
        let sample = |row: &usize| {
            let array = array(&self.members, *row)?;
            let fits = array.dtype() == self.dtype && Some(array.shape()) == self.shape.get(1..);
            let array = if fits { array.reshaped(&one) } else { None };
            array.ok_or_else(|| {
                let (name, first) = (self.members.name(*row), self.members.name(0));
                let message = format!("{name} is of another shape or type than {first}");
                Error::new(ErrorKind::Calibration, message)
            })
        };
        HostArray::stack(&rows.iter().map(sample).collect::<Result<Vec<_>>>()?)
    }

    fn is_scanned(&self) -> bool {
        false
    }
}

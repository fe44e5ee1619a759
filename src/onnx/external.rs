//! Reading tensors kept in files beside the model.
//!
//! A model names these files, and a model may be hostile: only files inside the model's own folder
//! are opened, symbolic links followed.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use super::proto::tensor_proto::DataLocation;
use super::proto::{AttributeProto, GraphProto, NodeProto, StringStringEntryProto, TensorProto};
use super::tensor;
use crate::error::{Error, ErrorKind, Result};
use crate::staging::folder_of;

/// The key under which a tensor names its file.
pub(super) const LOCATION: &str = "location";

/// The external data files of one model. Only ranges of tensors are read, each once.
#[derive(Default)]
pub(super) struct ExternalData {
    folder: Option<PathBuf>,
    /// Canonical folders that the files must lie in.
    roots: Vec<PathBuf>,
    files: HashMap<PathBuf, OpenFile>,
}

impl ExternalData {
    /// For a model in memory: every reference is an error.
    pub(super) fn none() -> Self {
        ExternalData::default()
    }

    /// For a model in `folder`.
    pub(super) fn in_folder(folder: &Path) -> Self {
        ExternalData {
            folder: Some(folder.to_owned()),
            roots: folder.canonicalize().into_iter().collect(),
            ..ExternalData::default()
        }
    }

    /// For the model file `path`. Download caches keep models as links into a folder of blobs, data
    /// files too: they may lie where the model's file really is.
    pub(super) fn beside(path: &Path) -> Self {
        let mut this = Self::in_folder(folder_of(path));
        let real = path.canonicalize().ok();
        this.roots.extend(real.map(|real| folder_of(&real).to_owned()));
        this
    }

    /// The bytes that `entries` point to; `needed` is their number, if the tensor's shape implies it.
    pub(super) fn slice(
        &mut self,
        entries: &[StringStringEntryProto],
        needed: Option<u64>,
    ) -> Result<Bytes> {
        let entry = |key| entries.iter().find(|e| e.key() == key).map(|e| e.value());
        let location = entry(LOCATION).unwrap_or_default();
        let number = |key| entry(key).map(|text| parse(key, text)).transpose();
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?;
        let path = self.resolve(location)?;
        let size = fs::metadata(&path).map_err(|e| unreadable(location, e))?.len();
        let end = match length.or(needed) {
            Some(length) => offset.checked_add(length),
            None => Some(size),
        };
        match end {
            Some(end) if offset <= end && end <= size => {
                self.range(path, offset, end).map_err(|e| unreadable(location, e))
            }
            _ => Err(format_error(format!(
                "a tensor reaches beyond the end of the external data file '{location}' \
                 ({size} bytes)"
            ))
            .hint("download the model and its data file again")),
        }
    }

    /// The bytes from `start` to `end` of a file.
    fn range(&mut self, path: PathBuf, start: u64, end: u64) -> io::Result<Bytes> {
        let file = match self.files.entry(path) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(free) => {
                let opened = OpenFile::open(free.key())?;
                free.insert(opened)
            }
        };
        file.range(start, end)
    }

    /// The real path of a data file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where there is none, [`ErrorKind::Format`] for a path outside the model's folder.
    pub(super) fn resolve(&self, location: &str) -> Result<PathBuf> {
        let Some(folder) = &self.folder else {
            let message = "tensors are kept in an external data file, but the model has no folder";
            return Err(format_error(message).hint("load the model from its file"));
        };
        let relative = Path::new(location);
        let plain = |c| matches!(c, Component::Normal(_) | Component::CurDir);
        let outside = || {
            format_error(format!(
                "the external data file '{location}' lies outside the model's folder"
            ))
            .hint("put it beside the model, and name it there")
        };
        if location.is_empty() || !relative.components().all(plain) {
            return Err(outside());
        }
        let path = folder.join(relative).canonicalize().map_err(|e| unreadable(location, e))?;
        if !self.roots.iter().any(|root| path.starts_with(root)) {
            return Err(outside());
        }
        if !path.is_file() {
            return Err(format_error(format!("the external data '{location}' is not a file"))
                .hint("download the model and its data file again"));
        }
        Ok(path)
    }

    /// Reads the external tensors of an attribute that stays encoded, and stores their elements inside
    /// it.
    pub(super) fn inline_attribute(&mut self, attribute: &mut AttributeProto) -> Result<()> {
        let sparse = attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors);
        let parts = sparse.flat_map(|s| s.values.iter_mut().chain(&mut s.indices));
        for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors).chain(parts) {
            self.inline(tensor)?;
        }
        attribute.g.iter_mut().chain(&mut attribute.graphs).try_for_each(|g| self.inline_graph(g))
    }

    /// Does the same for the nodes of a function that stays encoded.
    pub(super) fn inline_nodes(&mut self, nodes: &mut [NodeProto]) -> Result<()> {
        let mut attributes = nodes.iter_mut().flat_map(|node| &mut node.attribute);
        attributes.try_for_each(|attribute| self.inline_attribute(attribute))
    }

    fn inline_graph(&mut self, graph: &mut GraphProto) -> Result<()> {
        graph.initializer.iter_mut().try_for_each(|tensor| self.inline(tensor))?;
        self.inline_nodes(&mut graph.node)
    }

    fn inline(&mut self, proto: &mut TensorProto) -> Result<()> {
        if proto.data_location() == DataLocation::External {
            let name = proto.name().to_owned();
            *proto = tensor::encode(&name, &tensor::decode(std::mem::take(proto), self)?)?;
        }
        Ok(())
    }
}

/// An open file, and the parts read so far.
struct OpenFile {
    file: File,
    size: u64,
    /// Bytes read so far.
    read: u64,
    /// Parts of the file by their offsets.
    parts: BTreeMap<u64, Bytes>,
}

impl OpenFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(OpenFile { file, size, read: 0, parts: BTreeMap::new() })
    }

    /// The bytes from `start` to `end`. If overlapping parts would add up to more than the file, reads
    /// the whole file and gives slices of it.
    fn range(&mut self, start: u64, end: u64) -> io::Result<Bytes> {
        if let Some(known) = self.known(start, end) {
            return Ok(known);
        }
        if self.read.saturating_add(end - start) > self.size {
            self.parts.clear();
            self.read_part(0, self.size)?;
        } else {
            self.read_part(start, end)?;
        }
        self.known(start, end).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn known(&self, start: u64, end: u64) -> Option<Bytes> {
        let (first, part) = self.parts.range(..=start).next_back()?;
        let (from, to) = (usize::try_from(start - first).ok()?, usize::try_from(end - first).ok()?);
        (to <= part.len()).then(|| part.slice(from..to))
    }

    fn read_part(&mut self, start: u64, end: u64) -> io::Result<()> {
        let length = end - start;
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        let mut bytes = Vec::new();
        let needed = usize::try_from(length).map_err(|_| too_large())?;
        bytes.try_reserve_exact(needed).map_err(|_| too_large())?;
        self.file.seek(SeekFrom::Start(start))?;
        Read::by_ref(&mut self.file).take(length).read_to_end(&mut bytes)?;
        self.read += length;
        self.parts.insert(start, bytes.into());
        Ok(())
    }
}

/// A number as runtimes read it: digits, without a sign.
fn parse(key: &str, text: &str) -> Result<u64> {
    let wrong = || format_error(format!("external data has the {key} '{text}'"));
    if text.starts_with('+') {
        return Err(wrong().because("invalid digit found in string"));
    }
    text.parse::<u64>().map_err(|e| wrong().because(e))
}

fn format_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Format, message)
}

fn unreadable(location: &str, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot read the external data file '{location}'"))
        .because(cause)
        .hint("keep it beside the model")
}

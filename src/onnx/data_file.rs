//! Laying out an external data file.

use std::collections::HashMap;
use std::io::{self, Write};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::external::LOCATION;
use super::proto::tensor_proto::DataLocation;
use super::proto::{GraphProto, ModelProto, TensorProto};
use super::write::entry;
use crate::naming::digits;

/// Runtimes map tensors into memory by whole pages.
const PAGE: u64 = 4096;
/// Smaller tensors stand on cache lines: a page for each bias would be waste.
const LINE: u64 = 64;

/// The contents of one external data file. Tensors with the same bytes are stored once.
#[derive(Default)]
pub(super) struct DataFile {
    parts: Vec<(u64, Bytes)>,
    offsets: HashMap<Bytes, u64>,
    len: u64,
}

impl DataFile {
    /// Moves the initializers of at least `threshold` bytes out of `model` into this file. [`refer`] then
    /// enters the file's name into the model.
    pub(super) fn take(&mut self, model: &mut ModelProto, threshold: usize) {
        if let Some(graph) = &mut model.graph {
            self.take_graph(graph, threshold);
        }
    }

    /// A digest of sixteen hexadecimal digits. Files with different contents have different names, so
    /// no model reads another model's file.
    pub(super) fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (offset, bytes) in &self.parts {
            hasher.update(offset.to_le_bytes());
            hasher.update(bytes);
        }
        digits(&hasher.finalize()[..8])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Writes the file, gaps as zeros.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut at = 0;
        for (offset, bytes) in &self.parts {
            io::copy(&mut io::Read::take(io::repeat(0), offset - at), out)?;
            out.write_all(bytes)?;
            at = offset + bytes.len() as u64;
        }
        Ok(())
    }

    fn take_graph(&mut self, graph: &mut GraphProto, threshold: usize) {
        for tensor in &mut graph.initializer {
            if tensor.raw_data.as_ref().is_some_and(|raw| raw.len() >= threshold.max(1)) {
                self.take_tensor(tensor);
            }
        }
        let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
        for sub in attributes.filter_map(|attribute| attribute.g.as_mut()) {
            self.take_graph(sub, threshold);
        }
    }

    fn take_tensor(&mut self, tensor: &mut TensorProto) {
        let offset = self.place(tensor.raw_data.clone().unwrap_or_default());
        move_out(tensor, "", offset);
    }

    fn place(&mut self, bytes: Bytes) -> u64 {
        if let Some(&offset) = self.offsets.get(&bytes) {
            return offset;
        }
        let size = bytes.len() as u64;
        let offset = self.len.next_multiple_of(if size >= PAGE { PAGE } else { LINE });
        self.offsets.insert(bytes.clone(), offset);
        self.parts.push((offset, bytes));
        self.len = offset + size;
        offset
    }
}

/// Takes the elements out of a tensor, and makes it refer to `offset` in the file `location`.
pub(super) fn move_out(tensor: &mut TensorProto, location: &str, offset: u64) -> Bytes {
    let raw = tensor.raw_data.take().unwrap_or_default();
    tensor.set_data_location(DataLocation::External);
    tensor.external_data = vec![
        entry(LOCATION, location),
        entry("offset", &offset.to_string()),
        entry("length", &raw.len().to_string()),
    ];
    raw
}

/// Whether `text` has the form of a [`DataFile::digest`].
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Names the file of all tensors that were moved out of `graph`.
pub(super) fn refer(graph: &mut GraphProto, location: &str) {
    let moved = graph.initializer.iter_mut().flat_map(|tensor| &mut tensor.external_data);
    for entry in moved.filter(|entry| entry.key() == LOCATION) {
        entry.value = Some(location.to_owned());
    }
    let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    attributes.filter_map(|attribute| attribute.g.as_mut()).for_each(|sub| refer(sub, location));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_are_stored_once_and_large_ones_on_pages() {
        let mut file = DataFile::default();
        let small = Bytes::from(vec![1; 100]);
        let large = Bytes::from(vec![2; 5000]);
        assert_eq!(file.place(small.clone()), 0);
        assert_eq!(file.place(large.clone()), 4096);
        assert_eq!(file.place(Bytes::copy_from_slice(&small)), 0);
        assert_eq!(file.place(Bytes::from(vec![3; 100])), 9152);
        let mut bytes = Vec::new();
        file.write(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 9252);
        assert_eq!(bytes[..100], small);
        assert!(bytes[100..4096].iter().all(|b| *b == 0));
        assert_eq!(bytes[4096..9096], large);
    }
}

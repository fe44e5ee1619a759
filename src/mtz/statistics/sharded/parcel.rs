//! Messages as bytes: a header and blobs, in a safetensors container.

use std::collections::HashMap;
use std::error::Error as StdError;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// Key of the header in the container's metadata.
const KEY: &str = "onnx-zip";

/// A header and blobs as bytes.
///
/// # Errors
/// [`ErrorKind::Memory`] if they are too large.
pub(super) fn pack(header: &impl Serialize, blobs: &[Vec<u8>]) -> Result<Vec<u8>> {
    let header = serde_json::to_string(header).map_err(too_large)?;
    let view = |(number, blob)| -> Result<(String, TensorView<'_>)> {
        let blob: &Vec<u8> = blob;
        let view = TensorView::new(Dtype::U8, vec![blob.len()], blob).map_err(too_large)?;
        Ok((name(number), view))
    };
    let views = blobs.iter().enumerate().map(view).collect::<Result<Vec<_>>>()?;
    serialize(views, Some(HashMap::from([(KEY.to_owned(), header)]))).map_err(too_large)
}

/// A message that was read.
pub(super) struct Parcel<'b, H> {
    pub(super) header: H,
    blobs: SafeTensors<'b>,
}

impl<'b, H: DeserializeOwned> Parcel<'b, H> {
    /// Reads a message; its blobs stay where they are.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the bytes are no such message.
    pub(super) fn of(bytes: &'b [u8]) -> Result<Self> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let header = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
        let header = header.ok_or_else(|| damaged("it has no header"))?;
        let header = serde_json::from_str(header).map_err(damaged)?;
        Ok(Parcel { header, blobs: SafeTensors::deserialize(bytes).map_err(damaged)? })
    }

    /// The blob with a number.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where there is none.
    pub(super) fn blob(&self, number: usize) -> Result<&[u8]> {
        self.blobs.tensor(&name(number)).map(|view| view.data()).map_err(damaged)
    }
}

fn name(number: usize) -> String {
    format!("{number:08}")
}

/// Elements as bytes.
pub(super) fn bytes_of<const N: usize, T: Copy>(
    elements: impl IntoIterator<Item = T>,
    bytes: impl Fn(T) -> [u8; N],
) -> Vec<u8> {
    let mut all = Vec::new();
    elements.into_iter().for_each(|element| all.extend_from_slice(&bytes(element)));
    all
}

/// Exactly `count` elements from bytes.
///
/// # Errors
/// [`ErrorKind::Format`] for another number.
pub(super) fn elements<const N: usize, T>(
    bytes: &[u8],
    count: Option<usize>,
    element: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>> {
    let (chunks, rest) = bytes.as_chunks();
    match Some(chunks.len()) == count && rest.is_empty() {
        true => Ok(chunks.iter().map(|chunk| element(*chunk)).collect()),
        false => Err(damaged("a blob has another length")),
    }
}

pub(super) fn damaged(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Format, "a message between a merge and its workers is damaged")
        .because(cause)
        .hint("run one version of onnx-zip everywhere, and look at the disk between the machines")
}

fn too_large(cause: impl StdError + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Memory, "a message to workers cannot be written").because(cause)
}

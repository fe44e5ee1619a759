//! Files of safetensors: one array per tensor, read when it is needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::{Dtype, Metadata};

use super::super::choice::Field;
use super::super::complaints::wrong_array;
use super::super::media::Anywhere;
use super::super::options::DataOptions;
use super::super::stored::{Element, Stored};
use super::{Content, Files, Format, Source};
use crate::calib::container::header_length;
use crate::error::{Error, ErrorKind, Result};

pub(super) const FORMAT: Format =
    Format { name: "a file of safetensors", suffixes: &["safetensors"], sharded: false, open };

struct Tensors {
    path: PathBuf,
    file: Arc<Anywhere>,
    /// Offset of the first tensor.
    start: u64,
    metadata: Metadata,
}

fn open(files: &Files, _: &DataOptions) -> Result<Box<dyn Source>> {
    let path = files.first();
    let file = Anywhere::open(path)?;
    let (start, metadata) = read_header(path, &file)?;
    let wanted = start.saturating_add(metadata.data_len() as u64);
    if wanted != file.length {
        let found = file.length;
        return Err(damaged(path, &format!("it has {found} bytes where its header says {wanted}")));
    }
    Ok(Box::new(Tensors { path: path.to_owned(), file: Arc::new(file), start, metadata }))
}

/// The offset of the first tensor, and the header.
fn read_header(path: &Path, file: &Anywhere) -> Result<(u64, Metadata)> {
    let mut start = [0; 8];
    if file.length < 8 {
        return Err(damaged(path, "it ends within its header"));
    }
    file.read(0, &mut start)?;
    let length = header_length(start, file.length)
        .map_err(|claimed| damaged(path, &format!("it claims a header of {claimed} bytes")))?;
    let mut bytes = vec![0; length as usize];
    file.read(8, &mut bytes)?;
    let metadata = serde_json::from_slice(&bytes);
    let metadata = metadata.map_err(|error| damaged(path, &error.to_string()))?;
    Ok((length + 8, metadata))
}

fn damaged(path: &Path, why: &str) -> Error {
    let message = format!("{} is no whole file of safetensors", path.display());
    Error::new(ErrorKind::Calibration, message).because(why.to_owned())
}

impl Source for Tensors {
    fn fields(&self) -> Vec<Field> {
        let mut names = self.metadata.offset_keys();
        names.sort();
        names.into_iter().map(Field::array).collect()
    }

    fn read(&mut self, field: &str) -> Result<Content> {
        let wrong = |clause: &str| wrong_array(&self.path, field, clause);
        let info = self.metadata.info(field).ok_or_else(|| wrong("is not there"))?;
        let element = element(info.dtype).ok_or_else(|| {
            wrong(&format!("is {:?}, which is neither integers, floats nor bools", info.dtype))
        })?;
        let (from, to) = info.data_offsets;
        let place = self.start + from as u64..self.start + to as u64;
        let stored = Stored::new(Arc::clone(&self.file), place, element, false, info.shape.clone());
        Ok(Content::Array(Arc::new(stored.map_err(|clause| wrong(&clause))?)))
    }
}

fn element(dtype: Dtype) -> Option<Element> {
    Some(match dtype {
        Dtype::BOOL => Element::Bool,
        Dtype::U8 => Element::U8,
        Dtype::I8 => Element::I8,
        Dtype::U16 => Element::U16,
        Dtype::I16 => Element::I16,
        Dtype::U32 => Element::U32,
        Dtype::I32 => Element::I32,
        Dtype::U64 => Element::U64,
        Dtype::I64 => Element::I64,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::F32 => Element::F32,
        Dtype::F64 => Element::F64,
        _ => return None,
    })
}

//! Named arrays in `.npz` files and in memory.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zip::ZipArchive;
use zip::read::ZipFile;

use super::super::choice::{Field, Kind, LABELS_KEY};
use super::super::complaints::wrong_array;
use super::super::file::opened;
use super::super::options::DataOptions;
use super::super::rows::{Arrays, Rows};
use super::npy;
use super::{Content, Files, Format, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::DataType;
use crate::runtime::{HostArray, Port};

pub(super) const FORMAT: Format =
    Format { name: "a .npz archive", suffixes: &["npz"], sharded: false, open };

/// The name of arrays in memory in messages.
pub(in crate::calib::data) const IN_MEMORY: &str = "the data";

/// An archive; only the needed arrays are read.
struct Archive {
    path: PathBuf,
    zip: ZipArchive<BufReader<File>>,
    entries: Vec<String>,
}

fn open(files: &Files, _: &DataOptions) -> Result<Box<dyn Source>> {
    let path = files.first().to_owned();
    let file = BufReader::new(opened(&path)?);
    let zip = ZipArchive::new(file).map_err(|error| damaged(&path, error))?;
    let entries = zip.file_names().map(str::to_string).collect();
    Ok(Box::new(Archive { path, zip, entries }))
}

fn damaged(path: &Path, error: zip::result::ZipError) -> Error {
    let message = format!("{} is not a whole .npz archive", path.display());
    Error::new(ErrorKind::Calibration, message).because(error)
}

impl Source for Archive {
    fn fields(&self) -> Vec<Field> {
        let names = self.entries.iter().map(|name| name.strip_suffix(".npy").unwrap_or(name));
        names.map(Field::array).collect()
    }

    fn read(&mut self, field: &str) -> Result<Content> {
        let path = self.path.clone();
        let entry = self.entry(field)?;
        let length = entry.size();
        npy::content(entry, length).map_err(|clause| wrong_array(&path, field, &clause))
    }

    fn labels(&mut self, field: &str) -> Result<Content> {
        let path = self.path.clone();
        let entry = self.entry(field)?;
        let length = entry.size();
        npy::labels(entry, length).map_err(|clause| wrong_array(&path, field, &clause))
    }
}

impl Archive {
    /// The packed array of a field.
    fn entry(&mut self, field: &str) -> Result<ZipFile<'_, BufReader<File>>> {
        let entry = format!("{field}.npy");
        let entry = self.entries.iter().find(|e| **e == entry).map_or(field, String::as_str);
        self.zip.by_name(entry).map_err(|error| damaged(&self.path, error))
    }
}

/// Arrays in memory.
pub(in crate::calib::data) struct Memory<'a> {
    arrays: &'a Arrays,
    names: Vec<String>,
}

impl<'a> Memory<'a> {
    /// Arrays with their names, or with those of their inputs.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] if there are more arrays than inputs and labels.
    pub(in crate::calib::data) fn new(arrays: &'a Arrays, ports: &[Port]) -> Result<Self> {
        let in_order = || ports.iter().map(|port| port.name.clone()).chain([LABELS_KEY.to_owned()]);
        let names = match &arrays.names {
            Some(names) => names.clone(),
            None => in_order().take(arrays.arrays.len()).collect(),
        };
        if names.len() < arrays.arrays.len() {
            let (found, inputs) = (arrays.arrays.len(), ports.len());
            let message =
                format!("{IN_MEMORY} has {found} arrays, but the model has {inputs} inputs");
            return Err(Error::new(ErrorKind::Calibration, message)
                .hint("give one array per input, and perhaps one of labels behind them"));
        }
        Ok(Memory { arrays, names })
    }
}

impl Source for Memory<'_> {
    fn fields(&self) -> Vec<Field> {
        let field = |(name, array): (&String, &Arc<dyn Rows>)| match array.dtype() {
            DataType::STRING => Field { name: name.clone(), kind: Kind::Text },
            _ => Field::array(name),
        };
        self.names.iter().zip(&self.arrays.arrays).map(field).collect()
    }

    fn read(&mut self, field: &str) -> Result<Content> {
        let array = self.names.iter().zip(&self.arrays.arrays).find(|(own, _)| *own == field);
        let (_, array) =
            array.ok_or_else(|| wrong_array(Path::new(IN_MEMORY), field, "is not there"))?;
        if array.dtype() != DataType::STRING {
            return Ok(Content::Array(Arc::clone(array)));
        }
        match array.whole()? {
            HostArray::Text(words) => Ok(Content::Text(words.into_iter().collect())),
            other => Ok(Content::Array(Arc::new(other))),
        }
    }
}

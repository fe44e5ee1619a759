//! Formats of samples: one row per format, and their common interface.

mod archive;
mod folder;
mod npy;
#[cfg(feature = "parquet")]
mod parquet;
mod safetensors;
mod shards;
mod table;
mod tar;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) use self::archive::{IN_MEMORY, Memory};
pub(crate) use self::folder::{DEEPEST, entries};
use super::choice::Field;
use super::complaints::unreadable;
use super::media::Media;
use super::options::DataOptions;
use super::rows::Rows;
use crate::error::{Error, ErrorKind, Result};

/// Opened samples: their fields are known, but not read.
pub(super) trait Source {
    /// The fields of each sample.
    fn fields(&self) -> Vec<Field>;

    /// One field of all samples.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::Calibration`] if it cannot be read.
    fn read(&mut self, field: &str) -> Result<Content>;

    /// A field of labels, which need not be read if its shape tells that it holds none.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn labels(&mut self, field: &str) -> Result<Content> {
        self.read(field)
    }

    /// Notes for the user.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// One field of all samples.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Numbers.
    Array(Arc<dyn Rows>),
    /// Pictures or sounds, each as the bytes of a file.
    Media(Arc<dyn Media>),
    /// Words, which can only be labels.
    Text(Vec<String>),
}

impl Content {
    /// Number of samples.
    pub(super) fn count(&self) -> usize {
        match self {
            Content::Array(array) => array.count(),
            Content::Media(media) => media.count(),
            Content::Text(words) => words.len(),
        }
    }
}

/// Whether an array of this shape has one number per sample.
pub(super) fn is_per_sample(shape: &[usize]) -> bool {
    shape.iter().skip(1).all(|size| *size == 1)
}

/// One format.
pub(super) struct Format {
    /// Its name in messages.
    pub(super) name: &'static str,
    /// Suffixes of its files.
    pub(super) suffixes: &'static [&'static str],
    /// Whether the files of a folder count as one.
    pub(super) sharded: bool,
    /// Opens files; only one if the format is not sharded.
    pub(super) open: fn(&Files, &DataOptions) -> Result<Box<dyn Source>>,
}

/// Files of one format, and the path that the user gave.
pub(super) struct Files {
    /// The file or folder that was given.
    pub(super) given: PathBuf,
    /// The files, in order.
    pub(super) all: Vec<PathBuf>,
}

impl Files {
    /// The first file.
    pub(super) fn first(&self) -> &Path {
        self.all.first().unwrap_or(&self.given)
    }
}

/// All formats of files. Folders of pictures and sounds are in [`folder`].
pub(super) const FORMATS: &[Format] = &[
    archive::FORMAT,
    npy::FORMAT,
    safetensors::FORMAT,
    table::FORMAT,
    tar::FORMAT,
    #[cfg(feature = "parquet")]
    parquet::FORMAT,
];

/// Opens a file or a folder. The second result says whether only the part of [`DataOptions::split`] was
/// opened.
///
/// # Errors
/// [`ErrorKind::Io`] if it does not exist; [`ErrorKind::Calibration`] if its format is unknown, or it is
/// damaged.
pub(super) fn open(path: &Path, options: &DataOptions) -> Result<(Box<dyn Source>, bool)> {
    if path.is_dir() {
        return open_folder(path, options);
    }
    std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    let format = suffix(path)
        .and_then(|own| FORMATS.iter().find(|format| format.suffixes.contains(&own.as_str())));
    let format = format.ok_or_else(|| unknown(path))?;
    let files = Files { given: path.to_owned(), all: vec![path.to_owned()] };
    Ok(((format.open)(&files, options)?, false))
}

fn open_folder(path: &Path, options: &DataOptions) -> Result<(Box<dyn Source>, bool)> {
    for format in FORMATS.iter().filter(|format| format.sharded) {
        let found = shards::of(path, format)?;
        if !found.is_empty() {
            let all = shards::of_part(path, found, options.split.as_deref())?;
            let files = Files { given: path.to_owned(), all };
            let source = (format.open)(&files, options)?;
            return Ok((shards::with_note_on_others(source, path, format)?, true));
        }
    }
    shards::refuse_arrow(path)?;
    let part = options.split.as_ref().map(|part| path.join(part)).filter(|part| part.is_dir());
    Ok((folder::open(part.as_deref().unwrap_or(path))?, true))
}

/// The suffix of a file's name, in lower case and without the dot.
pub(super) fn suffix(path: &Path) -> Option<String> {
    Some(path.extension()?.to_string_lossy().to_ascii_lowercase())
}

fn unknown(path: &Path) -> Error {
    let known: Vec<String> =
        FORMATS.iter().flat_map(|f| f.suffixes).map(|suffix| format!(".{suffix}")).collect();
    let hint = match suffix(path).as_deref() {
        Some("gz" | "tgz" | "zst" | "bz2" | "xz") => "unpack it first".to_owned(),
        Some("parquet") => "build with the feature `parquet`".to_owned(),
        Some("flac" | "mp3" | "ogg" | "wav") => "give the folder of sounds, as .wav".to_owned(),
        _ => format!("give a {} file, or a folder of images or sounds", known.join(", ")),
    };
    let message = format!("{} is no kind of data that is known", path.display());
    Error::new(ErrorKind::Calibration, message).hint(hint)
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

//! Calibration and test data.
//!
//! A [`Dataset`] keeps samples as they are stored, as bytes or as files, and converts them batch by
//! batch: select rows → fit the axes to the model's → cast to the input's type → normalise.

mod archive;
mod column;
mod extents;
mod fit;
mod folder;
mod normalise;
mod npy;
mod options;
mod rows;
mod shard;
mod synthetic;
mod tables;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::archive::{Matched, Named, unreadable, wrong_array};
use self::column::Column;
pub use self::extents::{Extents, trials};
use self::folder::Listing;
pub use self::options::{DataOptions, Layout, Resize, Scale};
pub use self::rows::{Arrays, Rows, Spooler};
use self::shard::{Origin, Place};
pub(crate) use self::shard::{ShardRecord, ShardSamples};
pub use self::tables::tables;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::{HostArray, Port};

/// Samples for all inputs of a model, and perhaps a label for each.
#[derive(Debug, Clone)]
pub struct Dataset {
    columns: Vec<Column>,
    /// One label per sample of the columns, chosen or not.
    labels: Option<Vec<i64>>,
    /// The samples that were chosen, in order.
    rows: Vec<usize>,
    /// The number of samples is a multiple of this.
    whole: usize,
    notes: Vec<String>,
    origin: Option<Arc<Origin>>,
}

impl Dataset {
    /// Opens a `.npz` or `.npy` file, or a folder of images, for a model with inputs `ports`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for options that make no sense, [`ErrorKind::Io`] where the file cannot
    /// be read, [`ErrorKind::Calibration`] where it is damaged or does not fit the model: each names
    /// the file, the array, and what was expected and found.
    pub fn open(path: &Path, ports: &[Port], options: &DataOptions) -> Result<Self> {
        let opened = Self::open_path(path, ports, options)?;
        Ok(opened.from_place(Place::of_path(path), ports, options))
    }

    fn open_path(path: &Path, ports: &[Port], options: &DataOptions) -> Result<Self> {
        options.validate()?;
        if path.is_dir() {
            return Self::of_folder(path, ports, options);
        }
        let suffix = path.extension().map(|s| s.to_string_lossy().to_ascii_lowercase());
        match suffix.as_deref() {
            Some("npz") => {
                Self::of_arrays(path, archive::read_npz(path, ports, options)?, ports, options)
            }
            Some("npy") => Self::of_arrays(path, archive::read_npy(path, ports)?, ports, options),
            _ => Err(match std::fs::metadata(path) {
                Err(error) => unreadable(path, error),
                Ok(_) => Error::new(
                    ErrorKind::Calibration,
                    format!("{} is no kind of data that is known", path.display()),
                )
                .hint("give a .npz or .npy file, or a folder of images"),
            }),
        }
    }

    /// Takes samples from memory for a model with inputs `ports`.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn from_arrays(arrays: &Arrays, ports: &[Port], options: &DataOptions) -> Result<Self> {
        options.validate()?;
        let matched = archive::pick(arrays, ports, options)?;
        let taken = Self::of_arrays(Path::new("the data"), matched, ports, options)?;
        Ok(taken.from_place(Place::Memory, ports, options))
    }

    /// `len` made-up samples: floats from N(0, 1), numbers of rows where an integer input picks
    /// rows of a table ([`DataOptions::tables`]), other integers 0 or 1, the same for the same seed.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] naming an input of which a size other than the batch is open and
    /// not given in [`DataOptions::dims`].
    pub fn synthetic(ports: &[Port], len: usize, seed: u64, options: &DataOptions) -> Result<Self> {
        let columns = ports.iter().enumerate();
        let columns = columns.map(|(i, port)| Column::synthetic(port, i, len, seed, options));
        let note = "the samples are made up, from random numbers; pass --data for better results";
        let made = Self::new(columns.collect::<Result<_>>()?, None, vec![note.to_string()])?;
        Ok(made.from_place(Place::Synthetic { len, seed }, ports, options))
    }

    fn of_arrays(
        file: &Path,
        matched: Matched,
        ports: &[Port],
        options: &DataOptions,
    ) -> Result<Self> {
        let named = matched.inputs.into_iter().zip(ports);
        let mut first: Option<(String, usize)> = None;
        let mut columns = Vec::new();
        let mut same_length = |name: &str, length: usize| match &first {
            Some((other, expected)) if *expected != length => Err(wrong_array(
                file,
                name,
                &format!("has {length} samples, but array '{other}' has {expected}"),
            )),
            Some(_) => Ok(()),
            None => {
                first = Some((name.to_string(), length));
                Ok(())
            }
        };
        for (named, port) in named {
            let name = named.name.clone();
            let column = Column::from_array(file, named, port, options)?;
            column.len().map_or(Ok(()), |len| same_length(&name, len))?;
            columns.push(column);
        }
        let mut notes = Vec::new();
        let mut labels = None;
        if let Some(Named { name, array }) = matched.labels {
            same_length(&name, array.count())?;
            let all: Vec<usize> = (0..array.count()).collect();
            labels = class_labels(array.rows(&all)?);
            if labels.is_none() {
                notes
                    .push(format!("array '{name}' is not one integer per sample, so it is unused"));
            }
        }
        Self::new(columns, labels, notes)
    }

    fn of_folder(folder: &Path, ports: &[Port], options: &DataOptions) -> Result<Self> {
        let [port] = ports else {
            return Err(Error::new(
                ErrorKind::Calibration,
                format!(
                    "{} can feed one input, but the model has {}",
                    folder.display(),
                    ports.len()
                ),
            )
            .hint("save a .npz with one array per input"));
        };
        let listing = Listing::of(folder)?;
        let mut notes = Vec::new();
        if listing.skipped > 0 {
            let skipped = listing.skipped;
            notes.push(format!("{skipped} files in {} are no PNG or JPEG", folder.display()));
        }
        if !listing.classes.is_empty() {
            notes.push(format!(
                "labels are the sub-folders in order: {}",
                listing.classes.join(", ")
            ));
        }
        let column = Column::from_images(listing.files, port, options)?;
        Self::new(vec![column], listing.labels, notes)
    }

    fn new(columns: Vec<Column>, labels: Option<Vec<i64>>, mut notes: Vec<String>) -> Result<Self> {
        if columns.is_empty() {
            return Err(Error::new(ErrorKind::Calibration, "the model has no inputs to feed"));
        }
        let len = columns.iter().find_map(Column::len).or(labels.as_ref().map(Vec::len));
        for column in columns.iter().filter(|column| column.feeds_raw_bytes()) {
            notes.push(format!(
                "uint8 data is fed to input '{}' unscaled, from 0 to 255; pass --scale 1/255 if the \
                 model was trained on values from 0 to 1",
                column.input
            ));
        }
        let rows = (0..len.unwrap_or(1)).collect();
        Ok(Dataset { columns, labels, rows, whole: 1, notes, origin: None })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether samples have labels.
    pub fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// Remarks about the data that the user should see.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The samples `range`, one array per input, in the model's order, type and shape.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where there are no such samples, an image cannot be decoded, or
    /// an integer is out of range of the input's type.
    pub fn batch(&self, range: Range<usize>) -> Result<Vec<(String, HostArray)>> {
        let rows = self.rows.get(range.clone()).ok_or_else(|| {
            Error::new(
                ErrorKind::Calibration,
                format!("samples {}..{} are asked of {}", range.start, range.end, self.len()),
            )
        })?;
        let batches = self
            .columns
            .iter()
            .map(|column| column.batch(rows).map(|array| (column.input.clone(), array)));
        batches.collect()
    }

    /// The ranges that cut the dataset into batches of `size`, the last one perhaps smaller.
    pub fn batches(&self, size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (len, size) = (self.len(), size.max(1));
        (0..len).step_by(size).map(move |start| start..len.min(start.saturating_add(size)))
    }

    /// The labels of the samples `range`; `None` without labels, or where there are no such samples.
    pub fn labels(&self, range: Range<usize>) -> Option<Vec<i64>> {
        let labels = self.labels.as_ref()?;
        self.rows.get(range)?.iter().map(|row| labels.get(*row).copied()).collect()
    }

    /// The samples `indices`, in that order.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where there is no such sample.
    pub fn select(&self, indices: &[usize]) -> Result<Dataset> {
        let rows = indices.iter().map(|index| {
            self.rows.get(*index).copied().ok_or_else(|| {
                Error::new(
                    ErrorKind::Calibration,
                    format!("sample {index} is asked of {}", self.len()),
                )
            })
        });
        Ok(Dataset { rows: rows.collect::<Result<_>>()?, ..self.clone() })
    }

    /// The first `len` samples, or all where there are fewer.
    pub fn take(&self, len: usize) -> Dataset {
        let rows = self.rows.iter().take(self.in_whole(len)).copied().collect();
        Dataset { rows, ..self.clone() }
    }

    /// Samples that fill batches of `size`, as parts of them will: those that are left over are left out,
    /// and where there are fewer, they are repeated.
    pub fn filling(&self, size: usize) -> Dataset {
        let (len, size) = (self.len(), size.max(1));
        let count = (len - len % size).max(if len > 0 { size } else { 0 });
        let rows = self.rows.iter().cycle().take(count).copied().collect();
        Dataset { rows, whole: size, ..self.clone() }
    }

    /// At most `len`, so that batches are filled.
    fn in_whole(&self, len: usize) -> usize {
        match self.whole {
            1 => len,
            whole => (len - len % whole).max(whole),
        }
    }

    /// `len` samples at random, in their order in the file, or all where there are fewer; the same
    /// ones for the same seed.
    pub fn subset(&self, len: usize, seed: u64) -> Dataset {
        self.split(len, seed).0
    }

    /// [`Dataset::subset`], and all other samples.
    pub fn split(&self, len: usize, seed: u64) -> (Dataset, Dataset) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let len = self.in_whole(len).min(self.len());
        let drawn = rand::seq::index::sample(&mut random, self.len(), len);
        let mut is_drawn = vec![false; self.len()];
        drawn.iter().for_each(|index| is_drawn[index] = true);
        let part = |wanted: bool| {
            let rows = self.rows.iter().zip(&is_drawn).filter(|(_, drawn)| **drawn == wanted);
            Dataset { rows: rows.map(|(row, _)| *row).collect(), ..self.clone() }
        };
        (part(true), part(false))
    }
}

/// One label per row, from integers or whole floats; `None` for anything else.
fn class_labels(array: HostArray) -> Option<Vec<i64>> {
    if array.shape().iter().skip(1).any(|size| *size != 1) {
        return None;
    }
    match array.clone().integers() {
        Some(integers) => Some(integers.iter().copied().collect()),
        None => {
            let floats = array.into_f32().ok()?;
            // Class numbers are small, so a float that holds one holds it exactly.
            let whole = |v: &f32| (v.fract() == 0.0 && v.abs() < 1e6).then_some(*v as i64);
            floats.iter().map(whole).collect()
        }
    }
}

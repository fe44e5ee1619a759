//! Calibration and test data.
//!
//! A [`Dataset`] keeps samples as stored, as bytes or as files, and converts them batch by batch: select
//! rows → fit the axes to the model's → cast to the input's type → normalise.

mod axes;
mod bytes;
mod choice;
mod column;
mod complaints;
mod digest;
mod extents;
mod file;
mod fit;
mod formats;
mod labels;
mod look;
mod media;
mod normalise;
mod options;
mod parts;
mod picture;
mod preprocess;
mod resample;
mod rows;
mod shard;
mod sound;
mod spool;
mod stored;
mod synthetic;
mod tables;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use self::axes::placed;
pub(crate) use self::bytes::encoded;
pub(crate) use self::choice::LABELS_KEY;
use self::choice::choose;
use self::column::Column;
pub(crate) use self::column::check_fed;
use self::complaints::wrong_array;
pub use self::extents::{Extents, trials, unknown};
pub(crate) use self::formats::{DEEPEST, entries};
use self::formats::{IN_MEMORY, Memory, Source};
use self::labels::labels;
pub use self::options::{DataOptions, Layout, PictureSteps, Resize, Scale, Sizing, SoundSteps};
pub use self::resample::Filter;
pub use self::rows::{Arrays, Rows};
use self::shard::{Origin, Place};
pub(crate) use self::shard::{ShardRecord, ShardSamples};
pub use self::spool::Spooler;
pub use self::tables::tables;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::naming::counted;
use crate::runtime::{HostArray, Port};

/// Samples for all inputs of a model, and perhaps a label for each.
#[derive(Debug, Clone)]
pub struct Dataset {
    columns: Vec<Column>,
    /// One label per sample of the columns, including samples that are not chosen.
    labels: Option<Vec<i64>>,
    /// Why the labels of the data are unused, if a net cannot mean them.
    unusable: Option<String>,
    /// The samples that were chosen, in order.
    rows: Vec<usize>,
    /// The number of samples is a multiple of this.
    whole: usize,
    notes: Vec<Hint>,
    origin: Option<Arc<Origin>>,
}

impl Dataset {
    /// Opens a file or folder of any known format for a model with inputs `ports`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for options that make no sense, [`ErrorKind::Io`] where the file cannot
    /// be read, [`ErrorKind::Calibration`] where it is damaged or does not fit the model: each names
    /// the file, the array, and what was expected and found.
    pub fn open(path: &Path, ports: &[Port], options: &DataOptions) -> Result<Self> {
        let opened = Self::open_path(path, ports, options)?;
        Ok(opened.placed(Place::of_path(path), ports, options))
    }

    fn open_path(path: &Path, ports: &[Port], options: &DataOptions) -> Result<Self> {
        options.validate()?;
        let (mut source, is_part) = formats::open(path, options)?;
        let whole = DataOptions { split: None, ..options.clone() };
        Self::of(path, source.as_mut(), ports, if is_part { &whole } else { options })
    }

    /// Takes samples from memory for a model with inputs `ports`.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn from_arrays(arrays: &Arrays, ports: &[Port], options: &DataOptions) -> Result<Self> {
        options.validate()?;
        let mut memory = Memory::new(arrays, ports)?;
        let taken = Self::of(Path::new(IN_MEMORY), &mut memory, ports, options)?;
        Ok(taken.placed(Place::Memory, ports, options))
    }

    /// `len` random samples, the same for the same seed. Floats are from N(0, 1), integers that index a
    /// table are rows of it ([`DataOptions::tables`]), and other integers are 0 or 1.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] naming an input of which a size other than the batch is open and
    /// not given in [`DataOptions::dims`].
    pub fn synthetic(ports: &[Port], len: usize, seed: u64, options: &DataOptions) -> Result<Self> {
        check_fed(ports)?;
        let columns = placed(ports).enumerate();
        let columns = columns.map(|(i, place)| Column::synthetic(place, i, len, seed, options));
        let note = Hint::from("the samples are made up, from random numbers; give better ones (")
            .option("data")
            .then(")");
        let made = Self::new(columns.collect::<Result<_>>()?, None, vec![note])?;
        Ok(made.placed(Place::Synthetic { len, seed }, ports, options))
    }

    fn of(
        file: &Path,
        source: &mut dyn Source,
        ports: &[Port],
        options: &DataOptions,
    ) -> Result<Self> {
        check_fed(ports)?;
        let chosen = choose(&source.fields(), file, ports, options)?;
        let mut first: Option<(String, usize)> = None;
        let mut same_length = |name: &str, length: usize| match &first {
            Some((other, expected)) if *expected != length => Err(wrong_array(
                file,
                name,
                &format!("has {}, but array '{other}' has {expected}", counted(length, "sample")),
            )),
            Some(_) => Ok(()),
            None => {
                first = Some((name.to_string(), length));
                Ok(())
            }
        };
        let mut columns = Vec::new();
        for (name, place) in chosen.inputs.iter().zip(placed(ports)) {
            let column = Column::new(file, name, source.read(name)?, place, options)?;
            column.len().map_or(Ok(()), |len| same_length(name, len))?;
            columns.push(column);
        }
        let mut notes: Vec<Hint> = source.notes().into_iter().map(Hint::from).collect();
        let mut numbers = None;
        if let Some(name) = chosen.labels {
            let content = source.labels(&name)?;
            same_length(&name, content.count())?;
            let found = labels(&name, content)?;
            numbers = found.numbers;
            notes.extend(found.note.map(Hint::from));
        }
        Self::new(columns, numbers, notes)
    }

    fn new(columns: Vec<Column>, labels: Option<Vec<i64>>, mut notes: Vec<Hint>) -> Result<Self> {
        if columns.is_empty() {
            return Err(Error::new(ErrorKind::Calibration, "the model has no inputs to feed"));
        }
        let len = columns.iter().find_map(Column::len).or(labels.as_ref().map(Vec::len));
        if len == Some(0) {
            return Err(Error::new(ErrorKind::Calibration, "the data has no samples"));
        }
        notes.extend(columns.iter().filter_map(Column::note).map(Hint::from));
        for column in columns.iter().filter(|column| column.feeds_raw_bytes()) {
            let fed =
                format!("uint8 data is fed to input '{}' unscaled, from 0 to 255; ", column.input);
            let remark =
                Hint::from(format!("{fed}if the model was trained on values from 0 to 1, pass "));
            notes.push(remark.option_as("scale", "1/255"));
        }
        let rows = (0..len.unwrap_or(1)).collect();
        Ok(Dataset { columns, labels, unusable: None, rows, whole: 1, notes, origin: None })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The axis of each input that counts samples, in the model's order.
    pub fn sample_axes(&self) -> impl Iterator<Item = usize> + '_ {
        self.columns.iter().map(|column| column.axis)
    }

    /// Whether samples have labels.
    pub fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// Remarks about the data that the user should see.
    pub fn notes(&self) -> &[Hint] {
        &self.notes
    }

    /// The samples `range`, one array per input, in the model's order, type and shape.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where there are no such samples, an image cannot be decoded, or
    /// an integer is out of range of the input's type.
    pub fn batch(&self, range: Range<usize>) -> Result<Vec<(String, HostArray)>> {
        let rows = self.rows_of(range)?;
        let batches = self
            .columns
            .iter()
            .map(|column| column.batch(rows).map(|array| (column.input.clone(), array)));
        batches.collect()
    }

    /// [`Dataset::batch`] for one input; `None` where there is no such input.
    ///
    /// # Errors
    /// As [`Dataset::batch`].
    pub(crate) fn input(&self, name: &str, range: Range<usize>) -> Result<Option<HostArray>> {
        let rows = self.rows_of(range)?;
        let column = self.columns.iter().find(|column| column.input == name);
        column.map(|column| column.batch(rows)).transpose()
    }

    fn rows_of(&self, range: Range<usize>) -> Result<&[usize]> {
        let Range { start, end } = range;
        self.rows.get(range).ok_or_else(|| {
            let len = self.len();
            let message = format!(
                "samples {start}..{end} are outside the data, which have {}",
                counted(len, "sample")
            );
            Error::new(ErrorKind::Calibration, message)
        })
    }

    /// The labels of the samples `range`; `None` without labels, or where there are no such samples.
    pub fn labels(&self, range: Range<usize>) -> Option<Vec<i64>> {
        let labels = self.labels.as_ref()?;
        self.rows.get(range)?.iter().map(|row| labels.get(*row).copied()).collect()
    }
}

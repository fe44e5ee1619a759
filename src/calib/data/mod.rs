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
mod picture;
mod preprocess;
mod resample;
mod rows;
mod shard;
mod sound;
mod stored;
mod synthetic;
mod tables;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::axes::placed;
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
pub use self::rows::{Arrays, Rows, Spooler};
use self::shard::{Origin, Place};
pub(crate) use self::shard::{ShardRecord, ShardSamples};
pub use self::tables::tables;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::naming::counted;
use crate::runtime::{HostArray, Port};

/// Samples are repeated to fill a batch of this size at most, so that a few bytes in a file cannot fill the
/// memory.
const MOST_REPEATED: usize = 4096;

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

    /// The ranges that cut the dataset into batches of `size`, the last one perhaps smaller.
    pub fn batches(&self, size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (len, size) = (self.len(), size.max(1));
        (0..len).step_by(size).map(move |start| start..len.min(start.saturating_add(size)))
    }

    /// The batches that a net can run: of the size that it fixes, without an incomplete last one, or of `size`.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where samples do not fill a batch.
    pub fn runs(&self, fixed: Option<usize>, size: usize) -> Result<Vec<Range<usize>>> {
        let size = fixed.unwrap_or(size).max(1);
        let is_run = |range: &Range<usize>| fixed.is_none() || range.len() == size;
        let ranges: Vec<Range<usize>> = self.batches(size).filter(is_run).collect();
        if ranges.is_empty() {
            let message =
                format!("a batch of {size} takes more than {}", counted(self.len(), "sample"));
            return Err(Error::new(ErrorKind::Calibration, message)
                .hint(format!("give at least {size} samples")));
        }
        Ok(ranges)
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
                    format!(
                        "sample {index} is outside the data, which have {}",
                        counted(self.len(), "sample")
                    ),
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

    /// The samples in a form that a net takes: whole batches only, where it fixes their size. Constants inside
    /// the net may have that size, too.
    pub(crate) fn fitting(&self, fixed: Option<usize>) -> Dataset {
        match fixed.filter(|size| *size <= self.len().max(MOST_REPEATED)) {
            Some(size) => self.filling(size),
            None => self.clone(),
        }
    }

    /// Samples that fill batches of `size`, also after [`Dataset::take`] and [`Dataset::subset`]. Drops
    /// excess samples, and repeats samples if there are fewer than one batch.
    pub fn filling(&self, size: usize) -> Dataset {
        let (len, size) = (self.len(), size.max(1));
        let count = (len - len % size).max(if len > 0 { size } else { 0 });
        let rows = self.rows.iter().cycle().take(count).copied().collect();
        Dataset { rows, whole: size, ..self.clone() }
    }

    /// The largest number up to `len` that fills batches.
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

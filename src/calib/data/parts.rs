//! Parts of a data set: batches, chosen samples, and samples that fill batches.

use std::ops::Range;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Dataset;
use crate::error::{Error, ErrorKind, Result};
use crate::naming::counted;

/// Samples are repeated to fill a batch of this size at most, so that a few bytes in a file cannot fill the
/// memory.
const MOST_REPEATED: usize = 4096;

impl Dataset {
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

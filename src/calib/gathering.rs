//! Accumulates statistics row by row.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use super::gram::Moments;
use super::im2col::{Rows, chunk_rows};
use super::kept::{KeptRows, Statistics};
use crate::error::{Error, ErrorKind, Result};

/// Statistics so far. Rows are buffered until there are enough of them for one product, since a model
/// may fix a batch size of one. So sums do not depend on the batch size. Up to `kept` rows, all of them
/// stay in the buffer.
pub(super) struct Gathering {
    /// Limit of rows that are kept instead of summed up.
    kept: usize,
    moments: Option<Moments>,
    rows: Waiting,
    targets: Option<Waiting>,
}

/// Buffered rows; the memory is reused.
#[derive(Default)]
struct Waiting {
    values: Vec<f32>,
    width: usize,
    len: usize,
    /// Whether each row ends with a constant 1.
    constant: bool,
}

impl Gathering {
    /// No rows yet; up to `kept` of them are kept.
    pub(super) fn new(kept: usize) -> Gathering {
        let rows = Waiting { constant: true, ..Waiting::default() };
        Gathering { kept, moments: None, rows, targets: None }
    }

    /// Adds rows, with their targets if there are any.
    pub(super) fn add(&mut self, rows: &Rows<'_>, targets: Option<&Rows<'_>>) -> Result<()> {
        let chunk = chunk_rows(rows.width() + targets.map_or(0, Rows::width));
        let mut start = 0;
        while start < rows.len() {
            let room = match self.moments {
                None => chunk * (self.kept / chunk + 1),
                Some(_) => chunk,
            };
            let count = (room - self.rows.len).min(rows.len() - start);
            self.rows.add(rows, start, count)?;
            if let Some(targets) = targets {
                self.targets.get_or_insert_default().add(targets, start, count)?;
            }
            start += count;
            if self.rows.len == room {
                self.push(chunk)?;
            }
        }
        Ok(())
    }

    /// Adds all buffered rows to the sums, `chunk` at a time.
    fn push(&mut self, chunk: usize) -> Result<()> {
        let x = self.rows.take()?;
        let y = self.targets.as_mut().map(Waiting::take).transpose()?;
        let inputs = x.ncols().saturating_sub(1);
        let new = || match &y {
            Some(y) => Moments::with_targets(inputs, y.ncols()),
            None => Moments::new(inputs),
        };
        let moments = self.moments.get_or_insert_with(new);
        for start in (0..x.nrows()).step_by(chunk) {
            let part = start..x.nrows().min(start + chunk);
            let rows = x.slice(s![part.clone(), ..inputs]);
            match &y {
                Some(y) => moments.push_with(rows, y.slice(s![part, ..]))?,
                None => moments.push(rows)?,
            }
        }
        Ok(())
    }

    /// The statistics of all rows; `None` without rows.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] for rows that are not finite.
    pub(super) fn finish(mut self) -> Result<Option<Statistics>> {
        if self.moments.is_none() && self.rows.len > 0 && self.rows.len <= self.kept {
            let targets = self.targets.map(Waiting::into_rows).transpose()?;
            let rows = KeptRows::new(self.rows.into_rows()?, targets)?;
            return Ok(Some(Statistics::Rows(rows)));
        }
        if self.rows.len > 0 {
            let targets = self.targets.as_ref().map_or(0, |t| t.width);
            self.push(chunk_rows(self.rows.width - 1 + targets))?;
        }
        Ok(self.moments.map(Statistics::Moments))
    }
}

impl Waiting {
    /// Adds `count` of `rows`, from `start` on.
    fn add(&mut self, rows: &Rows<'_>, start: usize, count: usize) -> Result<()> {
        let width = rows.width() + usize::from(self.constant);
        if self.width != width {
            if self.len > 0 {
                return Err(resized());
            }
            self.width = width;
            self.values.clear();
        }
        let range = self.len * width..(self.len + count) * width;
        if self.values.len() < range.end {
            self.values.reserve_exact(range.end - self.values.len());
            self.values.resize(range.end, 1.0);
        }
        let room = ArrayViewMut2::from_shape((count, width), &mut self.values[range]);
        let room = room.map_err(|e| resized().because(e))?;
        rows.write(start, room.split_at(ndarray::Axis(1), rows.width()).0);
        self.len += count;
        Ok(())
    }

    /// Takes all rows, and empties the buffer.
    fn take(&mut self) -> Result<ArrayView2<'_, f32>> {
        let len = std::mem::take(&mut self.len);
        let values = &self.values[..len * self.width];
        ArrayView2::from_shape((len, self.width), values).map_err(|e| resized().because(e))
    }

    /// All rows.
    fn into_rows(mut self) -> Result<Array2<f32>> {
        self.values.truncate(self.len * self.width);
        self.values.shrink_to_fit();
        let shape = (self.len, self.width);
        Array2::from_shape_vec(shape, self.values).map_err(|e| resized().because(e))
    }
}

fn resized() -> Error {
    Error::new(ErrorKind::Calibration, "a layer's inputs change their size between batches")
}

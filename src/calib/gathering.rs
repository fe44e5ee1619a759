//! Accumulates statistics row by row.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use super::gram::Moments;
use super::im2col::{Rows, chunk_rows};
use super::kept::{KeptRows, Statistics};
use super::net::Spread;
use crate::error::{Error, ErrorKind, Result};

/// Statistics so far. Rows are buffered until there are enough of them for one product, since a model
/// may fix a batch size of one. So sums do not depend on the batch size. Up to `kept` rows, all of them
/// stay in the buffer.
pub(super) struct Gathering {
    /// Limit of rows that are kept instead of summed up.
    kept: usize,
    /// How much a mean over the positions of a sample counts; see [`Moments::push_means`].
    coherence: f64,
    moments: Option<Moments>,
    /// Sums over the means, where they are kept apart from those over rows.
    averages: Option<Moments>,
    apart: bool,
    /// Whether rows were added to the sums already, so that they cannot be kept.
    summed: bool,
    waiting: Pairs,
    /// Means over the positions of samples.
    means: Pairs,
    /// How many rows each of the means counts as.
    weight: f64,
}

/// Rows that wait to be added, with their targets if there are any.
#[derive(Default)]
struct Pairs {
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
    pub(super) fn new(kept: usize, coherence: f64) -> Gathering {
        let rows = Waiting { constant: true, ..Waiting::default() };
        Gathering {
            kept,
            coherence,
            moments: None,
            averages: None,
            apart: false,
            summed: false,
            waiting: Pairs { rows, targets: None },
            means: Pairs::default(),
            weight: 0.0,
        }
    }

    /// No rows yet; sums of rows and, with `means`, of their means over positions are kept apart.
    pub(super) fn apart(means: bool) -> Gathering {
        // At a coherence of 2 a mean counts as often as it has rows.
        Gathering { apart: true, ..Gathering::new(0, if means { 2.0 } else { 1.0 }) }
    }

    /// Adds rows, with their targets if there are any.
    pub(super) fn add(&mut self, rows: &Rows<'_>, targets: Option<&Rows<'_>>) -> Result<()> {
        let chunk = chunk_rows(rows.width() + targets.map_or(0, Rows::width));
        self.add_means(rows, targets, chunk)?;
        let mut start = 0;
        while start < rows.len() {
            let room = match self.summed {
                false => chunk * (self.kept / chunk + 1),
                true => chunk,
            };
            let count = (room - self.waiting.rows.len).min(rows.len() - start);
            self.waiting.add((rows, targets), count, |rows, room| rows.write(start, room))?;
            start += count;
            if self.waiting.rows.len == room {
                self.push(chunk)?;
            }
        }
        Ok(())
    }

    /// Adds the means over each sample's positions, where they count more than other rows. Rows that
    /// are kept have no weights.
    fn add_means(
        &mut self,
        rows: &Rows<'_>,
        targets: Option<&Rows<'_>>,
        chunk: usize,
    ) -> Result<()> {
        let weight = (self.coherence - 1.0) * rows.per_sample() as f64;
        if weight <= 0.0 || rows.positions() < 2 {
            return Ok(());
        }
        self.weight = weight;
        let mut start = 0;
        while start < rows.samples() {
            let count = (chunk - self.means.rows.len).min(rows.samples() - start);
            self.means.add((rows, targets), count, |rows, room| {
                rows.write_means(start, room);
            })?;
            start += count;
            if self.means.rows.len == chunk {
                self.push_means()?;
            }
        }
        Ok(())
    }

    /// Adds all means that wait to the sums.
    fn push_means(&mut self) -> Result<()> {
        let (x, y) = self.means.take()?;
        let outputs = y.map(|y| y.ncols());
        let sums = if self.apart { &mut self.averages } else { &mut self.moments };
        let sums = sums.get_or_insert_with(|| empty(x.ncols(), outputs));
        sums.push_means(x, y, self.weight)
    }

    /// Adds all rows that wait to the sums, so many at once.
    fn push(&mut self, chunk: usize) -> Result<()> {
        self.summed = true;
        let (x, y) = self.waiting.take()?;
        let inputs = x.ncols().saturating_sub(1);
        let outputs = y.map(|y| y.ncols());
        let moments = self.moments.get_or_insert_with(|| empty(inputs, outputs));
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
        let rows = &self.waiting.rows;
        if !self.summed && rows.len > 0 && rows.len <= self.kept {
            let Pairs { rows, targets } = self.waiting;
            let targets = targets.map(Waiting::into_rows).transpose()?;
            return Ok(Some(Statistics::Rows(KeptRows::new(rows.into_rows()?, targets)?)));
        }
        self.flush()?;
        Ok(self.moments.map(|moments| Statistics::Moments(moments.balanced())))
    }

    /// Sums over all rows, and over their means; `None` without rows.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub(super) fn finish_apart(mut self) -> Result<Option<Spread>> {
        self.flush()?;
        Ok(self.moments.map(|rows| Spread::new(rows, self.averages)))
    }

    /// Adds all that waits to the sums.
    fn flush(&mut self) -> Result<()> {
        let Pairs { rows, targets } = &self.waiting;
        if rows.len > 0 {
            let targets = targets.as_ref().map_or(0, |t| t.width);
            self.push(chunk_rows(rows.width - 1 + targets))?;
        }
        if self.means.rows.len > 0 {
            self.push_means()?;
        }
        Ok(())
    }
}

impl Pairs {
    /// Adds `count` rows and targets, which `write` writes.
    fn add(
        &mut self,
        (rows, targets): (&Rows<'_>, Option<&Rows<'_>>),
        count: usize,
        write: impl Fn(&Rows<'_>, ArrayViewMut2<f32>),
    ) -> Result<()> {
        self.rows.add(rows.width(), count, |room| write(rows, room))?;
        if let Some(targets) = targets {
            let waiting = self.targets.get_or_insert_default();
            waiting.add(targets.width(), count, |room| write(targets, room))?;
        }
        Ok(())
    }

    /// Takes all rows and targets, and empties the buffers.
    fn take(&mut self) -> Result<(ArrayView2<'_, f32>, Option<ArrayView2<'_, f32>>)> {
        let targets = self.targets.as_mut().map(Waiting::take).transpose()?;
        Ok((self.rows.take()?, targets))
    }
}

impl Waiting {
    /// Adds `count` rows of `own` values, which `write` writes.
    fn add(
        &mut self,
        own: usize,
        count: usize,
        write: impl FnOnce(ArrayViewMut2<f32>),
    ) -> Result<()> {
        let width = own + usize::from(self.constant);
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
        write(room.split_at(ndarray::Axis(1), own).0);
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

/// Sums over no rows.
fn empty(inputs: usize, outputs: Option<usize>) -> Moments {
    match outputs {
        Some(outputs) => Moments::with_targets(inputs, outputs),
        None => Moments::new(inputs),
    }
}

fn resized() -> Error {
    Error::new(ErrorKind::Calibration, "a layer's inputs change their size between batches")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::im2col::Positions;
    use crate::calib::product::tests::random;
    use crate::calib::wide::widened;
    use ndarray::{Array1, ArrayD, Axis, IxDyn};

    const SAMPLES: usize = 6;
    const CHANNELS: usize = 3;
    const PLANE: usize = 4;

    fn activation(seed: u64) -> ArrayD<f32> {
        let flat = random(1, SAMPLES * CHANNELS * PLANE, seed).mapv(|v| v as f32);
        flat.into_shape_with_order(IxDyn(&[SAMPLES, CHANNELS, PLANE])).unwrap()
    }

    /// The moments of activations, in batches of so many samples.
    fn gathered(x: &ArrayD<f32>, coherence: f64, kept: usize, batch: usize) -> Statistics {
        let mut gathering = Gathering::new(kept, coherence);
        for part in x.axis_chunks_iter(Axis(0), batch) {
            let rows = Rows::channels(part, 0..CHANNELS, Positions::All).unwrap();
            gathering.add(&rows, Some(&rows)).unwrap();
        }
        gathering.finish().unwrap().unwrap()
    }

    fn moments(x: &ArrayD<f32>, coherence: f64, batch: usize) -> Moments {
        gathered(x, coherence, 0, batch).into_moments().unwrap()
    }

    #[test]
    fn means_over_positions_count_as_often_as_errors_there_add_up() {
        let (x, coherence) = (activation(1), 3.0);
        let rows = Rows::channels(x.view(), 0..CHANNELS, Positions::All).unwrap();
        let mut all = Array2::zeros((SAMPLES * PLANE, CHANNELS));
        rows.write(0, all.view_mut());
        let all = widened(all.view());
        let mut wanted = all.t().dot(&all);
        for sample in all.axis_chunks_iter(Axis(0), PLANE) {
            let mean: Array1<f64> = sample.mean_axis(Axis(0)).unwrap();
            let mean = mean.insert_axis(Axis(1));
            wanted = wanted + mean.dot(&mean.t()) * (coherence - 1.0) * PLANE as f64;
        }
        let found = moments(&x, coherence, SAMPLES);
        assert_eq!(found.count(), (SAMPLES * PLANE) as u64);
        let whole = found.scaled(found.count() as f64).unwrap();
        assert!((whole[(CHANNELS, CHANNELS)] - (SAMPLES * PLANE) as f64).abs() < 1e-9);
        let part = whole.slice(s![..CHANNELS, ..CHANNELS]).to_owned();
        assert!((&part * coherence - &wanted).iter().all(|d| d.abs() < 1e-4), "{part} {wanted}");
        assert!(
            (found.cross().unwrap().slice(s![..CHANNELS, ..]).to_owned() - part)
                .iter()
                .all(|d| d.abs() < 1e-4)
        );
    }

    #[test]
    fn sums_that_are_kept_apart_serve_any_coherence() {
        let (x, y) = (activation(4), activation(5));
        let spread = |part: &ArrayD<f32>| {
            let mut gathering = Gathering::apart(true);
            let rows = Rows::channels(part.view(), 0..CHANNELS, Positions::All).unwrap();
            gathering.add(&rows, None).unwrap();
            gathering.finish_apart().unwrap().unwrap()
        };
        let whole = ndarray::concatenate(Axis(0), &[x.view(), y.view()]).unwrap();
        for coherence in [1.0, 2.0, 3.5] {
            let wanted = moments(&whole, coherence, SAMPLES).scaled(1.0).unwrap();
            let mut sum = spread(&x);
            sum.merge(&spread(&y)).unwrap();
            let found = sum.at(coherence).unwrap().scaled(1.0).unwrap();
            assert!((found - &wanted).iter().all(|d| d.abs() < 1e-6));
        }
    }

    #[test]
    fn what_is_the_same_everywhere_has_no_other_moments() {
        let x = activation(2).slice(s![.., .., ..1]).to_owned();
        let x = x.broadcast((SAMPLES, CHANNELS, PLANE)).unwrap().to_owned().into_dyn();
        let (plain, weighted) = (moments(&x, 1.0, SAMPLES), moments(&x, 5.0, SAMPLES));
        let off = plain.scaled(1.0).unwrap() - weighted.scaled(1.0).unwrap();
        assert!(off.iter().all(|d| d.abs() < 1e-6));
    }

    #[test]
    fn moments_do_not_depend_on_batches_and_kept_rows_have_no_weights() {
        let x = activation(3);
        assert_eq!(moments(&x, 3.0, 1), moments(&x, 3.0, SAMPLES));
        let kept = gathered(&x, 3.0, SAMPLES * PLANE, 2);
        assert!(matches!(&kept, Statistics::Rows(_)));
        assert_eq!(kept.into_moments().unwrap(), moments(&x, 1.0, SAMPLES));
        let too_many = gathered(&x, 3.0, SAMPLES * PLANE - 1, 2);
        assert_eq!(too_many.into_moments().unwrap(), moments(&x, 3.0, SAMPLES));
    }
}

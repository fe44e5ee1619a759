//! Layer inputs and pre-activations as matrices of rows, one row per sample and position.
//!
//! For a convolution a row is the im2col patch under the kernel (sec. 3.5 of the paper), its columns
//! in the row-major order of a filter's `[channels, k…]` weights, so that
//! `pre-activation = row · filterᵀ`. For a fully connected layer a row is the input vector itself.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, ArrayViewD, ArrayViewMut2, Axis};

use super::mask::Mask;
pub use super::positions::Positions;
use super::positions::spread;
use super::product::single_threaded_blas;
use super::window::Window;
use crate::error::{Error, ErrorKind, Result};

/// Bytes that one chunk of rows may take.
const CHUNK_BYTES: usize = 64 << 20;

/// Places of a plane up to which means are products with counts.
const MOST_PLACES: usize = 1024;

enum Shape {
    /// `[samples, positions, features]`: a row is a run of features.
    Features,
    /// `[samples, channels, plane]`: a row gathers some channels under a window.
    /// `sources` are those of [`Window::sources`], `taps` per position.
    Patches { taps: usize, sources: Arc<[usize]>, channels: Range<usize> },
}

/// The rows of one batch of activations, produced in chunks.
pub struct Rows<'a> {
    /// Values in row-major order.
    data: Cow<'a, [f32]>,
    /// Samples and the two axes of a [`Shape`].
    dims: [usize; 3],
    shape: Shape,
    /// Rows of each sample.
    per_sample: usize,
    /// The samples that give rows; `None` for all.
    samples: Option<Arc<[usize]>>,
    /// The position of each row; `None` if every position is a row.
    chosen: Option<Arc<[usize]>>,
    /// The remaining rows after masking; `None` for all.
    left: Option<Arc<[usize]>>,
}

impl<'a> Rows<'a> {
    /// Rows of a fully connected layer's input (or output): the last axis holds the features, the
    /// first one the samples, and every axis in between positions.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] for less than two axes.
    pub fn features(activation: ArrayViewD<'a, f32>, positions: Positions) -> Result<Self> {
        let dims = activation.shape().to_vec();
        let [samples, between @ .., features] = dims.as_slice() else {
            return Err(bad_shape(&dims, "[samples, …, features]"));
        };
        let available = between.iter().product();
        let dims = [*samples, available, *features];
        Ok(Self::new(row_major(activation), dims, Shape::Features, available, positions))
    }

    /// Im2col rows of a convolution's input `[samples, channels, spatial…]` for the input channels
    /// of one group.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where the window or the channels do not fit the activation.
    pub fn patches(
        activation: ArrayViewD<'a, f32>,
        window: &Window,
        channels: Range<usize>,
        positions: Positions,
    ) -> Result<Self> {
        let dims = activation.shape().to_vec();
        let [samples, all_channels, input @ ..] = dims.as_slice() else {
            return Err(bad_shape(&dims, "[samples, channels, …]"));
        };
        if channels.end > *all_channels {
            return Err(bad_shape(&dims, &format!("at least {} channels", channels.end)));
        }
        let (taps, sources) = (window.taps(), window.sources(input)?);
        let (available, plane) = (sources.len() / taps, input.iter().product());
        let dims = [*samples, *all_channels, plane];
        let shape = Shape::Patches { taps, sources: sources.into(), channels };
        Ok(Self::new(row_major(activation), dims, shape, available, positions))
    }

    fn new(
        data: Cow<'a, [f32]>,
        dims: [usize; 3],
        shape: Shape,
        available: usize,
        wanted: Positions,
    ) -> Self {
        let count = dims[0];
        let samples = wanted.samples(count);
        let chosen = match &samples {
            Some(samples) => wanted.chosen(samples, available),
            None => wanted.chosen(&(0..count).collect::<Vec<_>>(), available),
        };
        let per_sample = wanted.per_sample(available);
        let (samples, chosen) = (samples.map(Arc::from), chosen.map(Arc::from));
        Rows { data, dims, shape, per_sample, samples, chosen, left: None }
    }

    /// Rows of a convolution's output `[samples, channels, spatial…]`: the channels at a position.
    ///
    /// # Errors
    /// As [`Rows::patches`].
    pub fn channels(
        activation: ArrayViewD<'a, f32>,
        channels: Range<usize>,
        positions: Positions,
    ) -> Result<Self> {
        let rank = activation.ndim().saturating_sub(2);
        Self::patches(activation, &Window::pointwise(rank), channels, positions)
    }

    /// The same positions of some channels only, of a convolution.
    pub(super) fn of_channels(&self, own: Range<usize>) -> Rows<'_> {
        let shape = match &self.shape {
            Shape::Features => Shape::Features,
            Shape::Patches { taps, sources, .. } => {
                Shape::Patches { taps: *taps, sources: Arc::clone(sources), channels: own }
            }
        };
        let Rows { dims, per_sample, samples, chosen, left, .. } = self;
        let (samples, chosen, left) = (samples.clone(), chosen.clone(), left.clone());
        let data = Cow::Borrowed(&*self.data);
        Rows { data, dims: *dims, shape, per_sample: *per_sample, samples, chosen, left }
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        match &self.shape {
            Shape::Features => self.dims[2],
            Shape::Patches { taps, channels, .. } => channels.len() * taps,
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.left.as_ref().map_or_else(|| self.all(), |left| left.len())
    }

    /// Number of rows before masking.
    fn all(&self) -> usize {
        self.samples() * self.per_sample
    }

    /// Keeps only the rows of tokens that are not padding.
    pub(super) fn masked(self, mask: &Mask) -> Self {
        let positions = self.dims[1];
        let counts = |row: &usize| {
            let (sample, position) = self.place(*row);
            mask.counts(sample * positions + position)
        };
        let left = Some((0..self.all()).filter(counts).collect());
        Rows { left, ..self }
    }

    /// The sample and the position of a row.
    fn place(&self, row: usize) -> (usize, usize) {
        let (sample, nth) = (row / self.per_sample, row % self.per_sample);
        let sample = self.samples.as_ref().map_or(sample, |samples| samples[sample]);
        (sample, self.chosen.as_ref().map_or(nth, |chosen| chosen[row]))
    }

    /// Number of samples that give rows.
    pub(super) fn samples(&self) -> usize {
        self.samples.as_ref().map_or(self.dims[0], |samples| samples.len())
    }

    /// Rows of each sample.
    pub(super) fn per_sample(&self) -> usize {
        self.per_sample
    }

    /// Positions of each sample, of which some give rows.
    pub(super) fn positions(&self) -> usize {
        match &self.shape {
            Shape::Features => self.dims[1],
            Shape::Patches { taps, sources, .. } => sources.len() / taps.max(&1),
        }
    }

    /// Writes the mean over the positions of each sample that gives rows, from the sample `start` on.
    /// Of many positions it takes evenly spread ones.
    pub(super) fn write_means(&self, start: usize, mut matrix: ArrayViewMut2<f32>) {
        let taken = spread(self.positions());
        let counts = self.counts(&taken);
        single_threaded_blas();
        let means = matrix.axis_iter_mut(Axis(0)).into_par_iter().enumerate();
        means.for_each(|(i, mut mean)| {
            let sample = self.samples.as_ref().map_or(start + i, |samples| samples[start + i]);
            let mut sum = vec![0.0; mean.len()];
            match &counts {
                Some(counts) => self.add_products(sample, counts, &mut sum),
                None => self.add_rows(sample, &taken, &mut sum),
            }
            let count = taken.len().max(1) as f32;
            mean.iter_mut().zip(&sum).for_each(|(mean, sum)| *mean = sum / count);
        });
    }

    /// How often each place of a plane is under each tap of a window at these positions, for windows of several
    /// taps over small planes. A product with it is faster there than a loop over patches.
    fn counts(&self, positions: &[usize]) -> Option<Array2<f32>> {
        let Shape::Patches { taps: taps @ 2.., sources, .. } = &self.shape else { return None };
        let plane = self.dims[2];
        if !(1..=MOST_PLACES).contains(&plane) {
            return None;
        }
        let mut counts = Array2::zeros((plane, *taps));
        for position in positions {
            for (tap, source) in sources[position * taps..][..*taps].iter().enumerate() {
                counts.get_mut((*source, tap)).into_iter().for_each(|count| *count += 1.0);
            }
        }
        Some(counts)
    }

    /// Adds the products of a sample's planes with the counts of places under taps.
    fn add_products(&self, sample: usize, counts: &Array2<f32>, sum: &mut [f32]) {
        let Shape::Patches { channels, .. } = &self.shape else { return };
        let (plane, sample) = (self.dims[2], self.of_sample(sample));
        let planes = &sample[channels.start * plane..channels.end * plane];
        let planes = ArrayView2::from_shape((channels.len(), plane), planes);
        let products = planes.map(|planes| planes.dot(counts));
        sum.iter_mut().zip(products.iter().flatten()).for_each(|(sum, product)| *sum += product);
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills a matrix with [`Rows::width`] columns with the rows from `start` on.
    ///
    /// # Panics
    /// If there are too few rows, or the matrix has another width.
    pub fn write(&self, start: usize, mut matrix: ArrayViewMut2<f32>) {
        /// Rows per task of a thread.
        const RUN: usize = 64;
        assert_eq!(matrix.ncols(), self.width(), "rows are as wide as the layer's input");
        let runs = matrix.axis_chunks_iter_mut(Axis(0), RUN).into_par_iter().enumerate();
        runs.for_each(|(run, mut rows)| {
            let first = start + run * RUN;
            if let Some(rows) = rows.as_slice_mut() {
                let rows = (first..).zip(rows.chunks_exact_mut(self.width().max(1)));
                rows.for_each(|(index, row)| self.fill(index, row));
                return;
            }
            for (index, mut row) in (first..).zip(rows.rows_mut()) {
                match row.as_slice_mut() {
                    Some(row) => self.fill(index, row),
                    None => {
                        let mut apart = vec![0.0; row.len()];
                        self.fill(index, &mut apart);
                        row.iter_mut().zip(&apart).for_each(|(to, from)| *to = *from);
                    }
                }
            }
        });
    }

    fn fill(&self, index: usize, row: &mut [f32]) {
        let taken = self.left.as_ref().map_or(index, |left| left[index]);
        let (sample, position) = self.place(taken);
        self.fill_from(sample, position, row);
    }

    // Slices, since a view of each of many short rows takes more time than its values.
    fn fill_from(&self, sample: usize, position: usize, row: &mut [f32]) {
        let last = self.dims[2];
        let sample = self.of_sample(sample);
        match &self.shape {
            Shape::Features => row.copy_from_slice(&sample[position * last..][..last]),
            Shape::Patches { taps: 1, sources, channels } if last > 0 => {
                let planes = sample[channels.start * last..].chunks(last);
                let source = sources[position];
                row.iter_mut().zip(planes).for_each(|(to, plane)| *to = at(plane, source));
            }
            Shape::Patches { taps, sources, channels } => {
                let sources = &sources[position * taps..][..*taps];
                for (place, channel) in channels.clone().enumerate() {
                    let plane = &sample[channel * last..][..last];
                    gather(plane, sources, &mut row[place * taps..][..*taps], |to, from| {
                        *to = from
                    });
                }
            }
        }
    }

    /// Adds the rows at some positions of a sample.
    fn add_rows(&self, sample: usize, positions: &[usize], sum: &mut [f32]) {
        let last = self.dims[2];
        let sample = self.of_sample(sample);
        match &self.shape {
            Shape::Features => positions.iter().for_each(|position| {
                let row = &sample[position * last..][..last];
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }),
            Shape::Patches { taps: 1, sources, channels } if last > 0 => {
                let planes = sample[channels.start * last..].chunks(last);
                let of_plane = |plane| positions.iter().map(move |p| at(plane, sources[*p]));
                let channels = sum.iter_mut().zip(planes);
                channels.for_each(|(sum, plane)| of_plane(plane).for_each(|value| *sum += value));
            }
            Shape::Patches { taps, sources, channels } => {
                for (place, channel) in channels.clone().enumerate() {
                    let plane = &sample[channel * last..][..last];
                    let sum = &mut sum[place * taps..][..*taps];
                    for position in positions {
                        let sources = &sources[position * taps..][..*taps];
                        gather(plane, sources, sum, |sum, value| *sum += value);
                    }
                }
            }
        }
    }

    fn of_sample(&self, sample: usize) -> &[f32] {
        let size = self.dims[1] * self.dims[2];
        &self.data[sample * size..][..size]
    }
}

/// A channel's value at a place of its plane; outside of the plane is padding.
fn at(plane: &[f32], source: usize) -> f32 {
    plane.get(source).copied().unwrap_or(0.0)
}

/// Calls `put` with each entry of a patch and its value: one channel's values under the kernel. Sources
/// outside of the plane are padding.
fn gather(plane: &[f32], sources: &[usize], patch: &mut [f32], put: impl Fn(&mut f32, f32)) {
    let sources = &sources[..patch.len()];
    for tap in 0..patch.len() {
        put(&mut patch[tap], at(plane, sources[tap]));
    }
}

/// Rows per chunk of `width` columns: few enough to bound memory, and enough for an efficient product.
/// This depends on nothing else, so that sums are the same everywhere.
pub fn chunk_rows(width: usize) -> usize {
    (CHUNK_BYTES / (4 * width.max(1))).clamp(256, 8192)
}

fn row_major(activation: ArrayViewD<'_, f32>) -> Cow<'_, [f32]> {
    if let Some(values) = activation.to_slice() {
        return Cow::Borrowed(values);
    }
    let mut values = Vec::with_capacity(activation.len());
    // Mostly samples and positions have changed places, and features are runs.
    for run in activation.rows() {
        match run.to_slice() {
            Some(run) => values.extend_from_slice(run),
            None => values.extend(run),
        }
    }
    Cow::Owned(values)
}

fn bad_shape(dims: &[usize], wanted: &str) -> Error {
    Error::new(ErrorKind::Calibration, format!("an activation of shape {dims:?} is not {wanted}"))
}

#[cfg(test)]
mod tests;

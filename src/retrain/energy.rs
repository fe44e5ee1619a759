//! The energy of targets, by which squared errors are divided.

use ndarray::{ArrayD, Axis};

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::HostArray;

/// Sums over samples that come in pieces.
#[derive(Default)]
pub(super) struct Spread {
    samples: f64,
    mean: Option<ArrayD<f64>>,
    /// Sum of the squared distances from the mean.
    squares: f64,
}

impl Spread {
    /// Adds targets, whose samples are counted along `axis`.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] where samples are of another shape than those before.
    pub(super) fn add(&mut self, targets: &HostArray, axis: usize) -> Result<()> {
        let targets = targets.as_f32()?.mapv(f64::from);
        let axis = Axis(if axis < targets.ndim() { axis } else { 0 });
        let samples = targets.shape().get(axis.index()).copied().unwrap_or(0) as f64;
        let mean = if targets.ndim() > 0 { targets.mean_axis(axis) } else { None };
        let Some(mean) = mean else { return Ok(()) };
        let squares: f64 =
            targets.axis_iter(axis).map(|row| (&row - &mean).mapv(|v| v * v).sum()).sum();
        let Some(before) = self.mean.take() else {
            *self = Spread { samples, mean: Some(mean), squares };
            return Ok(());
        };
        if before.shape() != mean.shape() {
            let message = "the original model's outputs change their shape between batches";
            return Err(Error::new(ErrorKind::Backend, message));
        }
        let (all, apart) = (self.samples + samples, mean - &before);
        let between = apart.mapv(|v| v * v).sum() * self.samples * samples / all;
        self.mean = Some(before + apart * (samples / all));
        self.squares += squares + between;
        self.samples = all;
        Ok(())
    }

    /// The mean squared distance of samples from the mean sample; 1 if all are equal.
    pub(super) fn energy(&self) -> f32 {
        let energy = (self.squares / self.samples.max(1.0)) as f32;
        if energy.is_finite() && energy > 0.0 { energy } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    /// The energy of pieces of so many samples, which are counted along `axis`.
    fn energy(targets: &Array2<f32>, axis: usize, piece: usize) -> f32 {
        let mut spread = Spread::default();
        for part in targets.axis_chunks_iter(Axis(axis), piece) {
            spread.add(&part.to_owned().into_dyn().into(), axis).unwrap();
        }
        spread.energy()
    }

    #[test]
    fn energy_is_the_variance_of_whole_samples() {
        assert_eq!(energy(&array![[1.0, 0.0], [3.0, 4.0]], 0, 2), 5.0);
        assert_eq!(energy(&array![[1.0, 3.0], [0.0, 4.0]], 1, 2), 5.0);
        assert_eq!(energy(&array![[1.0], [1.0]], 0, 2), 1.0);
    }

    #[test]
    fn energy_does_not_depend_on_the_pieces() {
        let targets =
            Array2::from_shape_fn((12, 3), |(n, i)| 100.0 + ((7 * n + 5 * i) % 11) as f32);
        let whole = energy(&targets, 0, 12);
        for piece in [1, 4, 5] {
            let found = energy(&targets, 0, piece);
            assert!((found - whole).abs() < 1e-5 * whole, "{found} {whole}");
        }
        assert_eq!(energy(&Array2::from_elem((12, 3), 0.1), 0, 4), 1.0);
    }

    #[test]
    fn samples_of_another_shape_are_an_error() {
        let mut spread = Spread::default();
        spread.add(&array![[1.0f32, 2.0]].into_dyn().into(), 0).unwrap();
        let error = spread.add(&array![[1.0f32]].into_dyn().into(), 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend);
    }
}

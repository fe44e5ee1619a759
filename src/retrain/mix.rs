//! Mixtures of two samples (mixup), as additional samples.

use ndarray::Axis;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::Result;
use crate::runtime::HostArray;

/// The part of each row in its mixture, uniform from 0 to 1; the rest comes from the next row. It
/// depends only on seed and step, so training can resume at any step.
pub(super) fn parts(rows: usize, seed: u64, step: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1 + step as u64);
    (0..rows).map(|_| rng.random()).collect()
}

/// Mixes each sample of a batch, along `axis`, with the next one, and the last with the first. What has another
/// number of rows than there are parts, as a single number, stays the same.
///
/// # Errors
/// [`crate::error::ErrorKind::Unsupported`] for values that are not floating point.
pub(super) fn mixed(batch: &HostArray, axis: usize, parts: &[f32]) -> Result<HostArray> {
    let values = batch.as_f32()?;
    if batch.shape().get(axis) != Some(&parts.len()) {
        return Ok(batch.clone());
    }
    let mut result = values.clone();
    let next = (1..parts.len()).chain([0]);
    for ((mut row, next), part) in result.axis_iter_mut(Axis(axis)).zip(next).zip(parts) {
        row.zip_mut_with(&values.index_axis(Axis(axis), next), |own, other| {
            *own = part * *own + (1.0 - part) * other;
        });
    }
    HostArray::from(result).cast(batch.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn rows_are_mixed_with_their_successors() {
        let batch = HostArray::from(array![[0.0f32, 4.0], [1.0, 8.0], [2.0, 0.0]].into_dyn());
        let parts = [1.0, 0.5, 0.25];
        let mixture = array![[0.0f32, 4.0], [1.5, 4.0], [0.5, 3.0]];
        assert_eq!(mixed(&batch, 0, &parts).unwrap(), mixture.clone().into_dyn().into());
        let states = batch.clone().permuted(&[1, 0]).unwrap();
        let mixture = HostArray::from(mixture.reversed_axes().into_dyn()).into_row_major();
        assert_eq!(mixed(&states, 1, &parts).unwrap(), mixture);
        assert_eq!(mixed(&states, 0, &parts).unwrap(), states);
        assert!(mixed(&HostArray::from(array![1i64, 2].into_dyn()), 0, &[0.5, 0.5]).is_err());
    }

    #[test]
    fn parts_depend_on_seed_and_step() {
        assert_eq!(parts(9, 1, 4), parts(9, 1, 4));
        assert_ne!(parts(9, 1, 4), parts(9, 1, 5));
        assert_ne!(parts(9, 1, 4), parts(9, 2, 4));
        assert!(parts(99, 1, 4).iter().all(|part| (0.0..1.0).contains(part)));
    }
}

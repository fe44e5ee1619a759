//! Random samples, used without data.

use std::f64::consts::TAU;

use ndarray::{ArrayD, IxDyn};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, ErrorKind, Result};
use crate::ir::DataType;
use crate::runtime::{HostArray, Port};

/// Samples of one input. Each is drawn from its own stream of random numbers, so that it is the same in
/// any batch.
#[derive(Debug)]
pub(super) struct Generator {
    seed: u64,
    dtype: DataType,
    sample: Vec<usize>,
    pub(super) len: usize,
    /// Integers are below this.
    below: i64,
}

impl Generator {
    /// Samples of shape `sample` for the input number `index`.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] if there are no random numbers of the input's element type.
    pub(super) fn new(
        port: &Port,
        index: usize,
        sample: Vec<usize>,
        len: usize,
        seed: u64,
    ) -> Result<Self> {
        const INPUTS_APART: u64 = 0x9e37_79b9_7f4a_7c15;
        let seed = seed.wrapping_add(INPUTS_APART.wrapping_mul(index as u64));
        let generator = Generator { seed, dtype: port.dtype, sample, len, below: 2 };
        generator.rows(&[]).map(|_| generator).map_err(|error| {
            Error::new(
                ErrorKind::Calibration,
                format!("no samples can be made up for input '{}'", port.name),
            )
            .because(error)
        })
    }

    /// Limits integers to the rows of a table, if the input has one.
    pub(super) fn below(self, rows: Option<usize>) -> Self {
        Generator { below: rows.map_or(self.below, |rows| rows.max(1) as i64), ..self }
    }

    /// The samples `rows`: floats from N(0, 1), integers that are rows of a table, else 0 or 1, which
    /// masks need.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for element types that arrays cannot have.
    pub(super) fn rows(&self, rows: &[usize]) -> Result<HostArray> {
        let per_row: usize = self.sample.iter().product();
        let mut values = Vec::with_capacity(rows.len() * per_row);
        let floats = self.dtype.is_float();
        // Limits of bytes and booleans.
        let below = match self.dtype {
            DataType::Bool => 2,
            DataType::U8 | DataType::I8 => self.below.min(128),
            _ => self.below,
        };
        for row in rows {
            let mut random = ChaCha8Rng::seed_from_u64(self.seed);
            random.set_stream(*row as u64);
            values.extend((0..per_row).map(|_| {
                if floats {
                    normal(&mut random)
                } else if below == 2 {
                    f64::from(u8::from(random.random::<bool>()))
                } else {
                    random.random_range(0..below) as f64
                }
            }));
        }
        let mut shape = vec![rows.len()];
        shape.extend(&self.sample);
        let array = ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(|error| {
            Error::new(ErrorKind::Calibration, "too many values").because(error)
        })?;
        if floats {
            HostArray::from(array).cast(self.dtype)
        } else {
            HostArray::from(array.mapv(|v| v as i64)).cast(self.dtype)
        }
    }
}

/// One draw from N(0, 1) by the method of Box and Muller.
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (TAU * random.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator(dtype: DataType, index: usize, seed: u64) -> Result<Generator> {
        let port = Port { name: "x".into(), dtype, shape: None };
        Generator::new(&port, index, vec![50, 2], 100, seed)
    }

    #[test]
    fn a_sample_is_the_same_in_every_batch_and_differs_from_others() {
        let draws = generator(DataType::F32, 0, 7).unwrap();
        let both = draws.rows(&[3, 4]).unwrap();
        assert_eq!(both.slice_rows(1..2).unwrap(), draws.rows(&[4]).unwrap());
        assert_ne!(draws.rows(&[3]).unwrap(), draws.rows(&[4]).unwrap());
        for (index, seed) in [(1, 7), (0, 8)] {
            let other = generator(DataType::F32, index, seed).unwrap();
            assert_ne!(other.rows(&[3]).unwrap(), draws.rows(&[3]).unwrap());
        }
    }

    #[test]
    fn floats_have_mean_zero_and_variance_one() {
        let rows: Vec<usize> = (0..100).collect();
        let draws = generator(DataType::F64, 0, 1).unwrap().rows(&rows).unwrap();
        let HostArray::F64(draws) = draws else { panic!("not doubles") };
        let count = draws.len() as f64;
        let mean = draws.sum() / count;
        let variance = draws.mapv(|v| (v - mean).powi(2)).sum() / count;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn integers_are_zeros_and_ones_and_strings_are_refused() {
        for dtype in [DataType::I64, DataType::I32, DataType::U8, DataType::Bool] {
            let draws = generator(dtype, 0, 1).unwrap().rows(&[0]).unwrap();
            assert_eq!(draws.dtype(), dtype);
            let values = draws.integers().unwrap();
            assert!(values.iter().all(|v| matches!(v, 0 | 1)));
            assert!(values.iter().any(|v| *v == 0) && values.iter().any(|v| *v == 1));
        }
        let error = generator(DataType::Other(8), 0, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Calibration);
        assert!(error.to_string().contains("input 'x'"), "{error}");
    }
}

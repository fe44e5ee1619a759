//! Quantised constants: integers with a scale and a zero point, as `DequantizeLinear` reads them.
//!
//! The graph holds such a constant as floats. If all of them are still exact multiples of the scale when
//! the graph is written, the file gets integers again.

use ndarray::{ArrayD, IxDyn};

use super::tensor::{DataType, Tensor};

/// The quantisation with which a float constant was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes {
    /// Type of the integers.
    pub dtype: DataType,
    /// Axis with one scale per index; ignored if one scale serves all elements.
    pub axis: usize,
    /// Scales; they have the constant's type.
    pub scale: Tensor,
    /// Zero points, in the shape of the scales; `None` for zeros.
    pub zero: Option<Tensor>,
}

impl Codes {
    /// Whether there is one scale for all elements.
    pub fn is_uniform(&self) -> bool {
        self.scale.len() == 1
    }

    /// The floats that these integers encode; `None` if shapes or types do not fit the scales.
    pub fn decode(&self, codes: &Tensor) -> Option<Tensor> {
        let dims = IxDyn(&codes.dims);
        let codes = ArrayD::from_shape_vec(dims.clone(), codes.to_i64()?).ok()?;
        let (scale, zero) = self.aligned(codes.ndim(), self.axis)?;
        let shifted = (&codes - &zero.broadcast(dims.clone())?).mapv(|v| v as f64);
        Tensor::from_f64(self.scale.dtype, &(&shifted * &scale.broadcast(dims)?)).ok()
    }

    /// The integers that encode a constant exactly, and the axis of their scales; `None` if there are
    /// none. The axis differs from `self.axis` if the constant was transposed.
    pub fn encode(&self, tensor: &Tensor) -> Option<(Tensor, usize)> {
        if tensor.dtype != self.scale.dtype {
            return None;
        }
        let axes = 0..if self.is_uniform() { 1 } else { tensor.dims.len() };
        let mut axes: Vec<usize> = axes.collect();
        axes.sort_by_key(|axis| *axis != self.axis);
        axes.into_iter().find_map(|axis| Some((self.encode_along(tensor, axis)?, axis)))
    }

    fn encode_along(&self, tensor: &Tensor, axis: usize) -> Option<Tensor> {
        let values = tensor.to_f64().ok()?;
        let (scale, zero) = self.aligned(values.ndim(), axis)?;
        let steps = (&values / &scale.broadcast(values.dim())?).mapv(f64::round);
        if steps.iter().any(|step| step.is_nan() || step.abs() >= 2f64.powi(32)) {
            return None;
        }
        let codes = steps.mapv(|step| step as i64) + &zero.broadcast(values.dim())?;
        let codes = Tensor::from_ints(self.dtype, &codes)?;
        let own = Codes { axis, ..self.clone() };
        (own.decode(&codes).as_ref() == Some(tensor)).then_some(codes)
    }

    /// Scales and zero points, shaped to broadcast over an array of `rank` axes.
    fn aligned(&self, rank: usize, axis: usize) -> Option<(ArrayD<f64>, ArrayD<i64>)> {
        let mut dims = vec![1; rank];
        if !self.is_uniform() {
            *dims.get_mut(axis)? = self.scale.len();
        }
        let scale = self.scale.to_f64().ok()?.into_shape_with_order(IxDyn(&dims)).ok()?;
        let zero = match &self.zero {
            Some(zero) => zero.to_i64()?,
            None => vec![0; self.scale.len()],
        };
        Some((scale, ArrayD::from_shape_vec(IxDyn(&dims), zero).ok()?))
    }

    /// The quantisation of the entries `positions` along `axis`.
    pub fn select(&self, axis: usize, positions: &[usize]) -> Option<Codes> {
        if self.is_uniform() || axis != self.axis {
            return Some(self.clone());
        }
        let zero = match &self.zero {
            Some(zero) => Some(zero.select(0, positions)?),
            None => None,
        };
        Some(Codes { scale: self.scale.select(0, positions)?, zero, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{arr1, arr2};

    fn codes() -> Codes {
        let zero = arr1(&[3i64, -2, 0]).into_dyn();
        Codes {
            dtype: DataType::I8,
            axis: 0,
            scale: Tensor::from_f32(&arr1(&[0.1f32, 0.037, 3.0]).into_dyn()),
            zero: Tensor::from_ints(DataType::I8, &zero),
        }
    }

    fn stored() -> Tensor {
        let numbers = arr2(&[[-128i64, 127], [5, -7], [0, 1]]).into_dyn();
        Tensor::from_ints(DataType::I8, &numbers).unwrap()
    }

    #[test]
    fn numbers_come_back_from_what_they_stand_for() {
        let floats = codes().decode(&stored()).unwrap();
        assert_eq!(floats.to_f32().unwrap()[[2, 1]], 3.0);
        assert_eq!(codes().encode(&floats), Some((stored(), 0)));
        let rows = codes().select(0, &[2, 0]).unwrap();
        let (part, _) = rows.encode(&floats.select(0, &[2, 0]).unwrap()).unwrap();
        assert_eq!(Some(part), stored().select(0, &[2, 0]));
    }

    #[test]
    fn other_values_have_no_numbers() {
        let mut floats = codes().decode(&stored()).unwrap().to_f32().unwrap();
        floats[[1, 1]] *= 1.01;
        assert_eq!(codes().encode(&Tensor::from_f32(&floats)), None);
        floats[[1, 1]] = f32::INFINITY;
        assert_eq!(codes().encode(&Tensor::from_f32(&floats)), None);
    }
}

//! Quantised constants: integers with a scale and a zero point, as `DequantizeLinear` reads them.
//!
//! The graph holds such a constant as floats. If all of them are still exact multiples of the scale when
//! the graph is written, the file gets integers again.

use ndarray::{ArrayD, Axis, IxDyn};

use super::data_type::DataType;
use super::tensor::Tensor;

/// The quantisation with which a float constant was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes {
    /// Type of the integers.
    pub dtype: DataType,
    /// Axis with one scale per index, or per block of indices if the scales have as many axes as the constant;
    /// ignored if one scale serves all elements.
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

    /// Whether there is a scale for each block of several indices.
    pub fn is_blocked(&self) -> bool {
        self.scale.dims.len() > 1 && !self.is_uniform()
    }

    /// The same codes with their scales along another axis. Codes of blocks become those of the transposed
    /// matrix.
    pub fn along(&self, axis: usize) -> Option<Codes> {
        if axis == self.axis || !self.is_blocked() {
            return Some(Codes { axis, ..self.clone() });
        }
        let zero = match &self.zero {
            Some(zero) => Some(zero.transposed()?),
            None => None,
        };
        Some(Codes { axis, scale: self.scale.transposed()?, zero, ..self.clone() })
    }

    /// The codes of a constant that loses its first `count` axes, each of extent 1.
    pub fn behind(&self, count: usize) -> Option<Codes> {
        let inner = |tensor: &Tensor| match tensor.dims.len() {
            0 | 1 => Some(tensor.clone()),
            _ => Some(Tensor { dims: tensor.dims.get(count..)?.to_vec(), ..tensor.clone() }),
        };
        let zero = match &self.zero {
            Some(zero) => Some(inner(zero)?),
            None => None,
        };
        let axis = self.axis.saturating_sub(count);
        Some(Codes { axis, scale: inner(&self.scale)?, zero, ..self.clone() })
    }

    /// The floats that these integers encode; `None` if shapes or types do not fit the scales.
    pub fn decode(&self, codes: &Tensor) -> Option<Tensor> {
        let dims = IxDyn(&codes.dims);
        let codes = ArrayD::from_shape_vec(dims.clone(), codes.to_i64()?).ok()?;
        let (scale, zero) = self.aligned(codes.shape())?;
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
        let own = self.along(axis)?;
        let (scale, zero) = own.aligned(values.shape())?;
        let steps = (&values / &scale.broadcast(values.dim())?).mapv(f64::round);
        if steps.iter().any(|step| step.is_nan() || step.abs() >= 2f64.powi(32)) {
            return None;
        }
        let codes = steps.mapv(|step| step as i64) + &zero.broadcast(values.dim())?;
        let codes = Tensor::from_ints(self.dtype, &codes)?;
        (own.decode(&codes).as_ref() == Some(tensor)).then_some(codes)
    }

    /// Scales and zero points, shaped to broadcast over an array of this shape.
    fn aligned(&self, shape: &[usize]) -> Option<(ArrayD<f64>, ArrayD<i64>)> {
        let mut dims = vec![1; shape.len()];
        if self.is_blocked() {
            dims.clone_from(&self.scale.dims);
        } else if !self.is_uniform() {
            *dims.get_mut(self.axis)? = self.scale.len();
        }
        let scale = self.scale.to_f64().ok()?.into_shape_with_order(IxDyn(&dims)).ok()?;
        let zero = match &self.zero {
            Some(zero) => zero.to_i64()?,
            None => vec![0; self.scale.len()],
        };
        let zero = ArrayD::from_shape_vec(IxDyn(&dims), zero).ok()?;
        if !self.is_blocked() {
            return Some((scale, zero));
        }
        let (extent, blocks) = (*shape.get(self.axis)?, *dims.get(self.axis)?);
        let size =
            extent.checked_div(blocks).filter(|size| size * blocks == extent && *size > 0)?;
        let block_of: Vec<usize> = (0..extent).map(|index| index / size).collect();
        let spread = Axis(self.axis);
        Some((scale.select(spread, &block_of), zero.select(spread, &block_of)))
    }

    /// The quantisation of the entries `positions` along `axis`; `None` if a block is taken apart.
    pub fn select(&self, axis: usize, positions: &[usize]) -> Option<Codes> {
        if self.is_uniform() || (axis != self.axis && !self.is_blocked()) {
            return Some(self.clone());
        }
        let (along, positions) = match self.is_blocked() {
            true if axis == self.axis => (axis, self.blocks(positions)?),
            true => (axis, positions.to_vec()),
            false => (0, positions.to_vec()),
        };
        let zero = match &self.zero {
            Some(zero) => Some(zero.select(along, &positions)?),
            None => None,
        };
        Some(Codes { scale: self.scale.select(along, &positions)?, zero, ..self.clone() })
    }

    /// The blocks in `positions`, if `positions` has all indices of the axis, in whole blocks.
    fn blocks(&self, positions: &[usize]) -> Option<Vec<usize>> {
        let count = *self.scale.dims.get(self.axis)?;
        let size = positions.len().checked_div(count).filter(|size| *size > 0)?;
        let block = |block: &[usize]| {
            let first = *block.first()?;
            let is_run = block.iter().enumerate().all(|(i, place)| *place == first + i);
            (is_run && first % size == 0 && block.len() == size).then_some(first / size)
        };
        positions.chunks(size).map(block).collect()
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

    #[test]
    fn a_matrix_of_a_stack_of_one_keeps_its_codes() {
        let in_stack = |tensor: &Tensor| Tensor {
            dims: [&[1], tensor.dims.as_slice()].concat(),
            ..tensor.clone()
        };
        let matrix = Tensor::from_ints(DataType::I8, &arr2(&[[3i64, -4], [5, 6]]).into_dyn());
        let matrix = matrix.unwrap();
        let per_row = Tensor::from_f32(&arr1(&[0.5f32, 0.25]).into_dyn());
        let blocked = Tensor::from_f32(&arr2(&[[0.5f32], [0.25]]).into_dyn());
        for (axis, scale) in [(1, per_row), (2, in_stack(&blocked))] {
            let codes = Codes { dtype: DataType::I8, axis, scale, zero: None };
            let floats = codes.decode(&in_stack(&matrix)).unwrap();
            let inner = Tensor { dims: vec![2, 2], ..floats };
            let found = codes.behind(1).unwrap().encode(&inner);
            assert_eq!(found, Some((matrix.clone(), axis - 1)));
        }
    }

    #[test]
    fn blocks_have_scales_of_their_own() {
        let scale = arr2(&[[0.1f32, 2.0], [0.5, 0.037]]).into_dyn();
        let codes = Codes {
            dtype: DataType::I4,
            axis: 1,
            scale: Tensor::from_f32(&scale),
            zero: Tensor::from_ints(DataType::I4, &arr2(&[[0i64, 1], [-2, 0]]).into_dyn()),
        };
        let numbers = arr2(&[[-8i64, 7, 1, 2], [3, 4, -5, 6]]).into_dyn();
        let stored = Tensor::from_ints(DataType::I4, &numbers).unwrap();
        let floats = codes.decode(&stored).unwrap();
        assert_eq!(floats.to_f32().unwrap()[[0, 3]], 2.0);
        assert_eq!(codes.encode(&floats), Some((stored.clone(), 1)));
        // Also of the matrix with its axes exchanged, of some rows, and of blocks in another order.
        let turned = (stored.transposed().unwrap(), 0);
        assert_eq!(codes.encode(&floats.transposed().unwrap()), Some(turned));
        for (axis, places) in [(0, vec![1]), (1, vec![2, 3, 0, 1])] {
            let (own, part) = (codes.select(axis, &places).unwrap(), floats.select(axis, &places));
            let wanted = stored.select(axis, &places).unwrap();
            assert_eq!(own.encode(&part.unwrap()), Some((wanted, 1)));
        }
        assert_eq!(codes.select(1, &[1, 2, 3, 0]), None, "a block is taken apart");
    }
}

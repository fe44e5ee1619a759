//! Constants that a file stores in few bits: integers with a scale and a zero point, as `DequantizeLinear` reads
//! them, or floats of half precision, which a `Cast` widens.
//!
//! The graph holds such a constant as floats. If all of them are still exact multiples of the scale when
//! the graph is written, or exact in half precision, the file gets the few bits again.

mod joined;
mod places;

use ndarray::{ArrayD, Axis, IxDyn, Zip, arr0};

use super::data_type::DataType;
use super::tensor::Tensor;

/// The quantisation with which a float constant was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes {
    /// Type of the integers, or of the floats of half precision, whose scale is one.
    pub dtype: DataType,
    /// Axis with one scale per index, or per block of indices if the scales have as many axes as the constant;
    /// ignored if one scale serves all elements.
    pub axis: usize,
    /// Scales; they have the constant's type.
    pub scale: Tensor,
    /// Zero points, in the shape of the scales; `None` for zeros.
    pub zero: Option<Tensor>,
    /// Whether the net had a `DequantizeLinear` right in front of a product, where ONNX Runtime computes with less
    /// precision. Files keep what stood between other constants and their products.
    pub direct: bool,
    /// Indices per block, where there is a scale for each block.
    pub block: usize,
    /// For each index of `axis`, its place among the stored integers; `None` if it is the index itself. Places that
    /// no index has are stored, too, so that blocks are whole.
    pub places: Option<Vec<usize>>,
}

impl Codes {
    /// The codes of a constant with one scale for all, or for each index of `axis`.
    pub fn new(dtype: DataType, axis: usize, scale: Tensor, zero: Option<Tensor>) -> Codes {
        Codes { dtype, axis, scale, zero, direct: false, block: 0, places: None }
    }

    /// The codes of a constant of type `wide` that is stored in half precision; `None` for other types.
    pub fn of_half(half: DataType, wide: DataType) -> Option<Codes> {
        let is_half = matches!(half, DataType::F16 | DataType::BF16);
        let is_wide = matches!(wide, DataType::F32 | DataType::F64);
        let scale = Tensor::from_f64(wide, &arr0(1.0).into_dyn()).ok()?;
        (is_half && is_wide).then_some(Codes::new(half, 0, scale, None))
    }

    /// Whether the constant is stored in half precision, and not as integers.
    pub fn is_half(&self) -> bool {
        self.dtype.is_float()
    }

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

    /// The codes of the transpose of a matrix.
    pub fn turned(&self) -> Option<Codes> {
        self.along(1 - self.axis.min(1))
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
        if self.is_half() {
            return Tensor::from_f64(self.scale.dtype, &codes.to_f64().ok()?).ok();
        }
        let dims = IxDyn(&codes.dims);
        let codes = ArrayD::from_shape_vec(dims.clone(), codes.to_i64()?).ok()?;
        let (scale, zero) = self.aligned(codes.shape())?;
        let shifted = (&codes - &zero.broadcast(dims.clone())?).mapv(|v| v as f64);
        Tensor::from_f64(self.scale.dtype, &(&shifted * &scale.broadcast(dims)?)).ok()
    }

    /// The integers that floats become in a `QuantizeLinear`: the nearest ones within the type's range, of two that
    /// are as near the even one. `None` for floats that are not finite, and if shapes or types do not fit.
    pub fn quantise(&self, floats: &Tensor) -> Option<Tensor> {
        let (least, most) = self.dtype.code_range()?;
        if floats.dtype == DataType::F64 {
            return None;
        }
        let values = floats.to_f64().ok()?;
        let (scale, zero) = self.aligned(values.shape())?;
        if scale.iter().any(|scale| !scale.is_normal() || *scale < 0.0) {
            return None;
        }
        // Runtimes divide in single precision.
        let steps = (&values / &scale.broadcast(values.dim())?).mapv(|v| f64::from(v as f32));
        if steps.iter().any(|step| !step.is_finite()) {
            return None;
        }
        let zero = zero.broadcast(values.dim())?;
        let codes = Zip::from(&steps).and(&zero).map_collect(|step, zero| {
            (step.round_ties_even() as i64).saturating_add(*zero).clamp(least, most)
        });
        Tensor::from_ints(self.dtype, &codes)
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
        if self.is_half() {
            let codes = Tensor::from_f64(self.dtype, &values).ok()?;
            return (self.decode(&codes).as_ref() == Some(tensor)).then_some(codes);
        }
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
        let block_of: Vec<usize> = match &self.places {
            Some(places) => {
                let blocks_of = places.iter().map(|place| place.checked_div(self.block));
                blocks_of.collect::<Option<Vec<usize>>>()?
            }
            None => {
                let size = extent.checked_div(blocks);
                let size = size.filter(|size| size * blocks == extent && *size > 0)?;
                (0..extent).map(|index| index / size).collect()
            }
        };
        if block_of.len() != extent || block_of.iter().any(|block| *block >= blocks) {
            return None;
        }
        let spread = Axis(self.axis);
        Some((scale.select(spread, &block_of), zero.select(spread, &block_of)))
    }

    /// The quantisation of the entries `positions` along `axis`; `None` if little of the blocks is left.
    pub fn select(&self, axis: usize, positions: &[usize]) -> Option<Codes> {
        if self.is_uniform() || (axis != self.axis && !self.is_blocked()) {
            return Some(self.clone());
        }
        let (along, positions) = match self.is_blocked() {
            true if axis == self.axis => match self.blocks(positions) {
                Some(blocks) => (axis, blocks),
                None => return self.scattered(positions),
            },
            true => (axis, positions.to_vec()),
            false => (0, positions.to_vec()),
        };
        // A scale that is left of several blocks is one for all.
        let part = |tensor: &Tensor| {
            let part = tensor.select(along, &positions)?;
            let is_one = part.len() == 1 && part.dims.len() > 1;
            Some(if is_one { Tensor { dims: Vec::new(), ..part } } else { part })
        };
        let zero = match &self.zero {
            Some(zero) => Some(part(zero)?),
            None => None,
        };
        let scale = part(&self.scale)?;
        let (block, places) = match scale.dims.is_empty() {
            true => (0, None),
            false => (self.block, self.places.clone()),
        };
        Some(Codes { scale, zero, block, places, ..self.clone() })
    }
}

#[cfg(test)]
mod tests;

//! Types of values, and constant tensors.

use bytes::Bytes;
use ndarray::{ArrayD, IxDyn};

use super::data_type::DataType;
use super::half_bytes;
use super::size::Dim;
use crate::error::{Error, ErrorKind, Result};

/// Element type and shape of a value; `shape` is `None` where even the rank is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorType {
    /// Element type.
    pub dtype: DataType,
    /// Dimensions, outermost first.
    pub shape: Option<Vec<Dim>>,
}

/// A constant tensor: little-endian elements in row-major order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tensor {
    /// Element type.
    pub dtype: DataType,
    /// Sizes, outermost first; empty for a scalar.
    pub dims: Vec<usize>,
    /// `product(dims) × dtype.size()` bytes for whole-byte types; elements below one byte are packed
    /// as in `TensorProto.raw_data`; strings are the encoded field `TensorProto.string_data`.
    pub data: Bytes,
}

impl Tensor {
    /// A scalar: 0, `false` or the empty string. It has no data for other types whose elements are not
    /// whole bytes.
    pub fn zero(dtype: DataType) -> Self {
        // An empty element of the field `string_data`: its tag and its length.
        let string = vec![0x32, 0];
        let data =
            if dtype == DataType::STRING { string } else { vec![0; dtype.size().unwrap_or(0)] };
        Tensor { dtype, dims: Vec::new(), data: data.into() }
    }

    /// A float tensor from a row-major array.
    pub fn from_f32(array: &ArrayD<f32>) -> Self {
        let data: Vec<u8> = array.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor { dtype: DataType::F32, dims: array.shape().to_vec(), data: data.into() }
    }

    /// A tensor of 64-bit integers.
    pub fn from_i64(dims: Vec<usize>, values: &[i64]) -> Self {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor { dtype: DataType::I64, dims, data: data.into() }
    }

    /// The entries `positions` along `axis`; `None` where there are none, or elements are neither whole nor half
    /// bytes.
    pub fn select(&self, axis: usize, positions: &[usize]) -> Option<Tensor> {
        if self.dtype.is_half_byte() {
            return self.widened()?.select(axis, positions)?.narrowed(self.dtype);
        }
        let (extent, size) = (*self.dims.get(axis)?, self.dtype.size()?);
        let inner = self.dims[axis + 1..].iter().product::<usize>() * size;
        let outer: usize = self.dims[..axis].iter().product();
        let mut data = Vec::with_capacity(outer * positions.len() * inner);
        for o in 0..outer {
            for p in positions.iter().map(|p| (*p < extent).then_some(*p)) {
                let start = (o * extent + p?) * inner;
                data.extend_from_slice(self.data.get(start..start + inner)?);
            }
        }
        let mut dims = self.dims.clone();
        dims[axis] = positions.len();
        Some(Tensor { dtype: self.dtype, dims, data: data.into() })
    }

    /// Tensors of one type behind each other along an axis; `None` if their other extents differ, or elements are no
    /// whole bytes.
    pub(crate) fn joined(parts: &[&Tensor], axis: usize) -> Option<Tensor> {
        let first = *parts.first()?;
        let size = first.dtype.size()?;
        let (outer, inner) = (first.dims.get(..axis)?, first.dims.get(axis + 1..)?);
        let mut count = 0usize;
        for part in parts {
            let is_like = part.dtype == first.dtype
                && part.dims.get(..axis)? == outer
                && part.dims.get(axis + 1..)? == inner;
            count = count.checked_add(*part.dims.get(axis).filter(|_| is_like)?)?;
        }
        let inner = inner.iter().product::<usize>() * size;
        let mut data = Vec::new();
        for o in 0..outer.iter().product::<usize>() {
            for part in parts {
                let run = part.dims.get(axis)? * inner;
                data.extend_from_slice(part.data.get(o * run..(o + 1) * run)?);
            }
        }
        let mut dims = first.dims.clone();
        *dims.get_mut(axis)? = count;
        Some(Tensor { dtype: first.dtype, dims, data: data.into() })
    }

    /// A matrix with its axes exchanged; `None` for other tensors, and where elements are neither whole nor half
    /// bytes.
    pub fn transposed(&self) -> Option<Tensor> {
        if self.dtype.is_half_byte() {
            return self.widened()?.transposed()?.narrowed(self.dtype);
        }
        let ([rows, columns], size) = (*self.dims.first_chunk()?, self.dtype.size()?);
        if self.dims.len() != 2
            || self.data.len() != rows.checked_mul(columns)?.checked_mul(size)?
        {
            return None;
        }
        let mut data = Vec::with_capacity(self.data.len());
        for column in 0..columns {
            for row in 0..rows {
                let start = (row * columns + column) * size;
                data.extend_from_slice(self.data.get(start..start + size)?);
            }
        }
        Some(Tensor { dtype: self.dtype, dims: vec![columns, rows], data: data.into() })
    }

    /// Whether its entries differ along the first axis that has several, as the rows of learned weights do.
    pub fn rows_differ(&self) -> bool {
        let rows = self.dims.iter().copied().find(|extent| *extent > 1).unwrap_or(1);
        let mut rows = self.data.chunks((self.data.len() / rows).max(1));
        let first = rows.next();
        rows.any(|row| Some(row) != first)
    }

    /// Integers of type `dtype`; `None` if one of them does not fit.
    pub fn from_ints(dtype: DataType, array: &ArrayD<i64>) -> Option<Tensor> {
        if dtype.is_half_byte() {
            let data = half_bytes::packed(dtype == DataType::I4, array.iter().copied())?;
            return Some(Tensor { dtype, dims: array.shape().to_vec(), data: data.into() });
        }
        let bytes = |v: &i64| -> Option<Vec<u8>> {
            Some(match dtype {
                DataType::I64 => v.to_le_bytes().to_vec(),
                DataType::I32 => i32::try_from(*v).ok()?.to_le_bytes().to_vec(),
                DataType::I16 => i16::try_from(*v).ok()?.to_le_bytes().to_vec(),
                DataType::I8 => i8::try_from(*v).ok()?.to_le_bytes().to_vec(),
                DataType::U32 => u32::try_from(*v).ok()?.to_le_bytes().to_vec(),
                DataType::U16 => u16::try_from(*v).ok()?.to_le_bytes().to_vec(),
                DataType::U8 => u8::try_from(*v).ok()?.to_le_bytes().to_vec(),
                DataType::Bool => vec![u8::from(*v != 0)],
                _ => return None,
            })
        };
        let data: Option<Vec<Vec<u8>>> = array.iter().map(bytes).collect();
        Some(Tensor { dtype, dims: array.shape().to_vec(), data: data?.concat().into() })
    }

    /// The same integers with 64 bits each.
    fn widened(&self) -> Option<Tensor> {
        Some(Tensor::from_i64(self.dims.clone(), &self.to_i64()?))
    }

    /// The same integers of another type.
    fn narrowed(&self, dtype: DataType) -> Option<Tensor> {
        let array = ArrayD::from_shape_vec(IxDyn(&self.dims), self.to_i64()?).ok()?;
        Tensor::from_ints(dtype, &array)
    }

    /// Element type and shape.
    pub fn ty(&self) -> TensorType {
        let shape = self.dims.iter().map(|&size| Dim::Known(size)).collect();
        TensorType { dtype: self.dtype, shape: Some(shape) }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries in a range of the outermost axis, without copying. `None` for a scalar, for elements
    /// that are not whole bytes, and for a range beyond the axis.
    pub fn rows(&self, rows: std::ops::Range<usize>) -> Option<Tensor> {
        let (count, inner) = self.dims.split_first()?;
        let row = inner.iter().product::<usize>() * self.dtype.size()?;
        let part = rows.start * row..rows.end * row;
        if rows.start > rows.end || rows.end > *count || part.end > self.data.len() {
            return None;
        }
        let mut dims = self.dims.clone();
        dims[0] = rows.len();
        Some(Tensor { dtype: self.dtype, dims, data: self.data.slice(part) })
    }

    /// The elements as `f32` (exact for f32, f16 and bf16; rounded for f64).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for types that are not floating point.
    pub fn to_f32(&self) -> Result<ArrayD<f32>> {
        let raw = &self.data;
        let values: Vec<f32> = match self.dtype {
            DataType::F32 => chunks(raw).map(f32::from_le_bytes).collect(),
            DataType::F64 => chunks(raw).map(|b| f64::from_le_bytes(b) as f32).collect(),
            DataType::F16 => chunks(raw).map(|b| half::f16::from_le_bytes(b).to_f32()).collect(),
            DataType::BF16 => chunks(raw).map(|b| half::bf16::from_le_bytes(b).to_f32()).collect(),
            other => return Err(not_float(other)),
        };
        self.shaped(values)
    }

    /// The elements as `f64`: exact for all floating-point types.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for types that are not floating point.
    pub fn to_f64(&self) -> Result<ArrayD<f64>> {
        if self.dtype != DataType::F64 {
            return Ok(self.to_f32()?.mapv(f64::from));
        }
        self.shaped(chunks(&self.data).map(f64::from_le_bytes).collect())
    }

    /// Elements as an array of the tensor's shape.
    fn shaped<T>(&self, elements: Vec<T>) -> Result<ArrayD<T>> {
        ArrayD::from_shape_vec(IxDyn(&self.dims), elements).map_err(|e| {
            Error::new(ErrorKind::Format, "a tensor's data does not fill its shape").because(e)
        })
    }

    /// A tensor of floating-point type `dtype` whose elements are those of `array`, rounded once.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for types that are not floating point.
    pub fn from_f64(dtype: DataType, array: &ArrayD<f64>) -> Result<Self> {
        let values = array.iter().copied();
        let data: Vec<u8> = match dtype {
            DataType::F32 => values.flat_map(|v| (v as f32).to_le_bytes()).collect(),
            DataType::F64 => values.flat_map(f64::to_le_bytes).collect(),
            DataType::F16 => values.flat_map(|v| half::f16::from_f64(v).to_le_bytes()).collect(),
            DataType::BF16 => values.flat_map(|v| half::bf16::from_f64(v).to_le_bytes()).collect(),
            other => return Err(not_float(other)),
        };
        Ok(Tensor { dtype, dims: array.shape().to_vec(), data: data.into() })
    }

    /// The elements of an integer or boolean tensor as `i64`; `None` for other types.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        let raw = &self.data;
        Some(match self.dtype {
            DataType::I64 => chunks(raw).map(i64::from_le_bytes).collect(),
            DataType::I32 => chunks(raw).map(|b| i64::from(i32::from_le_bytes(b))).collect(),
            DataType::I16 => chunks(raw).map(|b| i64::from(i16::from_le_bytes(b))).collect(),
            DataType::I8 => chunks(raw).map(|b| i64::from(i8::from_le_bytes(b))).collect(),
            DataType::U32 => chunks(raw).map(|b| i64::from(u32::from_le_bytes(b))).collect(),
            DataType::U16 => chunks(raw).map(|b| i64::from(u16::from_le_bytes(b))).collect(),
            DataType::U8 | DataType::Bool => raw.iter().map(|b| i64::from(*b)).collect(),
            half if half.is_half_byte() => {
                half_bytes::unpacked(half == DataType::I4, raw, self.len())?
            }
            _ => return None,
        })
    }
}

fn not_float(dtype: DataType) -> Error {
    let message = format!("a tensor of type {dtype:?} is used where floating point is needed");
    Error::new(ErrorKind::Unsupported, message)
}

fn chunks<const N: usize>(raw: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    raw.chunks_exact(N).map(|chunk| {
        let mut element = [0; N];
        element.copy_from_slice(chunk);
        element
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f32_round_trip() {
        let array =
            ArrayD::from_shape_vec(IxDyn(&[2, 2]), vec![1.0, -0.5, 3.25, f32::MAX]).unwrap();
        assert_eq!(Tensor::from_f32(&array).to_f32().unwrap(), array);
    }

    #[test]
    fn floats_of_any_width_round_trip_by_way_of_f64() {
        let array = ArrayD::from_shape_vec(IxDyn(&[3]), vec![1.0, -0.5, 1536.0]).unwrap();
        for dtype in [DataType::F32, DataType::F64, DataType::F16, DataType::BF16] {
            let tensor = Tensor::from_f64(dtype, &array).unwrap();
            assert_eq!((tensor.dtype, tensor.to_f64().unwrap()), (dtype, array.clone()));
        }
        let third = Tensor::from_f64(DataType::F64, &array.mapv(|v| v / 3.0)).unwrap();
        assert_eq!(third.to_f64().unwrap(), array / 3.0);
    }

    #[test]
    fn rows_are_runs_of_elements() {
        let values = ArrayD::from_shape_vec(IxDyn(&[3, 2]), vec![1., 2., 3., 4., 5., 6.]).unwrap();
        let tensor = Tensor::from_f32(&values);
        let part = tensor.rows(1..3).unwrap();
        assert_eq!(part.to_f32().unwrap().into_iter().collect::<Vec<_>>(), [3., 4., 5., 6.]);
        assert_eq!(part.dims, [2, 2]);
        assert_eq!(tensor.rows(2..4), None);
    }

    #[test]
    fn rows_of_a_blur_do_not_differ() {
        let blur = ndarray::Array3::from_shape_fn((4, 1, 3), |(_, _, at)| at as f32).into_dyn();
        assert!(!Tensor::from_f32(&blur).rows_differ());
        let one_row = blur.select(ndarray::Axis(0), &[0]);
        assert!(Tensor::from_f32(&one_row).rows_differ());
        assert!(!Tensor::from_f32(&ndarray::arr0(1.0).into_dyn()).rows_differ());
    }

    #[test]
    fn integers_come_back_from_half_bytes() {
        let signed = ndarray::arr2(&[[-8i64, 7, 0], [-1, 3, -4]]).into_dyn();
        for (dtype, array) in [(DataType::I4, signed.clone()), (DataType::U4, &signed + 8)] {
            let tensor = Tensor::from_ints(dtype, &array).unwrap();
            assert_eq!(tensor.data.len(), 3);
            assert_eq!(tensor.to_i64(), Some(array.iter().copied().collect()));
            let turned = array.t().to_owned();
            assert_eq!(tensor.transposed(), Tensor::from_ints(dtype, &turned));
            let columns = array.select(ndarray::Axis(1), &[2, 0]);
            assert_eq!(tensor.select(1, &[2, 0]), Tensor::from_ints(dtype, &columns));
            assert_eq!(Tensor::from_ints(dtype, &(&array + 9)), None, "too large");
        }
    }

    #[test]
    fn integers_are_not_weights() {
        let tensor = Tensor::from_i64(vec![1], &[7]);
        assert_eq!(tensor.to_f32().unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(tensor.to_i64(), Some(vec![7]));
    }
}

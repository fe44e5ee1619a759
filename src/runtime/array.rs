//! Tensors that go into and come out of a session.

use std::borrow::Cow;
use std::ops::Range;

use half::f16;
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, concatenate};

use crate::error::{Error, ErrorKind, Result};
use crate::ir::DataType;

mod cast;

/// An array in host memory, of one of the element types that sessions exchange.
///
/// ```
/// use onnx_zip::HostArray;
///
/// let array = HostArray::from(ndarray::ArrayD::<f32>::zeros(vec![2, 3]));
/// assert_eq!(array.shape(), [2, 3]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum HostArray {
    /// 32-bit floats.
    F32(ArrayD<f32>),
    /// 64-bit floats.
    F64(ArrayD<f64>),
    /// 16-bit IEEE floats.
    F16(ArrayD<f16>),
    /// Signed 64-bit integers.
    I64(ArrayD<i64>),
    /// Signed 32-bit integers.
    I32(ArrayD<i32>),
    /// Signed 16-bit integers.
    I16(ArrayD<i16>),
    /// Signed bytes.
    I8(ArrayD<i8>),
    /// Unsigned 64-bit integers.
    U64(ArrayD<u64>),
    /// Unsigned 32-bit integers.
    U32(ArrayD<u32>),
    /// Unsigned 16-bit integers.
    U16(ArrayD<u16>),
    /// Unsigned bytes.
    U8(ArrayD<u8>),
    /// Truth values.
    Bool(ArrayD<bool>),
    /// Texts, such as names of classes.
    Text(ArrayD<String>),
}

/// Evaluates the same expression for the array of any type; another one for texts, if given.
macro_rules! with_array {
    ($host:expr, $array:ident => $body:expr) => {
        with_array!($host, $array => $body, $array => $body)
    };
    ($host:expr, $array:ident => $body:expr, $text:ident => $other:expr) => {
        match $host {
            HostArray::F32($array) => $body,
            HostArray::F64($array) => $body,
            HostArray::F16($array) => $body,
            HostArray::I64($array) => $body,
            HostArray::I32($array) => $body,
            HostArray::I16($array) => $body,
            HostArray::I8($array) => $body,
            HostArray::U64($array) => $body,
            HostArray::U32($array) => $body,
            HostArray::U16($array) => $body,
            HostArray::U8($array) => $body,
            HostArray::Bool($array) => $body,
            HostArray::Text($text) => $other,
        }
    };
}
pub(super) use with_array;

/// Evaluates an expression for the array of any type, and wraps the resulting array.
macro_rules! map_array {
    ($host:expr, $array:ident => $body:expr) => {
        with_array!($host, $array => HostArray::from($body))
    };
}
macro_rules! from_array {
    ($($variant:ident($element:ty)),* $(,)?) => {$(
        impl From<ArrayD<$element>> for HostArray {
            fn from(array: ArrayD<$element>) -> Self {
                HostArray::$variant(array)
            }
        }
    )*};
}
from_array!(
    F32(f32),
    F64(f64),
    F16(f16),
    I64(i64),
    I32(i32),
    I16(i16),
    I8(i8),
    U64(u64),
    U32(u32),
    U16(u16),
    U8(u8),
    Bool(bool),
    Text(String),
);

impl HostArray {
    /// Element type.
    pub fn dtype(&self) -> DataType {
        match self {
            HostArray::F32(_) => DataType::F32,
            HostArray::F64(_) => DataType::F64,
            HostArray::F16(_) => DataType::F16,
            HostArray::I64(_) => DataType::I64,
            HostArray::I32(_) => DataType::I32,
            HostArray::I16(_) => DataType::I16,
            HostArray::I8(_) => DataType::I8,
            HostArray::U64(_) => DataType::U64,
            HostArray::U32(_) => DataType::U32,
            HostArray::U16(_) => DataType::U16,
            HostArray::U8(_) => DataType::U8,
            HostArray::Bool(_) => DataType::Bool,
            HostArray::Text(_) => DataType::STRING,
        }
    }

    /// Sizes, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        with_array!(self, array => array.shape())
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of axis 0, or `None` for a scalar.
    pub fn rows(&self) -> Option<usize> {
        self.shape().first().copied()
    }

    /// The elements as `f32` (exact for f32 and f16, rounded for f64).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for types that are not floating point.
    pub fn as_f32(&self) -> Result<ArrayD<f32>> {
        match self {
            HostArray::F32(array) => Ok(array.clone()),
            other => other.rounded(),
        }
    }

    /// [`HostArray::as_f32`] without a copy if the array is `f32` already.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for types that are not floating point.
    pub fn into_f32(self) -> Result<ArrayD<f32>> {
        match self {
            HostArray::F32(array) => Ok(array),
            other => other.rounded(),
        }
    }

    /// A view of the elements, where the array is `f32`.
    pub fn f32_view(&self) -> Option<ArrayViewD<'_, f32>> {
        match self {
            HostArray::F32(array) => Some(array.view()),
            _ => None,
        }
    }

    fn rounded(&self) -> Result<ArrayD<f32>> {
        match self {
            HostArray::F32(array) => Ok(array.clone()),
            HostArray::F64(array) => Ok(array.mapv(|v| v as f32)),
            HostArray::F16(array) => Ok(array.mapv(f16::to_f32)),
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!("a tensor of type {:?} is used where floats are needed", other.dtype()),
            )),
        }
    }

    /// Rows `range` of axis 0, copied.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] where the array has no such rows.
    pub fn slice_rows(&self, range: Range<usize>) -> Result<HostArray> {
        let rows = self.rows().unwrap_or(0);
        if range.start > range.end || range.end > rows {
            return Err(Error::new(
                ErrorKind::Backend,
                format!("rows {}..{} are outside an array of {rows} rows", range.start, range.end),
            ));
        }
        Ok(map_array!(self, array => {
            array.slice_axis(Axis(0), range.into()).as_standard_layout().into_owned()
        }))
    }

    /// The rows of axis 0 that `indices` names, in that order.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] where the array has no such rows.
    pub fn select_rows(&self, indices: &[usize]) -> Result<HostArray> {
        let rows = self.rows().unwrap_or(0);
        if let Some(bad) = indices.iter().find(|index| **index >= rows) {
            return Err(Error::new(
                ErrorKind::Backend,
                format!("row {bad} is outside an array of {rows} rows"),
            ));
        }
        Ok(map_array!(self, array => array.select(Axis(0), indices)))
    }

    /// The rows of all `parts`, one after the other.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] where there are no parts, or where they differ in type or row shape.
    pub fn stack(parts: &[HostArray]) -> Result<HostArray> {
        macro_rules! stacked {
            ($($variant:ident),*) => {
                match parts.first() {
                    $(Some(HostArray::$variant(_)) => {
                        let views: Vec<_> = parts.iter().filter_map(|part| match part {
                            HostArray::$variant(array) => Some(array.view()),
                            _ => None,
                        }).collect();
                        (views.len() == parts.len())
                            .then(|| concatenate(Axis(0), &views).ok())
                            .flatten()
                            .map(HostArray::$variant)
                    })*
                    None => None,
                }
            };
        }
        stacked!(F32, F64, F16, I64, I32, I16, I8, U64, U32, U16, U8, Bool, Text).ok_or_else(|| {
            let found: Vec<String> =
                parts.iter().map(|p| format!("{:?}{:?}", p.dtype(), p.shape())).collect();
            Error::new(
                ErrorKind::Backend,
                format!("arrays cannot be stacked along axis 0: {}", found.join(", ")),
            )
        })
    }

    /// The same elements, row by row, in another shape; `None` where the sizes differ.
    pub fn reshaped(self, shape: &[usize]) -> Option<HostArray> {
        let array = self.into_row_major();
        Some(map_array!(array, array => array.into_shape_with_order(IxDyn(shape)).ok()?))
    }

    /// The array with its axes in the order `axes`; `None` where these are not all its axes.
    pub fn permuted(self, axes: &[usize]) -> Option<HostArray> {
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        let complete = sorted.iter().copied().eq(0..self.shape().len());
        complete.then(|| map_array!(self, array => array.permuted_axes(axes)).into_row_major())
    }

    /// The array in row-major memory order; copied only if necessary.
    pub fn row_major(&self) -> Cow<'_, HostArray> {
        if with_array!(self, array => array.is_standard_layout()) {
            Cow::Borrowed(self)
        } else {
            Cow::Owned(map_array!(self, array => array.as_standard_layout().into_owned()))
        }
    }

    /// [`HostArray::row_major`] of an owned array.
    pub fn into_row_major(self) -> HostArray {
        let reordered = match self.row_major() {
            Cow::Borrowed(_) => None,
            Cow::Owned(array) => Some(array),
        };
        reordered.unwrap_or(self)
    }

    /// Row-major position of the first NaN or infinite element.
    pub fn first_non_finite(&self) -> Option<usize> {
        match self {
            HostArray::F32(array) => array.iter().position(|v| !v.is_finite()),
            HostArray::F64(array) => array.iter().position(|v| !v.is_finite()),
            HostArray::F16(array) => array.iter().position(|v| !v.is_finite()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn ramp(rows: usize) -> HostArray {
        HostArray::from(ArrayD::from_shape_fn(IxDyn(&[rows, 2]), |i| (2 * i[0] + i[1]) as f32))
    }

    #[test]
    fn rows_are_sliced_selected_and_stacked_back() {
        let whole = ramp(5);
        let parts = [whole.slice_rows(0..2).unwrap(), whole.slice_rows(2..5).unwrap()];
        assert_eq!(HostArray::stack(&parts).unwrap(), whole);
        assert_eq!(
            whole.select_rows(&[4, 0]).unwrap(),
            HostArray::F32(array![[8.0, 9.0], [0.0, 1.0]].into_dyn())
        );
        assert!(whole.slice_rows(4..6).is_err());
        assert!(whole.select_rows(&[5]).is_err());
    }

    #[test]
    fn stacking_refuses_mixed_types_shapes_and_nothing() {
        let ints = HostArray::from(ArrayD::<i64>::zeros(IxDyn(&[1, 2])));
        let wide = HostArray::from(ArrayD::<f32>::zeros(IxDyn(&[1, 3])));
        for parts in [vec![ramp(1), ints], vec![ramp(1), wide], vec![]] {
            assert_eq!(HostArray::stack(&parts).unwrap_err().kind(), ErrorKind::Backend);
        }
    }

    #[test]
    fn only_floats_become_f32_silently() {
        let doubles = HostArray::from(array![0.5f64].into_dyn());
        assert_eq!(doubles.as_f32().unwrap(), array![0.5f32].into_dyn());
        let ints = HostArray::from(array![1i64].into_dyn());
        assert_eq!(ints.into_f32().unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn casts_keep_values_or_refuse() {
        let bytes = HostArray::from(array![0u8, 255].into_dyn());
        let floats = HostArray::from(array![0.0f32, 255.0].into_dyn());
        assert_eq!(bytes.clone().cast(DataType::F32).unwrap(), floats);
        assert!(bytes.clone().cast(DataType::I8).is_err());
        assert!(bytes.cast(DataType::Bool).is_err());
        assert!(floats.clone().cast(DataType::I64).is_err());
        assert!(floats.cast(DataType::U64).is_err());
    }

    #[test]
    fn axes_are_permuted_and_put_in_row_major_order() {
        let turned = HostArray::F32(array![[0.0f32, 1.0], [2.0, 3.0]].reversed_axes().into_dyn());
        let expected = HostArray::F32(array![[0.0f32, 2.0], [1.0, 3.0]].into_dyn());
        assert!(matches!(turned.row_major(), Cow::Owned(_)));
        assert!(matches!(expected.row_major(), Cow::Borrowed(_)));
        assert_eq!(turned.row_major().into_owned(), expected);
        assert_eq!(turned.permuted(&[1, 0]).unwrap().permuted(&[1, 0]).unwrap(), expected);
        assert_eq!(expected.clone().permuted(&[0]), None);
        assert_eq!(expected.clone().reshaped(&[4]).unwrap().shape(), [4]);
        assert_eq!(expected.reshaped(&[5]), None);
    }

    #[test]
    fn non_finite_elements_are_found() {
        assert_eq!(ramp(2).first_non_finite(), None);
        let bad = HostArray::from(array![0.0f64, f64::NAN].into_dyn());
        assert_eq!(bad.first_non_finite(), Some(1));
    }
}

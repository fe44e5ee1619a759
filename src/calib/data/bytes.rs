//! Arrays as little-endian bytes.

use half::f16;
use ndarray::{ArrayD, IxDyn};

use crate::error::{Error, ErrorKind, Result};
use crate::ir::DataType;
use crate::runtime::HostArray;

/// The elements of an array, in row-major order.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for texts.
pub(crate) fn encoded(array: &HostArray) -> Result<Vec<u8>> {
    macro_rules! bytes {
        ($array:expr) => {
            $array.iter().flat_map(|v| v.to_le_bytes()).collect()
        };
    }
    Ok(match array {
        HostArray::F32(a) => bytes!(a),
        HostArray::F64(a) => bytes!(a),
        HostArray::F16(a) => bytes!(a),
        HostArray::I64(a) => bytes!(a),
        HostArray::I32(a) => bytes!(a),
        HostArray::I16(a) => bytes!(a),
        HostArray::I8(a) => bytes!(a),
        HostArray::U64(a) => bytes!(a),
        HostArray::U32(a) => bytes!(a),
        HostArray::U16(a) => bytes!(a),
        HostArray::U8(a) => a.iter().copied().collect(),
        HostArray::Bool(a) => a.iter().map(|v| u8::from(*v)).collect(),
        HostArray::Text(_) => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "samples that are texts cannot be kept",
            ));
        }
    })
}

/// The elements of little-endian bytes, one after the other.
macro_rules! elements {
    ($element:ty, $bytes:expr) => {
        $bytes.as_chunks().0.iter().map(|bytes| <$element>::from_le_bytes(*bytes))
    };
}
pub(super) use elements;

/// What [`encoded`] has written.
///
/// # Errors
/// [`ErrorKind::Io`] where the bytes do not fill the shape.
pub(super) fn decoded(dtype: DataType, shape: &[usize], bytes: &[u8]) -> Result<HostArray> {
    macro_rules! array {
        ($element:ty) => {{
            let values = elements!($element, bytes).collect();
            ArrayD::from_shape_vec(IxDyn(shape), values).map(HostArray::from)
        }};
    }
    let array = match dtype {
        DataType::F32 => array!(f32),
        DataType::F64 => array!(f64),
        DataType::F16 => array!(f16),
        DataType::I64 => array!(i64),
        DataType::I32 => array!(i32),
        DataType::I16 => array!(i16),
        DataType::I8 => array!(i8),
        DataType::U64 => array!(u64),
        DataType::U32 => array!(u32),
        DataType::U16 => array!(u16),
        DataType::Bool => {
            let values = bytes.iter().map(|byte| *byte != 0).collect();
            ArrayD::from_shape_vec(IxDyn(shape), values).map(HostArray::from)
        }
        _ => ArrayD::from_shape_vec(IxDyn(shape), bytes.to_vec()).map(HostArray::from),
    };
    array.map_err(|e| {
        Error::new(ErrorKind::Io, "the temporary file of the samples is damaged").because(e)
    })
}

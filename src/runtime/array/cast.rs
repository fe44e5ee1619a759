//! Arrays in other element types.

use half::f16;
use ndarray::ArrayD;

use super::HostArray;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::DataType;

impl HostArray {
    /// The array in the element type `dtype`: floats are rounded, integers must be in range.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for types that no [`HostArray`] has, for floats that would become
    /// integers, and for integers that `dtype` cannot hold; [`ErrorKind::Memory`] where there is no room.
    pub fn cast(self, dtype: DataType) -> Result<HostArray> {
        if self.dtype() == dtype {
            return Ok(self);
        }
        let found = self.dtype();
        let refused =
            |why: &str| Error::new(ErrorKind::Unsupported, format!("{found:?} {why} {dtype:?}"));
        has_room(self.len())?;
        match dtype {
            _ if found == DataType::STRING => Err(refused("data cannot become")),
            DataType::F32 => Ok(self.floats().mapv(|v| v as f32).into()),
            DataType::F64 => Ok(self.floats().into()),
            DataType::F16 => Ok(self.floats().mapv(f16::from_f64).into()),
            _ => {
                let integers = self.integers().ok_or_else(|| refused("data cannot become"))?;
                narrow(integers, dtype).ok_or_else(|| refused("values do not fit into"))
            }
        }
    }

    /// The elements as 64-bit floats; NaN for texts.
    fn floats(self) -> ArrayD<f64> {
        match self {
            HostArray::F64(array) => array,
            HostArray::F32(array) => array.mapv(f64::from),
            HostArray::F16(array) => array.mapv(f64::from),
            HostArray::I64(array) => array.mapv(|v| v as f64),
            HostArray::I32(array) => array.mapv(f64::from),
            HostArray::I16(array) => array.mapv(f64::from),
            HostArray::I8(array) => array.mapv(f64::from),
            HostArray::U64(array) => array.mapv(|v| v as f64),
            HostArray::U32(array) => array.mapv(f64::from),
            HostArray::U16(array) => array.mapv(f64::from),
            HostArray::U8(array) => array.mapv(f64::from),
            HostArray::Bool(array) => array.mapv(|v| f64::from(u8::from(v))),
            HostArray::Text(array) => array.map(|_| f64::NAN),
        }
    }

    /// The elements as signed 64-bit integers; `None` for floats, texts and larger numbers.
    pub fn integers(self) -> Option<ArrayD<i64>> {
        match self {
            HostArray::I64(array) => Some(array),
            HostArray::I32(array) => Some(array.mapv(i64::from)),
            HostArray::I16(array) => Some(array.mapv(i64::from)),
            HostArray::I8(array) => Some(array.mapv(i64::from)),
            HostArray::U64(array) => {
                let small = array.iter().all(|v| i64::try_from(*v).is_ok());
                small.then(|| array.mapv(|v| v as i64))
            }
            HostArray::U32(array) => Some(array.mapv(i64::from)),
            HostArray::U16(array) => Some(array.mapv(i64::from)),
            HostArray::U8(array) => Some(array.mapv(i64::from)),
            HostArray::Bool(array) => Some(array.mapv(i64::from)),
            HostArray::F32(_) | HostArray::F64(_) | HostArray::F16(_) | HostArray::Text(_) => None,
        }
    }
}

/// Checks that memory for so many numbers of the widest type can be had. A copy that finds none would end the
/// process.
fn has_room(elements: usize) -> Result<()> {
    Vec::<f64>::new().try_reserve_exact(elements).map_err(|e| {
        Error::new(ErrorKind::Memory, format!("{elements} elements of a value find no memory"))
            .because(e)
            .hint("take smaller batches, or a machine with more memory")
    })
}

fn narrow(values: ArrayD<i64>, dtype: DataType) -> Option<HostArray> {
    fn checked<T: TryFrom<i64> + Clone>(values: &ArrayD<i64>) -> Option<ArrayD<T>> {
        let narrowed: Option<Vec<T>> = values.iter().map(|v| T::try_from(*v).ok()).collect();
        ArrayD::from_shape_vec(values.raw_dim(), narrowed?).ok()
    }
    match dtype {
        DataType::I64 => Some(values.into()),
        DataType::I32 => checked::<i32>(&values).map(HostArray::from),
        DataType::I16 => checked::<i16>(&values).map(HostArray::from),
        DataType::I8 => checked::<i8>(&values).map(HostArray::from),
        DataType::U64 => checked::<u64>(&values).map(HostArray::from),
        DataType::U32 => checked::<u32>(&values).map(HostArray::from),
        DataType::U16 => checked::<u16>(&values).map(HostArray::from),
        DataType::U8 => checked::<u8>(&values).map(HostArray::from),
        DataType::Bool => {
            values.iter().all(|v| matches!(v, 0 | 1)).then(|| values.mapv(|v| v == 1).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn whole_numbers_of_every_type_are_cast_where_they_fit() {
        let wide = HostArray::from(array![0i64, 3, 70_000].into_dyn());
        for dtype in [DataType::I32, DataType::U32, DataType::U64] {
            let cast = wide.clone().cast(dtype).unwrap();
            assert_eq!(cast.dtype(), dtype);
            assert_eq!(cast.integers(), wide.clone().integers());
        }
        for dtype in [DataType::I16, DataType::U16, DataType::I8, DataType::U8] {
            assert_eq!(wide.clone().cast(dtype).unwrap_err().kind(), ErrorKind::Unsupported);
        }
        assert_eq!(HostArray::from(array![u64::MAX].into_dyn()).integers(), None);
    }

    #[test]
    fn what_finds_no_memory_is_an_error() {
        assert_eq!(has_room(usize::MAX / 16).unwrap_err().kind(), ErrorKind::Memory);
        assert_eq!(has_room(usize::MAX).unwrap_err().kind(), ErrorKind::Memory);
        assert!(has_room(3).is_ok());
    }
}

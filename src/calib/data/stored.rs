//! Arrays that stay in their file: samples are read when they are needed.

use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn, ShapeBuilder};

use super::bytes::elements;
use super::media::Anywhere;
use super::rows::Rows;
use crate::error::{Error, ErrorKind, Result as Outcome};
use crate::ir::DataType;
use crate::runtime::HostArray;

/// Arrays of up to this many bytes are checked before the work begins.
const SCANNED: u64 = 1 << 30;

/// Types of numbers in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    Bf16,
    F32,
    F64,
}

impl Element {
    /// Bytes per element.
    pub(super) fn size(self) -> usize {
        match self {
            Element::Bool | Element::U8 | Element::I8 => 1,
            Element::U16 | Element::I16 | Element::F16 | Element::Bf16 => 2,
            Element::U32 | Element::I32 | Element::F32 => 4,
            Element::U64 | Element::I64 | Element::F64 => 8,
        }
    }

    /// The nearest type of [`HostArray`] that holds all its values.
    pub(super) fn dtype(self) -> DataType {
        match self {
            Element::Bool => DataType::Bool,
            Element::U8 => DataType::U8,
            Element::I8 => DataType::I8,
            Element::U16 | Element::I16 | Element::I32 => DataType::I32,
            Element::U32 | Element::U64 | Element::I64 => DataType::I64,
            Element::F16 => DataType::F16,
            Element::Bf16 | Element::F32 => DataType::F32,
            Element::F64 => DataType::F64,
        }
    }
}

/// The array of little-endian `data`, in [`Element::dtype`]. The error is a clause about the array.
pub(super) fn array_of(
    element: Element,
    shape: &[usize],
    fortran_order: bool,
    data: Vec<u8>,
) -> Result<HostArray, String> {
    let shape = IxDyn(shape).set_f(fortran_order);
    macro_rules! decoded {
        ($stored:ty) => {
            decoded!($stored, <$stored>::from)
        };
        ($stored:ty, $convert:expr) => {{
            let mut values = Vec::new();
            let count = data.len() / element.size();
            values
                .try_reserve_exact(count)
                .map_err(|_| format!("has {count} elements, for which no memory is left"))?;
            values.extend(elements!($stored, data).map($convert));
            ArrayD::from_shape_vec(shape, values).map(HostArray::from)
        }};
    }
    let array = match element {
        Element::Bool => {
            if data.iter().any(|byte| *byte > 1) {
                return Err("has bools that are neither 0 nor 1".to_string());
            }
            decoded!(u8, |byte| byte == 1)
        }
        Element::U8 => ArrayD::from_shape_vec(shape, data).map(HostArray::from),
        Element::I8 => decoded!(i8),
        Element::U16 => decoded!(u16, i32::from),
        Element::I16 => decoded!(i16, i32::from),
        Element::U32 => decoded!(u32, i64::from),
        Element::I32 => decoded!(i32),
        Element::U64 => {
            if data.chunks_exact(8).any(|chunk| chunk.last().is_some_and(|top| *top > 127)) {
                return Err("has unsigned integers beyond 63 bits".to_string());
            }
            decoded!(u64, |v| v as i64)
        }
        Element::I64 => decoded!(i64),
        Element::F16 => decoded!(f16),
        Element::Bf16 => decoded!(bf16, bf16::to_f32),
        Element::F32 => decoded!(f32),
        Element::F64 => decoded!(f64),
    };
    let array = array.map_err(|error| format!("does not fill its shape ({error})"))?;
    Ok(array.into_row_major())
}

/// An array in a file.
#[derive(Debug)]
pub(super) struct Stored {
    file: Arc<Anywhere>,
    start: u64,
    element: Element,
    big_endian: bool,
    shape: Vec<usize>,
}

impl Stored {
    /// The array at `place` of a file, in row-major order. The error is a clause about the array.
    pub(super) fn new(
        file: Arc<Anywhere>,
        place: Range<u64>,
        element: Element,
        big_endian: bool,
        shape: Vec<usize>,
    ) -> Result<Self, String> {
        let length = shape.iter().try_fold(element.size(), |all, size| all.checked_mul(*size));
        let length = length.ok_or_else(|| format!("claims the impossible shape {shape:?}"))?;
        let found = place.end.saturating_sub(place.start);
        if length as u64 != found || place.end > file.length {
            return Err(format!(
                "has {found} bytes of data where its shape {shape:?} takes {length}"
            ));
        }
        Ok(Stored { file, start: place.start, element, big_endian, shape })
    }

    /// Bytes of one sample.
    fn sample(&self) -> usize {
        self.shape.iter().skip(1).product::<usize>() * self.element.size()
    }
}

impl Rows for Stored {
    fn dtype(&self) -> DataType {
        self.element.dtype()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn rows(&self, rows: &[usize]) -> Outcome<HostArray> {
        let refused = |clause: String| {
            Error::new(ErrorKind::Calibration, format!("an array of the data {clause}"))
        };
        let sample = self.sample();
        let mut data = vec![0; rows.len() * sample];
        // Reads neighbouring samples at once.
        let mut done = 0;
        while let Some(first) = rows.get(done) {
            let after = rows.iter().skip(done).zip(*first..);
            let run = after.take_while(|(row, next)| *row == next).count();
            if first + run > self.count() {
                return Err(refused(format!("has no sample {}", first + run - 1)));
            }
            if let Some(place) = data.get_mut(done * sample..(done + run) * sample) {
                self.file.read(self.start + (first * sample) as u64, place)?;
            }
            done += run;
        }
        if self.big_endian {
            data.chunks_exact_mut(self.element.size()).for_each(<[u8]>::reverse);
        }
        let mut shape = self.shape.clone();
        shape.iter_mut().take(1).for_each(|count| *count = rows.len());
        array_of(self.element, &shape, false, data).map_err(refused)
    }

    fn is_scanned(&self) -> bool {
        (self.sample() * self.count()) as u64 <= SCANNED
    }
}

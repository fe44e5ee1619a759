//! How many bits the numbers of a difference have.

use crate::ir::DataType;

/// Bits of each number of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bits {
    /// Two numbers to a byte.
    Four,
    /// One number to a byte.
    Eight,
}

impl Bits {
    /// How many.
    pub fn count(self) -> usize {
        match self {
            Bits::Four => 4,
            Bits::Eight => 8,
        }
    }

    /// The first operator set with a `DequantizeLinear` of such numbers and a scale per row.
    pub fn opset(self) -> i64 {
        match self {
            Bits::Four => 21,
            Bits::Eight => 13,
        }
    }

    /// The type of the numbers.
    pub(crate) fn dtype(self) -> DataType {
        match self {
            Bits::Four => DataType::I4,
            Bits::Eight => DataType::I8,
        }
    }

    /// The largest number.
    pub(super) fn most(self) -> f64 {
        f64::from((1i16 << (self.count() - 1)) - 1)
    }
}

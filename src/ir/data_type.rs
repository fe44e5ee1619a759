//! Element types.

use std::fmt;

/// Element type of a tensor, as in `TensorProto.DataType`.
///
/// `Debug` gives the name in messages: that of the variant, or the standard's name for other types.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataType {
    /// 32-bit IEEE float.
    F32,
    /// 64-bit IEEE float.
    F64,
    /// 16-bit IEEE float.
    F16,
    /// bfloat16.
    BF16,
    /// Signed 8-bit integer.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 8-bit integer.
    U8,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 64-bit integer.
    U64,
    /// One byte per element, 0 or 1.
    Bool,
    /// Any other type (strings, float8, int4, complex…), by its number in the ONNX standard.
    Other(i32),
}

impl DataType {
    /// The type of strings.
    pub const STRING: DataType = DataType::Other(8);
    /// The type of unsigned integers of four bits.
    pub const U4: DataType = DataType::Other(21);
    /// The type of signed integers of four bits.
    pub const I4: DataType = DataType::Other(22);

    const CODES: [(DataType, i32, &str); 13] = [
        (DataType::F32, 1, "F32"),
        (DataType::U8, 2, "U8"),
        (DataType::I8, 3, "I8"),
        (DataType::U16, 4, "U16"),
        (DataType::I16, 5, "I16"),
        (DataType::I32, 6, "I32"),
        (DataType::I64, 7, "I64"),
        (DataType::Bool, 9, "Bool"),
        (DataType::F16, 10, "F16"),
        (DataType::F64, 11, "F64"),
        (DataType::U32, 12, "U32"),
        (DataType::U64, 13, "U64"),
        (DataType::BF16, 16, "BF16"),
    ];

    /// The standard's names of other types.
    const OTHERS: [(i32, &str); 13] = [
        (8, "string"),
        (14, "complex64"),
        (15, "complex128"),
        (17, "float8e4m3fn"),
        (18, "float8e4m3fnuz"),
        (19, "float8e5m2"),
        (20, "float8e5m2fnuz"),
        (21, "uint4"),
        (22, "int4"),
        (23, "float4e2m1"),
        (24, "float8e8m0"),
        (25, "uint2"),
        (26, "int2"),
    ];

    /// The type with number `code` in the ONNX standard.
    pub fn from_code(code: i32) -> Self {
        let known = Self::CODES.iter().find(|(_, own, _)| *own == code);
        known.map_or(DataType::Other(code), |(own, ..)| *own)
    }

    /// The number of the type in the ONNX standard.
    pub fn code(self) -> i32 {
        match self {
            DataType::Other(code) => code,
            known => Self::CODES.iter().find(|(own, ..)| *own == known).map_or(0, |(_, c, _)| *c),
        }
    }

    /// Bytes per element, or `None` where elements are not whole bytes or the type is not known.
    pub fn size(self) -> Option<usize> {
        match self {
            DataType::F64 | DataType::I64 | DataType::U64 => Some(8),
            DataType::F32 | DataType::I32 | DataType::U32 => Some(4),
            DataType::F16 | DataType::BF16 | DataType::I16 | DataType::U16 => Some(2),
            DataType::I8 | DataType::U8 | DataType::Bool => Some(1),
            DataType::Other(_) => None,
        }
    }

    /// Whether elements are integers of four bits.
    pub(super) fn is_half_byte(self) -> bool {
        self == DataType::I4 || self == DataType::U4
    }

    /// The smallest and the largest integer that `QuantizeLinear` makes of this type; `None` for other types than
    /// those of 4 to 16 bits.
    pub(crate) fn code_range(self) -> Option<(i64, i64)> {
        Some(match self {
            DataType::I4 => (-8, 7),
            DataType::U4 => (0, 15),
            DataType::I8 => (i8::MIN.into(), i8::MAX.into()),
            DataType::U8 => (0, u8::MAX.into()),
            DataType::I16 => (i16::MIN.into(), i16::MAX.into()),
            DataType::U16 => (0, u16::MAX.into()),
            _ => return None,
        })
    }

    /// Whether the type is one of the floating-point types that hold weights.
    pub fn is_float(self) -> bool {
        matches!(self, DataType::F32 | DataType::F64 | DataType::F16 | DataType::BF16)
    }
}

impl fmt::Debug for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::CODES.iter().find(|(own, ..)| own == self).map(|(.., name)| *name);
        let other = || Self::OTHERS.iter().find(|(code, _)| *code == self.code());
        match known.or_else(|| other().map(|(_, name)| *name)) {
            Some(name) => f.write_str(name),
            None => write!(f, "type{}", self.code()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_codes_round_trip() {
        for code in 0..30 {
            assert_eq!(DataType::from_code(code).code(), code);
        }
    }

    #[test]
    fn types_are_named_as_in_the_standard_where_they_are_no_variants() {
        let named = |code| format!("{:?}", DataType::from_code(code));
        assert_eq!(
            [1, 8, 17, 22, 99].map(named),
            ["F32", "string", "float8e4m3fn", "int4", "type99"]
        );
        assert_eq!(DataType::STRING.to_string(), "string");
        assert_eq!(DataType::Other(0).to_string(), "?");
    }
}

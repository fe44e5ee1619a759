//! Constants: `TensorProto` ⇄ [`Tensor`].
//!
//! Elements end up as the little-endian bytes of `TensorProto.raw_data`, whichever field the file
//! keeps them in; large `raw_data` is not copied. Strings have no such form: their tensor carries
//! the encoded field `string_data`.

use bytes::Bytes;
use prost::Message;

use super::external::ExternalData;
use super::proto::TensorProto;
use super::proto::tensor_proto::{DataLocation, DataType as Code};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{DataType, Tensor};

/// The tensor behind `proto`; elements kept outside the file are read from `external`.
///
/// # Errors
/// [`ErrorKind::Format`] if shape, type and elements do not fit together; the error names the tensor.
pub(super) fn decode(mut proto: TensorProto, external: &mut ExternalData) -> Result<Tensor> {
    let name = proto.name.take().unwrap_or_default();
    let dtype = DataType::from_code(proto.data_type());
    build(proto, dtype, external).map_err(|fault| match fault {
        Fault::Here(kind, what) => Error::new(kind, format!("tensor '{name}' {what}")),
        Fault::Elsewhere(error) => error,
    })
}

/// The file form of `tensor`, its elements inline and not copied.
///
/// # Errors
/// [`ErrorKind::Format`] if the elements do not fill the shape.
pub(super) fn encode(name: &str, tensor: &Tensor) -> Result<TensorProto> {
    let wrong = |what: String| Error::new(ErrorKind::Format, format!("tensor '{name}' {what}"));
    let mut proto = TensorProto {
        name: (!name.is_empty()).then(|| name.to_owned()),
        data_type: Some(tensor.dtype.code()),
        dims: tensor.dims.iter().map(|&d| d as i64).collect(),
        ..TensorProto::default()
    };
    if tensor.dtype == STRING {
        let strings = TensorProto::decode(tensor.data.clone());
        let strings = strings.map_err(|e| wrong("has unreadable strings".into()).because(e))?;
        proto.string_data = strings.string_data;
        return Ok(proto);
    }
    let count = element_count(&tensor.dims).ok_or_else(|| wrong(UNCOUNTABLE.into()))?;
    let needed = byte_length(tensor.dtype, count);
    if needed.is_some_and(|n| n != tensor.data.len() as u64) {
        return Err(wrong(mismatch(tensor.dtype, &tensor.dims, needed, tensor.data.len())));
    }
    proto.raw_data = Some(tensor.data.clone());
    Ok(proto)
}

/// A fault of a tensor: a clause that follows its name, or a complete error.
enum Fault {
    Here(ErrorKind, String),
    Elsewhere(Error),
}

fn wrong(what: impl Into<String>) -> Fault {
    Fault::Here(ErrorKind::Format, what.into())
}

/// Limit of elements: at 128 bits each, their number of bits still fits into 64 bits.
const MOST_ELEMENTS: u64 = 1 << 56;

/// Tensors below this size are copied.
const SMALL: usize = 1 << 16;

/// Limit of the product of all non-zero sizes, for a tensor without elements. Such sizes take no bytes in
/// the file, but tensors derived from them take memory.
const MOST_BESIDE_ZERO: u64 = 1 << 16;

/// Limit of axes.
const MOST_AXES: usize = 64;

const UNCOUNTABLE: &str = "has a shape too large to count";

const STRING: DataType = DataType::STRING;

fn build(
    proto: TensorProto,
    dtype: DataType,
    external: &mut ExternalData,
) -> Result<Tensor, Fault> {
    if dtype.code() == Code::Undefined as i32 {
        return Err(wrong("has no element type"));
    }
    if proto.segment.is_some() {
        return Err(Fault::Here(ErrorKind::Unsupported, "is stored in segments".into()));
    }
    let dims = shape(&proto.dims)?;
    let count = element_count(&dims).ok_or_else(|| wrong(UNCOUNTABLE))?;
    let data = if dtype == STRING {
        strings(proto.string_data, count)?
    } else {
        let needed = byte_length(dtype, count);
        let data = elements(proto, dtype, needed, external)?;
        if needed.is_some_and(|n| n != data.len() as u64) {
            return Err(wrong(mismatch(dtype, &dims, needed, data.len())));
        }
        data
    };
    // A small tensor must not keep the whole file in memory after large tensors were replaced.
    let data = if data.len() < SMALL { Bytes::copy_from_slice(&data) } else { data };
    Ok(Tensor { dtype, dims, data })
}

fn shape(dims: &[i64]) -> Result<Vec<usize>, Fault> {
    if dims.len() > MOST_AXES {
        return Err(wrong(format!("has {} axes, more than {MOST_AXES}", dims.len())));
    }
    dims.iter()
        .map(|&d| usize::try_from(d).map_err(|_| wrong(format!("has a dimension of size {d}"))))
        .collect()
}

/// Number of elements; `None` if the product of the non-zero sizes exceeds any memory, so that later
/// products cannot overflow.
fn element_count(dims: &[usize]) -> Option<u64> {
    let extent = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d.max(1) as u64))?;
    match dims.contains(&0) {
        true => (extent <= MOST_BESIDE_ZERO).then_some(0),
        false => (extent <= MOST_ELEMENTS).then_some(extent),
    }
}

/// Bits per element, or `None` for strings and types newer than this code.
fn bits(dtype: DataType) -> Option<u64> {
    if let Some(bytes) = dtype.size() {
        return Some(bytes as u64 * 8);
    }
    Some(match Code::try_from(dtype.code()).ok()? {
        Code::Complex128 => 128,
        Code::Complex64 => 64,
        Code::Float8e4m3fn | Code::Float8e4m3fnuz | Code::Float8e5m2 | Code::Float8e5m2fnuz => 8,
        Code::Float8e8m0 => 8,
        Code::Float6e2m3 | Code::Float6e3m2 => 6,
        Code::Uint4 | Code::Int4 | Code::Float4e2m1 => 4,
        Code::Uint2 | Code::Int2 => 2,
        _ => return None,
    })
}

/// Bytes that `count` elements take, packed as in `raw_data`.
fn byte_length(dtype: DataType, count: u64) -> Option<u64> {
    Some((count * bits(dtype)?).div_ceil(8))
}

fn mismatch(dtype: DataType, dims: &[usize], needed: Option<u64>, found: usize) -> String {
    let needed = needed.unwrap_or_default();
    format!("of type {dtype} and shape {dims:?} needs {needed} bytes, but has {found}")
}

/// The encoded field `string_data`.
fn strings(string_data: Vec<Vec<u8>>, count: u64) -> Result<Bytes, Fault> {
    let found = string_data.len();
    if found as u64 != count {
        return Err(wrong(format!("needs {count} strings, but has {found}")));
    }
    Ok(TensorProto { string_data, ..TensorProto::default() }.encode_to_vec().into())
}

/// The elements as bytes, from whichever field holds them.
fn elements(
    proto: TensorProto,
    dtype: DataType,
    needed: Option<u64>,
    external: &mut ExternalData,
) -> Result<Bytes, Fault> {
    if proto.data_location() == DataLocation::External {
        return external.slice(&proto.external_data, needed).map_err(Fault::Elsewhere);
    }
    match proto.raw_data {
        Some(raw) if !raw.is_empty() => Ok(raw),
        _ => typed(&proto, dtype).map(Bytes::from),
    }
}

fn typed(proto: &TensorProto, dtype: DataType) -> Result<Vec<u8>, Fault> {
    Ok(match dtype {
        DataType::F32 => proto.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DataType::F64 => proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DataType::I64 => proto.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DataType::U64 => proto.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DataType::U32 => {
            narrow(proto.uint64_data.iter().map(|&v| i64::try_from(v).unwrap_or(i64::MAX)), 32)?
        }
        DataType::Other(code) if code == Code::Complex64 as i32 => {
            proto.float_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        DataType::Other(code) if code == Code::Complex128 as i32 => {
            proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        _ => {
            let integers = proto.int32_data.iter().map(|&v| i64::from(v));
            match bits(dtype) {
                Some(6) => pack_six(integers)?,
                // Elements below one byte are packed into whole bytes.
                Some(width) => narrow(integers, width.max(8))?,
                None if proto.int32_data.is_empty() => Vec::new(),
                None => return Err(wrong(format!("has the unknown element type {dtype}"))),
            }
        }
    })
}

/// The lowest `width` bits of each integer, little-endian. Writers differ in whether they extend the
/// sign, so the value may be in the signed or the unsigned range.
fn narrow(integers: impl Iterator<Item = i64>, width: u64) -> Result<Vec<u8>, Fault> {
    let range = -(1i64 << (width - 1))..(1i64 << width);
    let mut bytes = Vec::new();
    for v in integers {
        if !range.contains(&v) {
            return Err(wrong(format!("holds {v}, which does not fit into {width} bits")));
        }
        bytes.extend(v.to_le_bytes().iter().take(width as usize / 8));
    }
    Ok(bytes)
}

/// Six-bit elements as one stream of bits, lowest first.
fn pack_six(integers: impl Iterator<Item = i64>) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let (mut pending, mut filled) = (0u32, 0);
    for v in integers {
        let element = u8::try_from(v).ok().filter(|&e| e < 64);
        let element = element.ok_or_else(|| wrong(format!("holds {v}, beyond six bits")))?;
        pending |= u32::from(element) << filled;
        filled += 6;
        while filled >= 8 {
            bytes.push(pending as u8);
            pending >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        bytes.push(pending as u8);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;

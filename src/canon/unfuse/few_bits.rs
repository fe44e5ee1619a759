//! Replaces products and tables whose weights are packed in blocks of few bits by those of floats, which are stored in
//! as few bits.

use std::collections::BTreeMap;

use ndarray::{Array2, Ix2};

use super::Site;
use super::attention::added;
use crate::ir::{Attribute, Codes, DataType, Tensor, ValueId};

/// Accuracy level at which the runtime rounds data to eight bits.
const ROUNDS_DATA: i64 = 4;

/// `MatMulNBits`. Inputs: data, packed weight [outputs, blocks, bytes], scales and zero points of outputs and blocks,
/// an order of inputs, and a bias.
pub(super) fn product(site: &mut Site<'_>) -> Option<ValueId> {
    let (floats, codes) = weight(site).filter(|_| site.input(4).is_none())?;
    let name = format!("{}.weight", site.name);
    let weight = site.graph.add_stored(&name, floats, Some(codes));
    let y = site.op("MatMul", &[site.input(0)?, weight]);
    Some(added(site, y, site.input(5)))
}

/// The weight of a `MatMulNBits`, inputs first.
fn weight(site: &Site<'_>) -> Option<(Tensor, Codes)> {
    let node = site.node();
    let size = |name: &str| usize::try_from(node.int(name, 0)).ok().filter(|size| *size > 0);
    let (inputs, outputs, block) = (size("K")?, size("N")?, size("block_size")?);
    let (bits, blocks) = (Bits::of(node.int("bits", 4))?, inputs.div_ceil(block));
    let whole = bits.unpacked(site.constant(1)?, outputs, blocks.checked_mul(block)?)?;
    let numbers = whole.slice(ndarray::s![.., ..inputs]).reversed_axes().to_owned();
    let steps = site.constant(2).filter(|scale| scale.dtype.is_float())?;
    let scale = matrix(&steps.to_f64().ok()?, outputs, blocks)?.reversed_axes();
    let zero = match site.input(3) {
        Some(_) => Some(bits.zeros(site.constant(3)?, outputs, blocks)?.reversed_axes()),
        None => None,
    };
    let (numbers, zero) = bits.stored(numbers, zero)?;
    // A single block per output has one scale.
    let flat = |tensor: Tensor| match blocks {
        1 => Tensor { dims: vec![outputs], ..tensor },
        _ => tensor,
    };
    let is_partial = blocks > 1 && blocks * block != inputs;
    let codes = Codes {
        dtype: numbers.dtype,
        axis: usize::from(blocks == 1),
        scale: flat(Tensor::from_f64(steps.dtype, &scale.into_dyn()).ok()?),
        zero: zero.map(flat),
        direct: node.int("accuracy_level", 0) >= ROUNDS_DATA,
        block: if blocks > 1 { block } else { 0 },
        places: is_partial.then(|| (0..inputs).collect()),
    };
    Some((codes.decode(&numbers)?, codes))
}

/// `GatherBlockQuantized`. Inputs: table, indices, scales of blocks, zero points.
pub(super) fn rows(site: &mut Site<'_>) -> Option<ValueId> {
    let (floats, codes) = table(site)?;
    let axis = site.node().int("gather_axis", 0);
    let name = format!("{}.table", site.name);
    let table = site.graph.add_stored(&name, floats, Some(codes));
    let along = BTreeMap::from([("axis".to_owned(), Attribute::Int(axis))]);
    Some(site.add("Gather", &[Some(table), Some(site.input(1)?)], along))
}

/// The table of a `GatherBlockQuantized`, whose blocks lie along the last of two axes.
fn table(site: &Site<'_>) -> Option<(Tensor, Codes)> {
    let node = site.node();
    let block = usize::try_from(node.int("block_size", 128)).ok().filter(|size| *size > 0)?;
    let scale = site.constant(2)?;
    let [count, blocks] = *scale.dims.as_slice() else { return None };
    let (numbers, zero) = entries(site, [count, blocks])?;
    let columns = *numbers.dims.get(1)?;
    let fits = zero.as_ref().is_none_or(|zero| zero.dims == scale.dims);
    let is_along_rows = node.int("quantize_axis", 1) == 1 && numbers.dims.first() == Some(&count);
    if !fits || !is_along_rows || columns.div_ceil(block) != blocks {
        return None;
    }
    let is_partial = blocks.checked_mul(block)? != columns;
    let codes = Codes {
        dtype: numbers.dtype,
        axis: 1,
        scale: scale.clone(),
        zero,
        direct: false,
        block,
        places: is_partial.then(|| (0..columns).collect()),
    };
    Some((codes.decode(&numbers)?, codes))
}

/// The integers and zero points of a table with this many rows and blocks, one to a number or packed in bytes.
fn entries(site: &Site<'_>, [rows, blocks]: [usize; 2]) -> Option<(Tensor, Option<Tensor>)> {
    let stored = site.constant(0).filter(|stored| stored.dims.len() == 2)?;
    let given = match site.input(3) {
        Some(_) => Some(site.constant(3)?),
        None => None,
    };
    match stored.dtype {
        DataType::I4 | DataType::U4 => Some((stored.clone(), given.cloned())),
        DataType::U8 => {
            let bits = Bits::of(site.node().int("bits", 4))?;
            let columns = bits.per_byte().checked_mul(*stored.dims.get(1)?)?;
            let numbers = bits.unpacked(stored, rows, columns)?;
            let zero = match given {
                Some(zero) => Some(bits.zeros(zero, rows, blocks)?),
                None => None,
            };
            bits.stored(numbers, zero)
        }
        _ => None,
    }
}

/// How many bits a packed number has.
#[derive(Clone, Copy)]
enum Bits {
    Four,
    Eight,
}

impl Bits {
    fn of(bits: i64) -> Option<Bits> {
        match bits {
            4 => Some(Bits::Four),
            8 => Some(Bits::Eight),
            _ => None,
        }
    }

    fn per_byte(self) -> usize {
        match self {
            Bits::Four => 2,
            Bits::Eight => 1,
        }
    }

    /// The zero point where none is given.
    fn middle(self) -> i64 {
        match self {
            Bits::Four => 8,
            Bits::Eight => 128,
        }
    }

    /// Numbers and zero points as files have them: with a sign if there are no zero points.
    fn stored(
        self,
        numbers: Array2<i64>,
        zero: Option<Array2<i64>>,
    ) -> Option<(Tensor, Option<Tensor>)> {
        let [unsigned, signed] = match self {
            Bits::Four => [DataType::U4, DataType::I4],
            Bits::Eight => [DataType::U8, DataType::I8],
        };
        let Some(zero) = zero else {
            let numbers = numbers.mapv(|number| number - self.middle());
            return Some((Tensor::from_ints(signed, &numbers.into_dyn())?, None));
        };
        let zero = Tensor::from_ints(unsigned, &zero.into_dyn())?;
        Some((Tensor::from_ints(unsigned, &numbers.into_dyn())?, Some(zero)))
    }

    /// Numbers in rows, each row in whole bytes and the first number in the lowest bits.
    fn unpacked(self, packed: &Tensor, rows: usize, columns: usize) -> Option<Array2<i64>> {
        let width = columns.div_ceil(self.per_byte());
        let is_packed =
            packed.dtype == DataType::U8 && rows.checked_mul(width) == Some(packed.len());
        let bytes = packed.data.as_ref();
        if !is_packed || bytes.len() != packed.len() {
            return None;
        }
        let number = |(row, column): (usize, usize)| {
            let byte = bytes[row * width + column / self.per_byte()];
            i64::from(match self {
                Bits::Four if column % 2 == 0 => byte & 15,
                Bits::Four => byte >> 4,
                Bits::Eight => byte,
            })
        };
        Some(Array2::from_shape_fn((rows, columns), number))
    }

    /// Zero points, packed like numbers or as floats that stand for integers.
    fn zeros(self, stored: &Tensor, rows: usize, columns: usize) -> Option<Array2<i64>> {
        if !stored.dtype.is_float() {
            return self.unpacked(stored, rows, columns);
        }
        let floats = matrix(&stored.to_f64().ok()?, rows, columns)?;
        let whole = floats.mapv(|zero| zero as i64);
        let is_whole = floats.iter().zip(&whole).all(|(float, zero)| *float == *zero as f64);
        let is_inside = whole.iter().all(|zero| (0..2 * self.middle()).contains(zero));
        (is_whole && is_inside).then_some(whole)
    }
}

/// Numbers as a matrix of these sizes.
fn matrix(numbers: &ndarray::ArrayD<f64>, rows: usize, columns: usize) -> Option<Array2<f64>> {
    let flat = numbers.to_shape((rows, columns)).ok()?;
    flat.to_owned().into_dimensionality::<Ix2>().ok()
}

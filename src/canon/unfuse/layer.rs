//! Layers fused with the nodes that follow them.

use crate::ir::{Attribute, ValueId};

use super::{Site, activation, types};

/// A convolution with an activation, and perhaps a fourth input that is added before it.
pub(super) fn convolution(site: &mut Site<'_>) -> Option<ValueId> {
    let inputs: Vec<_> = site.node().inputs.iter().take(3).copied().collect();
    let addend = site.input(3);
    let attributes = site.attributes_but(&["activation", "activation_params"]);
    let mut y = site.add("Conv", &inputs, attributes);
    if let Some(addend) = addend {
        y = site.op("Add", &[y, addend]);
    }
    activation::of_convolution(site, y)
}

/// A dense layer and an activation.
pub(super) fn gemm(site: &mut Site<'_>) -> Option<ValueId> {
    let inputs = site.node().inputs.clone();
    let mut attributes = site.node().attributes.clone();
    attributes.retain(|name, _| !name.starts_with("activation"));
    let y = site.add("Gemm", &inputs, attributes);
    activation::of_gemm(site, y)
}

/// A product of factors, which may be transposed, and a number.
pub(super) fn product(site: &mut Site<'_>) -> Option<ValueId> {
    if ["transBatchA", "transBatchB"].iter().any(|name| site.node().int(name, 0) != 0) {
        return None;
    }
    let alpha = f64::from(site.node().float("alpha", 1.0));
    let a = operand(site, 0, "transA")?;
    let b = operand(site, 1, "transB")?;
    let y = site.op("MatMul", &[a, b]);
    if alpha == 1.0 { Some(y) } else { site.scaled(y, alpha) }
}

/// A factor, with its last two axes swapped if requested; vectors stay the same.
fn operand(site: &mut Site<'_>, index: usize, flag: &str) -> Option<ValueId> {
    let value = site.input(index)?;
    if site.node().int(flag, 0) == 0 {
        return Some(value);
    }
    let rank = types::shape(site.graph, value)?.len() as i64;
    if rank < 2 {
        return Some(value);
    }
    let order = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
    Some(site.op_with("Transpose", value, ("perm", Attribute::Ints(order))))
}

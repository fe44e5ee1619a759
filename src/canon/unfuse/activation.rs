//! Activations that are fused into layers, and approximations of GELU.

use std::collections::BTreeMap;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

use crate::ir::{Attribute, ValueId};

use super::Site;

/// The activation that is fused into a convolution, with its parameters in order.
pub(super) fn of_convolution(site: &mut Site<'_>, x: ValueId) -> Option<ValueId> {
    let name = site.node().str("activation").unwrap_or_default().to_owned();
    let parameters = match site.node().attributes.get("activation_params") {
        Some(Attribute::Floats(values)) => values.clone(),
        _ => Vec::new(),
    };
    let named = |names: &[&str]| -> BTreeMap<String, Attribute> {
        let pairs = names.iter().zip(&parameters);
        pairs.map(|(name, value)| ((*name).to_owned(), Attribute::Float(*value))).collect()
    };
    match name.as_str() {
        "" => Some(x),
        "Relu" | "Sigmoid" | "Tanh" => Some(site.op(&name, &[x])),
        "LeakyRelu" => Some(site.add(&name, &[Some(x)], named(&["alpha"]))),
        "HardSigmoid" => Some(site.add(&name, &[Some(x)], named(&["alpha", "beta"]))),
        "HardSwish" => hard_swish(site, x),
        "Clip" => {
            let (least, most) = (*parameters.first()?, *parameters.get(1)?);
            let (least, most) = (site.number(f64::from(least))?, site.number(f64::from(most))?);
            Some(site.op("Clip", &[x, least, most]))
        }
        _ => None,
    }
}

/// The activation that is fused into a `Gemm`; its attributes have the prefix `activation_`.
pub(super) fn of_gemm(site: &mut Site<'_>, x: ValueId) -> Option<ValueId> {
    const KNOWN: [&str; 9] = [
        "Elu",
        "HardSigmoid",
        "LeakyRelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Tanh",
    ];
    let name = site.node().str("activation").unwrap_or_default().to_owned();
    let own = |(key, value): (&String, &Attribute)| {
        Some((key.strip_prefix("activation_")?.to_owned(), value.clone()))
    };
    let attributes = site.node().attributes.iter().filter_map(own).collect();
    match name.as_str() {
        "" => Some(x),
        known if KNOWN.contains(&known) => Some(site.add(known, &[Some(x)], attributes)),
        _ => None,
    }
}

fn hard_swish(site: &mut Site<'_>, x: ValueId) -> Option<ValueId> {
    if site.opset >= 14 {
        return Some(site.op("HardSwish", &[x]));
    }
    let slope = BTreeMap::from([
        ("alpha".to_owned(), Attribute::Float(1.0 / 6.0)),
        ("beta".to_owned(), Attribute::Float(0.5)),
    ]);
    let gate = site.add("HardSigmoid", &[Some(x)], slope);
    Some(site.op("Mul", &[x, gate]))
}

pub(super) fn bias_gelu(site: &mut Site<'_>) -> Option<ValueId> {
    let sum = [site.input(0)?, site.input(1)?];
    let x = site.op("Add", &sum);
    exact(site, x)
}

pub(super) fn gelu(site: &mut Site<'_>) -> Option<ValueId> {
    let x = site.input(0)?;
    exact(site, x)
}

/// x Φ(x), with Φ the distribution function of the standard normal distribution.
fn exact(site: &mut Site<'_>, x: ValueId) -> Option<ValueId> {
    if site.opset >= 20 {
        return Some(site.op("Gelu", &[x]));
    }
    let argument = site.scaled(x, FRAC_1_SQRT_2)?;
    let erf = site.op("Erf", &[argument]);
    half(site, x, erf)
}

/// x (1 + y) / 2.
fn half(site: &mut Site<'_>, x: ValueId, y: ValueId) -> Option<ValueId> {
    let one = site.number(1.0)?;
    let sum = site.op("Add", &[y, one]);
    let product = site.op("Mul", &[x, sum]);
    site.scaled(product, 0.5)
}

/// Φ approximated by tanh, perhaps after a bias.
pub(super) fn fast_gelu(site: &mut Site<'_>) -> Option<ValueId> {
    let data = site.input(0)?;
    let x = match site.input(1) {
        Some(bias) => site.op("Add", &[data, bias]),
        None => data,
    };
    let square = site.op("Mul", &[x, x]);
    let cubic = site.scaled(square, 0.044_715)?;
    let one = site.number(1.0)?;
    let sum = site.op("Add", &[cubic, one]);
    let product = site.op("Mul", &[x, sum]);
    let argument = site.scaled(product, (2.0 / PI).sqrt())?;
    let tanh = site.op("Tanh", &[argument]);
    half(site, x, tanh)
}

/// Φ approximated by the logistic function.
pub(super) fn quick_gelu(site: &mut Site<'_>) -> Option<ValueId> {
    let x = site.input(0)?;
    let alpha = f64::from(site.node().float("alpha", 1.702));
    let argument = site.scaled(x, alpha)?;
    let gate = site.op("Sigmoid", &[argument]);
    Some(site.op("Mul", &[x, gate]))
}

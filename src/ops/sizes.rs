//! Values that are sizes: computed shapes between a `Shape` and the reshape that reads them.
//!
//! Exporters compute with shapes at run time. This module follows such values, as numbers and as
//! formulas of the model's open extents, so that type inference can use them.

mod decisions;

use crate::ir::{Attribute, DataType, Dim, Graph, Size, Tensor, ValueId};

use super::join::{picked, slices};
use super::types::shape_range;
use super::{NodeView, normal_axis};

/// Values with more elements are not followed.
const LONGEST: usize = 64;

/// A scalar or vector of sizes, as far as they are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    /// Whether this is a scalar, not a vector of one.
    pub scalar: bool,
    /// The elements; booleans are 0 or 1.
    pub elements: Vec<Option<Size>>,
}

impl Sizes {
    fn vector(elements: Vec<Option<Size>>) -> Self {
        Sizes { scalar: false, elements }
    }

    /// The element of a scalar, or of a vector of one.
    pub fn single(&self) -> Option<&Size> {
        match self.elements.as_slice() {
            [only] => only.as_ref(),
            _ => None,
        }
    }

    /// The elements as numbers, if all are known.
    pub fn numbers(&self) -> Option<Vec<i64>> {
        self.elements.iter().map(|e| e.as_ref()?.value()).collect()
    }
}

/// The sizes in a constant, if it may be a shape or a part of one.
pub fn constant_sizes(graph: &Graph, id: ValueId) -> Option<Sizes> {
    tensor_sizes(graph.initializer(id)?)
}

fn tensor_sizes(tensor: &Tensor) -> Option<Sizes> {
    if tensor.dims.len() > 1 || tensor.dims.iter().any(|n| *n > LONGEST) {
        return None;
    }
    let elements = match tensor.to_i64() {
        Some(numbers) => numbers.into_iter().map(|v| Some(Size::number(v))).collect(),
        None => tensor.to_f64().ok()?.into_iter().map(whole).collect(),
    };
    Some(Sizes { scalar: tensor.dims.is_empty(), elements })
}

/// A float as a size, if it is a whole number.
fn whole(value: f64) -> Option<Size> {
    (value.fract() == 0.0 && value.abs() < 2f64.powi(53)).then(|| Size::number(value as i64))
}

/// The outputs of a node as sizes, as far as they are known; `None` for other outputs.
pub fn sizes(node: &NodeView<'_>) -> Vec<Option<Sizes>> {
    if !node.node.domain.is_empty() {
        return Vec::new();
    }
    match node.node.op.as_str() {
        "Split" => split(node),
        _ => vec![size(node).filter(|sizes| sizes.elements.len() <= LONGEST)],
    }
}

fn size(node: &NodeView<'_>) -> Option<Sizes> {
    let input = |index| node.sizes(index);
    match node.node.op.as_str() {
        "Constant" => match node.node.attributes.get("value")? {
            Attribute::Tensor(tensor) => tensor_sizes(tensor),
            _ => None,
        },
        "Shape" => {
            let dims = node.shape(0)?;
            let dims = dims.get(shape_range(node, dims.len()))?;
            Some(Sizes::vector(dims.iter().map(Size::of).collect()))
        }
        "Size" => {
            let dims: Vec<Option<Size>> = node.shape(0)?.iter().map(Size::of).collect();
            Some(Sizes { scalar: true, elements: vec![product(&dims)] })
        }
        "Identity" | "Floor" | "Ceil" | "Round" => input(0),
        "Cast" if target(node) == Some(DataType::Bool) => {
            each(&input(0)?, |a| decisions::is_true(a).map(truth))
        }
        "Cast" => input(0).filter(|_| keeps_sizes(node)),
        "Gather" => gather(&input(0)?, &input(1)?),
        "Slice" => slice(node, &input(0)?),
        "Squeeze" => {
            let data = input(0)?;
            (data.elements.len() == 1).then_some(Sizes { scalar: true, ..data })
        }
        "Unsqueeze" => input(0).filter(|s| s.scalar).map(|s| Sizes::vector(s.elements)),
        "Reshape" => reshape(input(0)?, &input(1)?),
        "Concat" => {
            let parts: Option<Vec<Sizes>> = (0..node.node.inputs.len()).map(input).collect();
            Some(Sizes::vector(parts?.into_iter().flat_map(|p| p.elements).collect()))
        }
        "ConstantOfShape" => filled(node, &input(0)?),
        "Expand" => repeated(input(0)?, &input(1)?),
        "Range" => range(&input(0)?, &input(1)?, &input(2)?),
        "Where" => choice(&input(0)?, &input(1)?, &input(2)?),
        "Not" => each(&input(0)?, |a| Some(Size::number(i64::from(a.value()? == 0)))),
        "Neg" => each(&input(0)?, |a| a.times(&Size::number(-1))),
        "Abs" => each(&input(0)?, |a| match a.value() {
            Some(n) => n.checked_abs().map(Size::number),
            None => a.is_natural().then(|| a.clone()),
        }),
        "Relu" => each(&input(0)?, |a| larger(a, &Size::number(0))),
        "Sign" => each(&input(0)?, decisions::sign),
        "Clip" => {
            let bounds = [(1, larger as Binary), (2, smaller)].into_iter();
            let mut given = bounds.filter(|(i, _)| node.node.input(*i).is_some());
            let x = input(0).filter(|_| node.node.attributes.is_empty())?;
            given.try_fold(x, |x, (i, pick)| combine(&x, &input(i)?, pick))
        }
        "ReduceProd" => reduced(node, &input(0)?, product),
        "ReduceSum" => reduced(node, &input(0)?, |all| {
            all.iter().try_fold(Size::number(0), |sum, size| sum.plus(size.as_ref()?))
        }),
        "ReduceMin" => reduced(node, &input(0)?, |all| extreme(all, smaller)),
        "ReduceMax" => reduced(node, &input(0)?, |all| extreme(all, larger)),
        op => match decisions::logic(op) {
            Some(logic) => decided(&open_sizes(node, 0)?, &open_sizes(node, 1)?, logic),
            None => match decisions::relation(op) {
                Some(relation) => related(&input(0)?, &input(1)?, relation),
                None => {
                    // `Min`, `Max` and `Sum` have any number of operands.
                    let op = binary(node, op)?;
                    let mut others = 1..node.node.inputs.len();
                    others.try_fold(input(0)?, |all, i| combine(&all, &input(i)?, op))
                }
            },
        },
    }
}

/// Whether an operator compares its operands.
pub fn compares(op: &str) -> bool {
    decisions::relation(op).is_some()
}

fn target(node: &NodeView<'_>) -> Option<DataType> {
    i32::try_from(node.node.int("to", 0)).ok().map(DataType::from_code)
}

/// Whether the target type of a `Cast` holds any size.
fn keeps_sizes(node: &NodeView<'_>) -> bool {
    let to = target(node);
    matches!(to, Some(DataType::I64 | DataType::I32 | DataType::F32 | DataType::F64))
}

type Binary = fn(&Size, &Size) -> Option<Size>;

fn binary(node: &NodeView<'_>, op: &str) -> Option<Binary> {
    let float = node.ty(0).is_none_or(|ty| ty.dtype.is_float());
    Some(match op {
        "Add" | "Sum" => Size::plus,
        "Sub" => Size::minus,
        "Mul" => Size::times,
        "Div" if float => exact_quotient,
        "Div" => quotient,
        "Mod" if node.node.int("fmod", 0) == 1 => remainder,
        "Mod" => modulus,
        "Min" => smaller,
        "Max" => larger,
        "Pow" => power,
        _ => return None,
    })
}

fn truth(holds: bool) -> Size {
    Size::number(i64::from(holds))
}

fn smaller(a: &Size, b: &Size) -> Option<Size> {
    match (decisions::at_most(a, b), decisions::at_most(b, a)) {
        (Some(true), _) => Some(a.clone()),
        (_, Some(true)) => Some(b.clone()),
        _ => b.value().map_or_else(|| b.capped(a.value()?), |most| a.capped(most)),
    }
}

fn larger(a: &Size, b: &Size) -> Option<Size> {
    match (decisions::at_most(a, b), decisions::at_most(b, a)) {
        (Some(true), _) => Some(b.clone()),
        (_, Some(true)) => Some(a.clone()),
        _ => None,
    }
}

fn extreme(sizes: &[Option<Size>], pick: Binary) -> Option<Size> {
    let (first, others) = sizes.split_first()?;
    others.iter().try_fold(first.clone()?, |found, size| pick(&found, size.as_ref()?))
}

fn power(base: &Size, exponent: &Size) -> Option<Size> {
    let exponent = exponent.value().filter(|n| (0..64).contains(n))?;
    (0..exponent).try_fold(Size::number(1), |product, _| product.times(base))
}

/// Integers are rounded towards zero.
fn quotient(a: &Size, b: &Size) -> Option<Size> {
    match (a.value(), b.value()) {
        (Some(a), Some(b)) => a.checked_div(b).map(Size::number),
        _ if a.is_natural() => a.over(b),
        _ => exact_quotient(a, b),
    }
}

fn exact_quotient(a: &Size, b: &Size) -> Option<Size> {
    a.over(b).filter(|quotient| quotient.times(b).as_ref() == Some(a))
}

/// The remainder of a quotient that is rounded towards zero.
fn remainder(a: &Size, b: &Size) -> Option<Size> {
    a.minus(&quotient(a, b)?.times(b)?)
}

/// The remainder with the sign of the divisor.
fn modulus(a: &Size, b: &Size) -> Option<Size> {
    let rest = remainder(a, b)?;
    match (rest.value(), b.value()) {
        (Some(rest), Some(b)) if rest != 0 && (rest < 0) != (b < 0) => {
            rest.checked_add(b).map(Size::number)
        }
        _ => Some(rest),
    }
}

fn product(sizes: &[Option<Size>]) -> Option<Size> {
    sizes.iter().try_fold(Size::number(1), |all, size| all.times(size.as_ref()?))
}

fn gather(data: &Sizes, indices: &Sizes) -> Option<Sizes> {
    let pick = |index: &Option<Size>| {
        let index = normal_axis(index.as_ref()?.value()?, data.elements.len())?;
        data.elements.get(index).cloned()
    };
    let elements: Option<Vec<_>> = indices.elements.iter().map(pick).collect();
    (!data.scalar).then_some(Sizes { scalar: indices.scalar, elements: elements? })
}

fn slice(node: &NodeView<'_>, data: &Sizes) -> Option<Sizes> {
    match slices(node, 1)?.as_slice() {
        [(0, start, end, step)] if !data.scalar => {
            let indices = picked(data.elements.len(), *start, *end, *step);
            let elements: Option<Vec<_>> =
                indices.iter().map(|i| data.elements.get(*i).cloned()).collect();
            elements.map(Sizes::vector)
        }
        _ => None,
    }
}

fn split(node: &NodeView<'_>) -> Vec<Option<Sizes>> {
    let parts = || {
        let data = node.sizes(0).filter(|data| !data.scalar)?;
        let mut rest = data.elements.into_iter();
        let length = Dim::Known(rest.len());
        let lengths = super::types::split_sizes(node, &[length]);
        let lengths: Option<Vec<usize>> = lengths.iter().map(Dim::known).collect();
        let part = |length: usize| Some(Sizes::vector(rest.by_ref().take(length).collect()));
        Some(lengths?.into_iter().map(part).collect())
    };
    parts().unwrap_or_default()
}

/// Supports reshapes between scalars and vectors only.
fn reshape(data: Sizes, target: &Sizes) -> Option<Sizes> {
    let scalar = match target.numbers()?.as_slice() {
        [] => true,
        [n] if *n == -1 || usize::try_from(*n) == Ok(data.elements.len()) => false,
        _ => return None,
    };
    Some(Sizes { scalar, ..data })
}

/// The number of elements for a shape of one axis, or of a scalar.
fn length(shape: &Sizes) -> Option<usize> {
    match shape.numbers()?.as_slice() {
        [] => Some(1),
        [length] => usize::try_from(*length).ok().filter(|length| *length <= LONGEST),
        _ => None,
    }
}

fn filled(node: &NodeView<'_>, shape: &Sizes) -> Option<Sizes> {
    let element = match node.node.attributes.get("value") {
        Some(Attribute::Tensor(element)) => tensor_sizes(element)?.elements.into_iter().next()?,
        Some(_) => return None,
        None => Some(Size::number(0)),
    };
    let elements = vec![element; length(shape)?];
    Some(Sizes { scalar: shape.elements.is_empty(), elements })
}

fn repeated(data: Sizes, shape: &Sizes) -> Option<Sizes> {
    let length = length(shape)?;
    match (data.elements.as_slice(), length) {
        ([_], _) if shape.elements.is_empty() => Some(data),
        ([only], _) => Some(Sizes::vector(vec![only.clone(); length])),
        (all, length) if length == 1 || length == all.len() => Some(data),
        _ => None,
    }
}

fn range(start: &Sizes, limit: &Sizes, step: &Sizes) -> Option<Sizes> {
    let number = |sizes: &Sizes| sizes.single()?.value();
    let (mut at, limit, step) = (number(start)?, number(limit)?, number(step)?);
    let mut elements = Vec::new();
    while (step > 0 && at < limit) || (step < 0 && at > limit) {
        elements.push(Some(Size::number(at)));
        at = at.checked_add(step).filter(|_| elements.len() <= LONGEST)?;
    }
    Some(Sizes::vector(elements))
}

fn each(data: &Sizes, op: fn(&Size) -> Option<Size>) -> Option<Sizes> {
    let elements = data.elements.iter().map(|size| op(size.as_ref()?)).collect();
    Some(Sizes { scalar: data.scalar, elements })
}

/// The number of elements of a broadcast result, and whether it is a scalar.
fn broadcast(operands: &[&Sizes]) -> Option<(usize, bool)> {
    let length = operands.iter().map(|s| s.elements.len()).find(|n| *n != 1).unwrap_or(1);
    let fits = operands.iter().all(|s| s.elements.len() == 1 || s.elements.len() == length);
    fits.then(|| (length, operands.iter().all(|s| s.scalar)))
}

fn at(sizes: &Sizes, index: usize) -> Option<&Size> {
    sizes.elements.get(if sizes.elements.len() == 1 { 0 } else { index })?.as_ref()
}

fn combine(a: &Sizes, b: &Sizes, op: Binary) -> Option<Sizes> {
    let (length, scalar) = broadcast(&[a, b])?;
    let element = |i: usize| op(at(a, i)?, at(b, i)?);
    Some(Sizes { scalar, elements: (0..length).map(element).collect() })
}

fn related(a: &Sizes, b: &Sizes, relation: decisions::Relation) -> Option<Sizes> {
    let (length, scalar) = broadcast(&[a, b])?;
    let element = |i: usize| relation(at(a, i)?, at(b, i)?).map(truth);
    Some(Sizes { scalar, elements: (0..length).map(element).collect() })
}

/// Input `index`; all elements are unknown if only their number is known.
fn open_sizes(node: &NodeView<'_>, index: usize) -> Option<Sizes> {
    node.sizes(index).or_else(|| match node.shape(index)?.as_slice() {
        [] => Some(Sizes { scalar: true, elements: vec![None] }),
        [Dim::Known(length)] if *length <= LONGEST => Some(Sizes::vector(vec![None; *length])),
        _ => None,
    })
}

fn decided(a: &Sizes, b: &Sizes, logic: decisions::Logic) -> Option<Sizes> {
    let (length, scalar) = broadcast(&[a, b])?;
    let holds = |sizes: &Sizes, i: usize| Some(at(sizes, i)?.value()? != 0);
    let element = |i: usize| logic(holds(a, i), holds(b, i)).map(truth);
    Some(Sizes { scalar, elements: (0..length).map(element).collect() })
}

fn choice(condition: &Sizes, a: &Sizes, b: &Sizes) -> Option<Sizes> {
    let (length, scalar) = broadcast(&[condition, a, b])?;
    let element = |i: usize| match at(condition, i).and_then(Size::value) {
        Some(0) => at(b, i).cloned(),
        Some(_) => at(a, i).cloned(),
        None => at(a, i).filter(|own| at(b, i) == Some(*own)).cloned(),
    };
    Some(Sizes { scalar, elements: (0..length).map(element).collect() })
}

fn reduced(
    node: &NodeView<'_>,
    data: &Sizes,
    reduce: fn(&[Option<Size>]) -> Option<Size>,
) -> Option<Sizes> {
    if node.node.int("noop_with_empty_axes", 0) != 0 {
        return None;
    }
    let scalar = data.scalar || node.node.int("keepdims", 1) == 0;
    Some(Sizes { scalar, elements: vec![reduce(&data.elements)] })
}

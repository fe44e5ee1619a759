//! Turns a reduction over parts of the channels into an operation between the parts.
//!
//! Exporters write a maximum of several channels as a `Reshape` that splits the axis of channels, and a
//! reduction over one of the two axes. A `Max` of picked channels shows which rows of a layer belong
//! together.

use crate::error::Result;
use crate::ir::{Attribute, DataType, Graph, Model, NodeId, Tensor, ValueId};
use crate::ops::normal_axis;

use super::CanonOptions;
use super::types::{self, shape};

/// Limit of parts; reductions over more of them stay.
const MOST_PARTS: usize = 16;

/// Reductions, and the operators that compute the same between several values.
const BETWEEN: [(&str, &str); 4] =
    [("ReduceMax", "Max"), ("ReduceMin", "Min"), ("ReduceSum", "Sum"), ("ReduceMean", "Mean")];

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some((data, op, parts)) = parts(graph, id) else { continue };
        let name = graph.node(id).name.clone();
        let mut picked = Vec::new();
        for channels in parts {
            let channels = Tensor::from_i64(vec![channels.len()], &channels);
            let channels = graph.add_initializer(&format!("{name}.channels"), channels);
            let axis = [("axis", Attribute::Int(1))];
            let part = graph.add_op("Gather", &format!("{name}.part"), &[data, channels], axis);
            picked.push(Some(part));
        }
        graph.edit_node(id, |node| {
            node.op = op.to_owned();
            node.inputs = picked;
            node.attributes.clear();
        });
        modified = true;
    }
    Ok(modified)
}

type Parts = (ValueId, &'static str, Vec<Vec<i64>>);

/// The operand, the operation and the channels of each part.
fn parts(graph: &Graph, id: NodeId) -> Option<Parts> {
    let node = graph.node(id);
    let (_, op) = BETWEEN.into_iter().find(|(reduction, _)| node.is(reduction))?;
    if node.int("keepdims", 1) != 0 {
        return None;
    }
    let split = node.input(0)?;
    let reshape = graph.node(graph.producer(split)?);
    let data = reshape.is("Reshape").then(|| reshape.input(0))??;
    if !computes(op, types::of(graph, data)?.dtype) {
        return None;
    }
    let (from, to) = (shape(graph, data)?, shape(graph, split)?);
    let given = node.input(1).and_then(|axes| graph.initializer(axes)?.to_i64());
    let axes = given.or_else(|| node.ints("axes").map(<[i64]>::to_vec))?;
    let [axis] = axes.as_slice() else { return None };
    let axis = normal_axis(*axis, to.len()).filter(|axis| *axis == 1 || *axis == 2)?;
    let (outer, inner) = (to.get(1)?.known()?, to.get(2)?.known()?);
    let rest = from.len() + 1 == to.len()
        && from.first()?.is_surely(to.first()?)
        && from.iter().skip(2).zip(to.iter().skip(3)).all(|(a, b)| a.is_surely(b))
        && from.get(1)?.known() == outer.checked_mul(inner);
    let count = if axis == 1 { outer } else { inner };
    if !rest || !(2..=MOST_PARTS).contains(&count) {
        return None;
    }
    let channel = |part: usize, kept: usize| match axis {
        1 => part * inner + kept,
        _ => kept * inner + part,
    };
    let kept = outer * inner / count;
    let part = |part: usize| (0..kept).map(|kept| channel(part, kept) as i64).collect();
    Some((data, op, (0..count).map(part).collect()))
}

/// Whether an operation between values takes this type. Reductions take more types.
fn computes(op: &str, dtype: DataType) -> bool {
    match op {
        "Max" | "Min" => dtype != DataType::Bool,
        _ => dtype.is_float(),
    }
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::DataType;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn sums_and_means_of_integers_stay_reductions() {
        for (op, dtype, expected) in [
            ("ReduceSum", DataType::F32, "Sum"),
            ("ReduceSum", DataType::I64, "ReduceSum"),
            ("ReduceMean", DataType::F16, "Mean"),
            ("ReduceMean", DataType::I32, "ReduceMean"),
            ("ReduceMax", DataType::I64, "Max"),
            ("ReduceMax", DataType::Bool, "ReduceMax"),
        ] {
            let mut b = GraphBuilder::new("net", 20);
            let x = b.typed_input("x", dtype, "n,6,4,4");
            let parts = b.ints("parts", &[0, 2, 3, 4, 4]);
            let axes = b.ints("axes", &[1]);
            let y = b.op("Reshape", "split", &[x, parts], []);
            let y = b.op(op, "y", &[y, axes], [("keepdims", 0.into())]);
            let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
            let is_there = model.graph.nodes().any(|(_, node)| node.is(expected));
            assert!(is_there, "{op} of {dtype:?}");
        }
    }

    #[test]
    fn a_maximum_over_parts_of_channels_is_between_parts() {
        for (parts, axis, second) in
            [([0, 2, 3, 4, 4], 1, [3, 4, 5]), ([0, 3, 2, 4, 4], 2, [1, 3, 5])]
        {
            let mut b = GraphBuilder::new("net", 17);
            let x = b.input("x", "n,6,4,4");
            let parts = b.ints("parts", &parts);
            let y = b.op("Reshape", "split", &[x, parts], []);
            let attributes = [("axes", [axis].into()), ("keepdims", 0.into())];
            let y = b.op("ReduceMax", "y", &[y], attributes);
            let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
            let max = model.graph.nodes().find(|(_, node)| node.is("Max")).unwrap().1;
            let gather = model.graph.node(model.graph.producer(max.input(1).unwrap()).unwrap());
            let channels = model.graph.initializer(gather.input(1).unwrap()).unwrap();
            assert_eq!(channels.to_i64().unwrap(), second);
        }
    }
}

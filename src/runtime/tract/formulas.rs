//! The length of the formulas that sizes become, if a model is planned with symbols for open sizes.
//!
//! tract writes formulas out: one that reads another twice is twice as long. Planning then takes time without
//! bounds, and deep formulas overflow the stack. Numbers take no time.

use std::collections::HashMap;

use tract_onnx::pb;

/// Limit of operations in a formula that tract writes out. Formulas of real nets have a few.
const LONGEST: usize = 48;

/// Operators that make formulas of those they read.
const ARITHMETIC: &[&str] =
    &["Add", "Div", "Max", "Mean", "Min", "Mod", "Mul", "Neg", "Pow", "Sub", "Sum"];

/// Operators that return some of the numbers that they read.
const MOVES: &[&str] = &[
    "Abs",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "CumSum",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Pad",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Reshape",
    "Round",
    "ScatterElements",
    "ScatterND",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "Where",
];

/// Operations in the longest formulas of a value.
#[derive(Debug, Clone, Copy, Default)]
struct Lengths {
    /// Of its elements.
    elements: usize,
    /// Of its extents.
    extents: usize,
}

impl Lengths {
    fn or(self, other: Lengths) -> Lengths {
        Lengths {
            elements: self.elements.max(other.elements),
            extents: self.extents.max(other.extents),
        }
    }
}

/// Whether a model has formulas of sizes that take too long to plan with.
pub(super) fn are_long(graph: &pb::GraphProto) -> bool {
    let open = Lengths { elements: 0, extents: 1 };
    let mut known = graph.input.iter().map(|input| (input.name.as_str(), open)).collect();
    longest(graph, &mut known).is_none_or(|longest| longest > LONGEST)
}

/// The length of the longest formula of a graph whose inputs are known; `None` if it reads a value before it is
/// computed.
fn longest<'g>(graph: &'g pb::GraphProto, known: &mut HashMap<&'g str, Lengths>) -> Option<usize> {
    let mut all = 0;
    for tensor in &graph.initializer {
        known.entry(&tensor.name).or_default();
    }
    for node in &graph.node {
        let names = node.input.iter().filter(|name| !name.is_empty());
        let read = names.map(|name| known.get(name.as_str()).copied());
        let read = read.collect::<Option<Vec<Lengths>>>()?;
        let mut returned = lengths(node, &read);
        for body in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
            let fed = read.iter().copied().fold(Lengths::default(), Lengths::or);
            known.extend(body.input.iter().map(|input| (input.name.as_str(), fed)));
            all = all.max(longest(body, known)?);
            let results = body.output.iter().filter_map(|value| known.get(value.name.as_str()));
            returned = results.copied().fold(returned, Lengths::or);
        }
        all = all.max(returned.elements).max(returned.extents);
        known.extend(node.output.iter().map(|name| (name.as_str(), returned)));
    }
    Some(all)
}

/// The lengths of what a node returns, by those that it reads.
fn lengths(node: &pb::NodeProto, read: &[Lengths]) -> Lengths {
    let longest = read.iter().copied().fold(Lengths::default(), Lengths::or);
    let sum = |of: fn(&Lengths) -> usize| read.iter().map(of).fold(0, usize::saturating_add);
    let is = |ops: &[&str]| ops.contains(&node.op_type.as_str());
    if is(&["Shape", "Size"]) {
        return Lengths { elements: longest.extents.max(1), extents: 0 };
    }
    if is(ARITHMETIC) {
        let elements = sum(|own| own.elements);
        let elements = if elements > 0 { elements.saturating_add(1) } else { 0 };
        return Lengths { elements, ..longest };
    }
    if is(&["Concat"]) {
        // Along the first axis, samples are joined, or numbers, whose extents have no formula.
        let joined = if integer(node, "axis") == 0 { sum(|own| own.extents) } else { 0 };
        return Lengths { extents: longest.extents.max(joined), ..longest };
    }
    // Operators read the sizes of their result behind the first input.
    let first = if is(&["ConstantOfShape"]) { 0 } else { 1 };
    let sizes = read.iter().skip(first).map(|own| own.elements).max().unwrap_or(0);
    let is_thinned = node.attribute.iter().any(|attribute| {
        attribute.name == "strides" && attribute.ints.iter().any(|stride| *stride > 1)
    });
    Lengths {
        elements: if is(MOVES) { longest.elements } else { 0 },
        extents: longest.extents.max(sizes).saturating_add(usize::from(is_thinned)),
    }
}

fn integer(node: &pb::NodeProto, name: &str) -> i64 {
    let attribute = node.attribute.iter().find(|attribute| attribute.name == name);
    attribute.map_or(0, |attribute| attribute.i)
}

#[cfg(test)]
mod tests {
    use tract_core::prelude::*;

    use super::*;
    use crate::ir::ValueId;
    use crate::ir::builder::GraphBuilder;
    use crate::onnx::encode_any;

    /// Whether formulas are long in a graph with `rounds` of nodes behind the extents of its input.
    fn after(rounds: usize, round: fn(&mut GraphBuilder, ValueId) -> ValueId) -> bool {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,4");
        let mut sizes = b.op("Shape", "sizes", &[x], []);
        for _ in 0..rounds {
            sizes = round(&mut b, sizes);
        }
        let y = b.op("Reshape", "y", &[x, sizes], []);
        let bytes = encode_any(&b.build(&[y])).unwrap();
        let model = tract_onnx::onnx().proto_model_for_read(&mut bytes.as_slice()).unwrap();
        are_long(&model.graph.unwrap())
    }

    #[test]
    fn formulas_that_are_written_out_are_long() {
        let twice: fn(&mut GraphBuilder, ValueId) -> ValueId =
            |b, sizes| b.op("Mul", "twice", &[sizes, sizes], []);
        assert!(!after(4, twice));
        assert!(after(6, twice));
        let halved: fn(&mut GraphBuilder, ValueId) -> ValueId = |b, sizes| {
            let two = b.ints("two", &[2, 2]);
            b.op("Div", "halved", &[sizes, two], [])
        };
        assert!(!after(10, halved));
        assert!(after(60, halved));
    }

    #[test]
    fn data_and_plain_moves_make_no_formulas() {
        let moved: fn(&mut GraphBuilder, ValueId) -> ValueId = |b, sizes| {
            let at = b.ints("at", &[0]);
            let one = b.op("Gather", "one", &[sizes, at], []);
            b.op("Concat", "both", &[one, one], [("axis", 0.into())])
        };
        assert!(!after(100, moved));

        let mut b = GraphBuilder::new("net", 13);
        let mut x = b.input("x", "n,4");
        for _ in 0..100 {
            x = b.op("Add", "sum", &[x, x], []);
        }
        let bytes = encode_any(&b.build(&[x])).unwrap();
        let model = tract_onnx::onnx().proto_model_for_read(&mut bytes.as_slice()).unwrap();
        assert!(!are_long(&model.graph.unwrap()));
    }
}

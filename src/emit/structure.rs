//! A digest of a joint graph's structure, by which changes of its operators are noticed.
//!
//! The recipe says where weights are, and holds the tasks' nets as they were merged. So what another program has changed
//! in the joint graph beside its weights is in none of the tasks. The digest is that of operators, attributes, constants
//! that the recipe holds, and of who reads whom. Names, the order of nodes, notes, types and weights do not count, nor
//! does whether equal nodes are one.

use sha2::{Digest, Sha256};

use super::recipe::is_inline;
use crate::ir::{Attribute, Graph, Model, Node, Tensor, ValueId, ValueKind};
use crate::naming::digits;

/// Metadata key of the digest.
pub const STRUCTURE_KEY: &str = "onnx_zip.structure";

/// Bytes of the digest.
const LENGTH: usize = 16;

/// The digest of a value and of all that it is computed from.
type Mark = [u8; 32];

/// Whether a joint model has other operators than those that were written. `false` if its file does not tell.
pub fn is_rewritten(model: &Model) -> bool {
    let written = model.metadata.get(STRUCTURE_KEY);
    written.is_some_and(|written| *written != structure(&model.graph))
}

/// The digest of a graph's structure.
pub(super) fn structure(graph: &Graph) -> String {
    let mut all = Sha256::new();
    add_graph(&mut all, graph, &[]);
    digits(&all.finalize()[..LENGTH])
}

/// Adds the values that a graph gives. It captures values with the `outer` marks.
fn add_graph(all: &mut Sha256, graph: &Graph, outer: &[Mark]) {
    let marks = marks(graph, outer);
    add_number(all, graph.inputs.len());
    add_number(all, graph.outputs.len());
    graph.outputs.iter().for_each(|output| all.update(marks[output.index()]));
}

/// The marks of all values of a graph.
fn marks(graph: &Graph, outer: &[Mark]) -> Vec<Mark> {
    let mut marks = vec![Mark::default(); graph.value_count()];
    for (id, value) in graph.values() {
        match &value.kind {
            ValueKind::Initializer(tensor) => marks[id.index()] = constant(tensor),
            ValueKind::Captured(from) => {
                marks[id.index()] = outer.get(from.index()).copied().unwrap_or_default();
            }
            ValueKind::Input | ValueKind::Computed(_) | ValueKind::Detached => {}
        }
    }
    for (place, input) in graph.inputs.iter().enumerate() {
        let mut own = Sha256::new();
        add_text(&mut own, b"input");
        add_number(&mut own, place);
        marks[input.index()] = own.finalize().into();
    }
    // A graph with a cycle gives nothing.
    for id in graph.topological_order().unwrap_or_default() {
        let node = graph.node(id);
        let whole = operator(node, &marks);
        for (place, output) in node.outputs.iter().enumerate() {
            let Some(output) = output else { continue };
            let mut own = Sha256::new();
            own.update(whole);
            add_number(&mut own, place);
            marks[output.index()] = own.finalize().into();
        }
    }
    marks
}

fn operator(node: &Node, marks: &[Mark]) -> Mark {
    let mut all = Sha256::new();
    add_text(&mut all, node.domain.as_bytes());
    add_text(&mut all, node.op.as_bytes());
    // Inputs that are left out behind the last one may be listed or not.
    let last = node.inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    add_number(&mut all, last);
    for input in node.inputs.iter().take(last) {
        let mark = |id: ValueId| marks.get(id.index()).copied();
        all.update(input.and_then(mark).unwrap_or_default());
    }
    for (name, attribute) in &node.attributes {
        add_text(&mut all, name.as_bytes());
        add_attribute(&mut all, attribute, marks);
    }
    all.finalize().into()
}

fn add_attribute(all: &mut Sha256, attribute: &Attribute, marks: &[Mark]) {
    match attribute {
        Attribute::Int(number) => all.update(number.to_le_bytes()),
        Attribute::Float(number) => all.update(number.to_le_bytes()),
        Attribute::Str(text) | Attribute::Encoded(text) => add_text(all, text),
        Attribute::Tensor(tensor) => {
            all.update(shape(tensor));
            add_text(all, &tensor.data);
        }
        Attribute::Graph(graph) => add_graph(all, graph, marks),
        Attribute::Ints(numbers) => {
            add_number(all, numbers.len());
            numbers.iter().for_each(|number| all.update(number.to_le_bytes()));
        }
        Attribute::Floats(numbers) => {
            add_number(all, numbers.len());
            numbers.iter().for_each(|number| all.update(number.to_le_bytes()));
        }
        Attribute::Strs(texts) => {
            add_number(all, texts.len());
            texts.iter().for_each(|text| add_text(all, text));
        }
    }
}

/// The mark of a constant: of its numbers only where the recipe holds them, too.
fn constant(tensor: &Tensor) -> Mark {
    let mut all = Sha256::new();
    add_text(&mut all, b"constant");
    all.update(shape(tensor));
    if is_inline(tensor) {
        add_text(&mut all, &tensor.data);
    }
    all.finalize().into()
}

/// The mark of a constant's type.
fn shape(tensor: &Tensor) -> Mark {
    let mut all = Sha256::new();
    all.update(tensor.dtype.code().to_le_bytes());
    add_number(&mut all, tensor.dims.len());
    tensor.dims.iter().for_each(|size| add_number(&mut all, *size));
    all.finalize().into()
}

fn add_number(all: &mut Sha256, number: usize) {
    all.update((number as u64).to_le_bytes());
}

/// Adds bytes and their number, so that they cannot be confused with what follows.
fn add_text(all: &mut Sha256, text: &[u8]) {
    add_number(all, text.len());
    all.update(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    /// A net whose second operator, attribute, constant and weight may be others.
    fn net(op: &str, alpha: f32, end: i64, weight: &str, swapped: bool) -> Model {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,8");
        let w = b.weights(weight, &[4, 8]);
        let other = |b: &mut GraphBuilder| b.op("Sigmoid", "gate", &[x], []);
        let first = swapped.then(|| other(&mut b));
        let h = b.op("Gemm", "fc", &[x, w], [("transB", 1.into())]);
        let h = b.op(op, weight, &[h], [("alpha", Attribute::Float(alpha))]);
        let (start, end) = (b.ints("start", &[0]), b.ints("end", &[end]));
        let y = b.op("Slice", "part", &[h, start, end], []);
        let z = first.unwrap_or_else(|| other(&mut b));
        b.build(&[y, z])
    }

    #[test]
    fn operators_attributes_and_small_constants_count() {
        let own = structure(&net("LeakyRelu", 0.1, 3, "w", false).graph);
        let same =
            [net("LeakyRelu", 0.1, 3, "renamed", true), net("LeakyRelu", 0.1, 3, "v", false)];
        for net in same {
            assert_eq!(structure(&net.graph), own);
        }
        let others = [
            net("Elu", 0.1, 3, "w", false),
            net("LeakyRelu", 0.2, 3, "w", false),
            net("LeakyRelu", 0.1, 2, "w", false),
        ];
        for net in others {
            assert_ne!(structure(&net.graph), own);
        }
        let mut turned = net("LeakyRelu", 0.1, 3, "w", false);
        turned.graph.outputs.reverse();
        assert_ne!(structure(&turned.graph), own);
    }

    #[test]
    fn a_file_that_does_not_tell_counts_as_written() {
        let mut model = net("Relu", 0.0, 3, "w", false);
        assert!(!is_rewritten(&model));
        model.metadata.insert(STRUCTURE_KEY.to_owned(), structure(&model.graph));
        assert!(!is_rewritten(&model));
        model.graph = net("Elu", 0.0, 3, "w", false).graph;
        assert!(is_rewritten(&model));
    }
}

//! A compact text form of a graph, for snapshot tests and verbose output.
//!
//! One line per input, node and output, nodes in topological order:
//!
//! ```text
//! input x: f32[batch,1,28,28]
//! y: f32[batch,20,24,24] = Conv(x, w: f32[20,1,5,5], b: f32[20]) {kernel_shape=[5,5]}
//! output y
//! ```
//!
//! `?` is a size or type that is not known, `*` an unknown rank, `_` an argument left out. Short
//! integer constants show their elements. Sub-graphs follow their node, indented. A captured value
//! carries the prefix `^`.

use std::fmt::{self, Write};

use super::data_type::DataType;
use super::size::Dim;
use super::tensor::{Tensor, TensorType};
use super::{Attribute, Graph, Node, NodeId, Value, ValueId, ValueKind};

/// Integer constants of up to this many elements are shown in full.
const SHOWN_ELEMENTS: usize = 8;

/// The graph as text, the same for the same graph in every run.
pub fn dump(graph: &Graph) -> String {
    let mut text = String::new();
    write_graph(&mut text, graph, 0);
    text
}

fn write_graph(text: &mut String, graph: &Graph, depth: usize) {
    let indent = "  ".repeat(depth);
    for &id in &graph.inputs {
        line(text, &indent, format_args!("input {}", declared(graph.value(id))));
    }
    // A graph under construction may have a cycle, which its text must show.
    let order =
        graph.topological_order().unwrap_or_else(|_| graph.nodes().map(|(id, _)| id).collect());
    for id in order {
        write_node(text, graph, id, depth);
    }
    for &id in &graph.outputs {
        line(text, &indent, format_args!("output {}", read(graph, id)));
    }
}

fn write_node(text: &mut String, graph: &Graph, id: NodeId, depth: usize) {
    let node = graph.node(id);
    let outputs = list(&node.outputs, |id| declared(graph.value(id)));
    let inputs = list(&node.inputs, |id| read(graph, id));
    let indent = "  ".repeat(depth);
    let op = operator(node);
    line(text, &indent, format_args!("{outputs} = {op}({inputs}){}", attributes(node)));
    for (name, attribute) in &node.attributes {
        if let Attribute::Graph(sub) = attribute {
            line(text, &indent, format_args!("  {name}: graph {}", sub.name));
            write_graph(text, sub, depth + 2);
        }
    }
}

fn line(text: &mut String, indent: &str, content: fmt::Arguments<'_>) {
    text.push_str(indent);
    text.push_str(&content.to_string());
    text.push('\n');
}

fn operator(node: &Node) -> String {
    if node.domain.is_empty() { node.op.clone() } else { format!("{}.{}", node.domain, node.op) }
}

fn list(ids: &[Option<ValueId>], show: impl Fn(ValueId) -> String) -> String {
    let items: Vec<String> =
        ids.iter().map(|id| id.map_or_else(|| "_".to_owned(), &show)).collect();
    items.join(", ")
}

/// A value at its definition, with its type.
fn declared(value: &Value) -> String {
    match (&value.ty, &value.foreign_type) {
        (Some(ty), _) => format!("{}: {ty}", value.name),
        (None, Some(_)) => format!("{}: not a tensor", value.name),
        (None, None) => value.name.clone(),
    }
}

/// A value at a use; constants show their type or elements.
fn read(graph: &Graph, id: ValueId) -> String {
    let value = graph.value(id);
    match &value.kind {
        ValueKind::Initializer(tensor) => format!("{}: {}", value.name, constant(tensor)),
        ValueKind::Captured(_) => format!("^{}", value.name),
        _ => value.name.clone(),
    }
}

fn constant(tensor: &Tensor) -> String {
    let dims = joined(&tensor.dims);
    let mut text = format!("{}[{dims}]", tensor.dtype);
    if tensor.len() <= SHOWN_ELEMENTS
        && let Some(elements) = tensor.to_i64()
    {
        let _ = write!(text, "=[{}]", joined(&elements));
    } else if tensor.len() == 1
        && let Ok(element) = tensor.to_f32()
    {
        let _ = write!(text, "=[{}]", joined(element));
    }
    text
}

fn attributes(node: &Node) -> String {
    let shown: Vec<String> = node
        .attributes
        .iter()
        .filter(|(_, a)| !matches!(a, Attribute::Graph(_)))
        .map(|(name, a)| format!("{name}={}", attribute(a)))
        .collect();
    if shown.is_empty() { String::new() } else { format!(" {{{}}}", shown.join(", ")) }
}

fn attribute(attribute: &Attribute) -> String {
    match attribute {
        Attribute::Int(v) => v.to_string(),
        Attribute::Float(v) => format!("{v:?}"),
        Attribute::Str(v) => string(v),
        Attribute::Tensor(v) => constant(v),
        Attribute::Graph(v) => v.name.clone(),
        Attribute::Ints(v) => format!("[{}]", joined(v)),
        Attribute::Floats(v) => format!("{v:?}").replace(' ', ""),
        Attribute::Strs(v) => format!("[{}]", joined(v.iter().map(|s| string(s)))),
        Attribute::Encoded(v) => format!("<{} bytes>", v.len()),
    }
}

fn string(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

fn joined(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(",")
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataType::Other(0) => f.write_str("?"),
            known => f.write_str(&format!("{known:?}").to_lowercase()),
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Known(size) => write!(f, "{size}"),
            Dim::Symbol(name) => f.write_str(name),
            Dim::Formula(size) => write!(f, "{size}"),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shape {
            Some(shape) => write!(f, "{}[{}]", self.dtype, joined(shape)),
            None => write!(f, "{}[*]", self.dtype),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ArrayD, IxDyn};

    fn float(shape: Option<Vec<Dim>>) -> TensorType {
        TensorType { dtype: DataType::F32, shape }
    }

    fn weights(shape: &[usize]) -> Tensor {
        Tensor::from_f32(&ArrayD::zeros(IxDyn(shape)))
    }

    #[test]
    fn a_convolution_reads_like_a_call() {
        let mut g = Graph::new("g");
        let shape = vec![Dim::Symbol("batch".into()), Dim::Known(1), Dim::Unknown, Dim::Known(28)];
        let x = g.add_input("x", float(Some(shape)));
        let w = g.add_initializer("w", weights(&[20, 1, 5, 5]));
        let b = g.add_initializer("b", weights(&[20]));
        let y = g.add_op("Conv", "y", &[x, w, b], [("kernel_shape", Attribute::Ints(vec![5, 5]))]);
        g.set_type(y, Some(float(None)));
        let shape = g.add_initializer("shape", Tensor::from_i64(vec![2], &[0, -1]));
        let z = g.add_op("Reshape", "z", &[y, shape], [("mode", Attribute::Str(b"a\"".to_vec()))]);
        g.outputs.push(z);
        assert_eq!(
            dump(&g),
            "input x: f32[batch,1,?,28]\n\
             y: f32[*] = Conv(x, w: f32[20,1,5,5], b: f32[20]) {kernel_shape=[5,5]}\n\
             z = Reshape(y, shape: i64[2]=[0,-1]) {mode=\"a\\\"\"}\n\
             output z\n"
        );
    }

    #[test]
    fn sub_graphs_are_indented_and_captures_marked() {
        let mut g = Graph::new("g");
        let c = g.add_input("c", TensorType { dtype: DataType::Bool, shape: Some(Vec::new()) });
        let a = g.add_initializer("a", weights(&[1]));
        let mut sub = Graph::new("then");
        let inner = sub.add_value("a", ValueKind::Captured(a), None);
        let neg = sub.add_op("Neg", "neg", &[inner], []);
        sub.outputs.push(neg);
        let y = g.add_op("If", "y", &[c], [("then_branch", Attribute::Graph(Box::new(sub)))]);
        g.outputs.push(y);
        assert_eq!(
            dump(&g),
            "input c: bool[]\n\
             y = If(c)\n\
             \x20 then_branch: graph then\n\
             \x20   neg = Neg(^a)\n\
             \x20   output neg\n\
             output y\n"
        );
    }

    #[test]
    fn left_out_arguments_domains_and_scalars_show() {
        let mut g = Graph::new("g");
        let x = g.add_input("x", float(None));
        let most = g.add_initializer("most", weights(&[]));
        let y = g.add_value("y", ValueKind::Detached, None);
        g.add_node(Node {
            op: "Clip".into(),
            domain: "com.example".into(),
            inputs: vec![Some(x), None, Some(most)],
            outputs: vec![None, Some(y)],
            attributes: [("f".to_owned(), Attribute::Floats(vec![1.0, -0.5]))].into(),
            ..Node::default()
        });
        g.outputs.push(y);
        let text = dump(&g);
        assert!(text.contains("_, y = com.example.Clip(x, _, most: f32[]=[0]) {f=[1.0,-0.5]}\n"));
    }
}

//! Graphs: `GraphProto` → [`Graph`].
//!
//! Names are declared before they are looked up, so nodes may stand in any order in the file. A
//! sub-graph looks a name up in its own graph, then in the graphs around it; a value found further
//! out is captured by every graph in between.

use std::collections::HashSet;

use super::read_domain;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Graph, Node, ValueId, ValueKind};
use crate::onnx::external::ExternalData;
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use crate::onnx::{tensor, types};

pub(super) struct GraphReader<'a> {
    pub(super) external: &'a mut ExternalData,
    /// The enclosing graphs, outermost first, then the graph being read.
    scopes: Vec<Graph>,
}

impl<'a> GraphReader<'a> {
    pub(super) fn new(external: &'a mut ExternalData) -> Self {
        GraphReader { external, scopes: Vec::new() }
    }

    /// Reads a graph, which may be a branch of a node of the graph being read.
    pub(super) fn read(&mut self, proto: GraphProto) -> Result<Graph> {
        if let Some(sparse) = proto.sparse_initializer.first() {
            let name = sparse.values.as_ref().map(|v| v.name()).unwrap_or_default();
            let message = format!("initializer '{name}' is sparse");
            return Err(Error::new(ErrorKind::Unsupported, message)
                .hint("export the model with dense initializers"));
        }
        let name = proto.name.filter(|name| !name.is_empty()).unwrap_or_else(|| "graph".into());
        let mut graph = Graph::new(name);
        declare_inputs(&mut graph, proto.input, &proto.initializer)?;
        for initializer in proto.initializer {
            self.declare_initializer(&mut graph, initializer)?;
        }
        let names = node_names(&proto.node);
        for (node, name) in proto.node.iter().zip(&names) {
            declare_outputs(&mut graph, node).at_node(name)?;
        }
        self.scopes.push(graph);
        for (node, name) in proto.node.into_iter().zip(names) {
            self.node(node, &name).at_node(&name)?;
        }
        let outputs = self.outputs(&proto.output)?;
        // `scopes` is never empty here: the graph was pushed above.
        let mut graph = self.scopes.pop().unwrap_or_default();
        graph.outputs = outputs;
        declare_types(&mut graph, proto.output);
        declare_types(&mut graph, proto.value_info);
        graph.topological_order()?;
        Ok(graph)
    }

    fn declare_initializer(&mut self, graph: &mut Graph, proto: TensorProto) -> Result<()> {
        let name = proto.name().to_owned();
        check_new(graph, "initializer", &name)?;
        let tensor = tensor::decode(proto, self.external)?;
        graph.add_initializer(&name, tensor);
        Ok(())
    }

    fn node(&mut self, proto: NodeProto, name: &str) -> Result<()> {
        let op = proto.op_type.filter(|op| !op.is_empty());
        let op = op.ok_or_else(|| Error::new(ErrorKind::Format, "the node has no operator"))?;
        if proto.overload.is_some_and(|overload| !overload.is_empty()) {
            let message = format!("the node calls an overload of the local function '{op}'");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let mut node = Node {
            name: name.to_owned(),
            op,
            domain: read_domain(proto.domain),
            inputs: self.arguments(&proto.input)?,
            outputs: self.arguments(&proto.output)?,
            ..Node::default()
        };
        for attribute in proto.attribute {
            let key = attribute.name().to_owned();
            let value = self.attribute(attribute)?;
            if node.attributes.insert(key.clone(), value).is_some() {
                let message = format!("attribute '{key}' is given twice");
                return Err(Error::new(ErrorKind::Format, message));
            }
        }
        if let Some(graph) = self.scopes.last_mut() {
            graph.add_node(node);
        }
        Ok(())
    }

    fn arguments(&mut self, names: &[String]) -> Result<Vec<Option<ValueId>>> {
        let mut argument = |name: &String| match name.as_str() {
            "" => Ok(None),
            name => self.find(name).map(Some).ok_or_else(|| {
                Error::new(ErrorKind::Format, format!("reads '{name}', which nothing defines"))
            }),
        };
        names.iter().map(&mut argument).collect()
    }

    fn outputs(&mut self, outputs: &[ValueInfoProto]) -> Result<Vec<ValueId>> {
        let mut output = |info: &ValueInfoProto| {
            self.find(info.name()).ok_or_else(|| {
                let message = format!("the output '{}' is computed by no node", info.name());
                Error::new(ErrorKind::Format, message)
            })
        };
        outputs.iter().map(&mut output).collect()
    }

    /// The value called `name` as seen from the innermost graph.
    fn find(&mut self, name: &str) -> Option<ValueId> {
        let found = |graph: &Graph| graph.value_named(name);
        let level = self.scopes.iter().rposition(|graph| found(graph).is_some())?;
        let mut id = found(self.scopes.get(level)?)?;
        for inner in self.scopes.iter_mut().skip(level + 1) {
            id = inner.add_value(name, ValueKind::Captured(id), None);
        }
        Some(id)
    }
}

/// Files list initializers among the inputs: old ones must, and in newer ones such an input has a default
/// value. Both are constants here: most exporters that do so list all their weights.
fn declare_inputs(
    graph: &mut Graph,
    inputs: Vec<ValueInfoProto>,
    initializers: &[TensorProto],
) -> Result<()> {
    let constants: HashSet<&str> = initializers.iter().map(|t| t.name()).collect();
    for input in inputs.into_iter().filter(|i| !constants.contains(i.name())) {
        check_new(graph, "input", input.name())?;
        let id = graph.add_value(input.name(), ValueKind::Input, None);
        graph.inputs.push(id);
        types::declare(graph, id, input.r#type);
    }
    Ok(())
}

fn declare_outputs(graph: &mut Graph, node: &NodeProto) -> Result<()> {
    for name in node.output.iter().filter(|name| !name.is_empty()) {
        check_new(graph, "output", name)?;
        graph.add_value(name, ValueKind::Detached, None);
    }
    Ok(())
}

/// Declares the types of computed values (`value_info`); the first declaration of a value counts.
fn declare_types(graph: &mut Graph, infos: Vec<ValueInfoProto>) {
    for info in infos {
        let Some(id) = graph.value_named(info.name()) else { continue };
        let value = graph.value(id);
        let open = value.ty.is_none() && value.foreign_type.is_none();
        if open && matches!(value.kind, ValueKind::Computed(_)) {
            types::declare(graph, id, info.r#type);
        }
    }
}

fn check_new(graph: &Graph, role: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::new(ErrorKind::Format, format!("an {role} has no name")));
    }
    match graph.value_named(name) {
        Some(_) => {
            let message = format!("the {role} '{name}' has the name of another value");
            Err(Error::new(ErrorKind::Format, message))
        }
        None => Ok(()),
    }
}

/// A unique name for each node. The first node of a name keeps it.
fn node_names(nodes: &[NodeProto]) -> Vec<String> {
    let given: HashSet<&str> = nodes.iter().map(|n| n.name()).collect();
    let mut taken: HashSet<String> = HashSet::new();
    let mut name = |(index, node): (usize, &NodeProto)| {
        let own = node.name();
        let name = if !own.is_empty() && !taken.contains(own) {
            own.to_owned()
        } else {
            let base = if own.is_empty() { node.op_type() } else { own };
            let mut name = format!("{base}_{index}");
            while given.contains(name.as_str()) || taken.contains(&name) {
                name.push('_');
            }
            name
        };
        taken.insert(name.clone());
        name
    };
    nodes.iter().enumerate().map(&mut name).collect()
}

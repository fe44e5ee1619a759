//! Graphs: [`Graph`] → `GraphProto`.
//!
//! Values are linked by name in a file. A captured value goes by the name that its origin has in
//! the outer graph; a value of a sub-graph that would hide an outer value gets another name.

use std::collections::{BTreeMap, HashSet};

use super::codes::{self, Stored};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Graph, Node, NodeId, Value, ValueId, ValueKind};
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use crate::onnx::{tensor, types};

/// Files before this version list initializers among the inputs.
pub(in crate::onnx) const FIRST_IR_WITH_CONSTANTS: i64 = 4;

/// Writes a graph nested in `outer`.
pub(super) struct GraphWriter<'a> {
    ir_version: i64,
    outer: Option<&'a Scope<'a>>,
}

/// The names of one graph's values in the file, and the graphs around it.
struct Scope<'a> {
    /// Per value; `None` for an unused value.
    names: Vec<Option<String>>,
    taken: HashSet<String>,
    outer: Option<&'a Scope<'a>>,
    /// The nodes that compute the graph's quantised constants, the last one from that before it.
    floats: BTreeMap<ValueId, Vec<NodeProto>>,
    /// Copies of these nodes for captured constants. Runtimes compute with integers
    /// only if the node is in the same graph as its consumer.
    captured_floats: Vec<NodeProto>,
}

impl<'a> GraphWriter<'a> {
    /// A writer of main graphs.
    pub(super) fn new(ir_version: i64) -> Self {
        GraphWriter { ir_version, outer: None }
    }

    /// The graph as a message, its nodes in topological order.
    pub(super) fn write(&self, graph: &Graph) -> Result<GraphProto> {
        let mut scope = Scope::new(graph, self.outer)?;
        let order = graph.topological_order()?;
        let constants = constants(graph, &scope);
        let stored = match self.ir_version < FIRST_IR_WITH_CONSTANTS {
            true => BTreeMap::new(),
            false => {
                let named = constants.iter().map(|id| Ok((*id, scope.name(*id)?)));
                let named: Vec<(ValueId, String)> = named.collect::<Result<_>>()?;
                codes::stored(graph, &named, |base| scope.claim(graph, base))?
            }
        };
        scope.floats = stored.iter().map(|(id, stored)| (*id, stored.nodes.clone())).collect();
        let inner = GraphWriter { ir_version: self.ir_version, outer: Some(&scope) };
        let mut inputs = graph.inputs.clone();
        if self.ir_version < FIRST_IR_WITH_CONSTANTS {
            inputs.extend(&constants);
        }
        Ok(GraphProto {
            name: Some(graph.name.clone()),
            initializer: initializers(graph, &scope, &constants, &stored)?,
            input: infos(graph, &scope, &inputs)?,
            output: infos(graph, &scope, &graph.outputs)?,
            value_info: infos(graph, &scope, &typed_values(graph, &order))?,
            node: stored
                .values()
                .flat_map(|stored| &stored.nodes)
                .chain(&scope.captured_floats)
                .map(|node| Ok(node.clone()))
                .chain(
                    order.iter().map(|&id| {
                        inner.node(graph.node(id), &scope).at_node(&graph.node(id).name)
                    }),
                )
                .collect::<Result<_>>()?,
            ..GraphProto::default()
        })
    }

    fn node(&self, node: &Node, scope: &Scope<'_>) -> Result<NodeProto> {
        let attributes = node.attributes.iter().map(|(name, a)| self.attribute(name, a));
        Ok(NodeProto {
            name: Some(node.name.clone()),
            op_type: Some(node.op.clone()),
            domain: (!node.domain.is_empty()).then(|| node.domain.clone()),
            input: inputs(node, scope)?,
            output: outputs(node, scope)?,
            attribute: attributes.collect::<Result<_>>()?,
            ..NodeProto::default()
        })
    }
}

impl<'a> Scope<'a> {
    /// Names every value that the graph uses.
    fn new(graph: &Graph, outer: Option<&'a Scope<'a>>) -> Result<Self> {
        let used = used_values(graph)?;
        let mut scope = Scope {
            names: vec![None; graph.value_count()],
            taken: HashSet::new(),
            outer,
            floats: BTreeMap::new(),
            captured_floats: Vec::new(),
        };
        for (id, value) in graph.values().filter(|(id, _)| used.contains(id)) {
            let name = match value.kind {
                ValueKind::Captured(origin) => match scope.floats_of(origin) {
                    Some(nodes) => scope.made_again(graph, &value.name, nodes),
                    None => scope.captured(value, origin)?,
                },
                _ => scope.free_name(graph, &value.name),
            };
            scope.taken.insert(name.clone());
            if let Some(slot) = scope.names.get_mut(id.index()) {
                *slot = Some(name);
            }
        }
        Ok(scope)
    }

    /// A unique name like `base` for a value that is only in the file.
    fn claim(&mut self, graph: &Graph, base: &str) -> String {
        let name = self.free_name(graph, base);
        self.taken.insert(name.clone());
        name
    }

    fn name(&self, id: ValueId) -> Result<String> {
        self.names.get(id.index()).cloned().flatten().ok_or_else(|| {
            Error::new(ErrorKind::Format, format!("the graph has no value with {id:?}"))
        })
    }

    fn argument(&self, id: Option<ValueId>) -> Result<String> {
        id.map_or_else(|| Ok(String::new()), |id| self.name(id))
    }

    /// The nodes that compute an outer constant, if the constant is stored in few bits.
    fn floats_of(&self, origin: ValueId) -> Option<Vec<NodeProto>> {
        self.outer?.floats.get(&origin).cloned()
    }

    /// Adds copies of nodes of the outer graph, each of which reads the one before it, and returns the name of the
    /// last copy's output.
    fn made_again(&mut self, graph: &Graph, name: &str, nodes: Vec<NodeProto>) -> String {
        let name = self.claim(graph, name);
        let (count, mut before) = (nodes.len(), None);
        for (place, mut node) in nodes.into_iter().enumerate() {
            if let (Some(before), Some(data)) = (before.take(), node.input.first_mut()) {
                *data = before;
            }
            let is_last = place + 1 == count;
            let floats = format!("{name}.floats");
            let output = if is_last { name.clone() } else { self.claim(graph, &floats) };
            let node_name = if place == 0 { floats } else { format!("{name}.apart") };
            before = Some(output.clone());
            self.captured_floats.push(NodeProto {
                name: Some(node_name),
                output: vec![output],
                ..node
            });
        }
        name
    }

    fn captured(&self, value: &Value, origin: ValueId) -> Result<String> {
        self.outer.and_then(|outer| outer.name(origin).ok()).ok_or_else(|| {
            let message = format!("captures '{}', which no enclosing graph has", value.name);
            Error::new(ErrorKind::Format, message)
        })
    }

    /// `name`, or a name like it that is free in this graph and all graphs around it. Never empty: an
    /// empty name stands for an argument that is left out.
    fn free_name(&self, graph: &Graph, name: &str) -> String {
        let mut candidate = name.to_owned();
        let mut attempt = 0;
        while candidate.is_empty()
            || self.visible(&candidate)
            || (attempt > 0 && graph.value_named(&candidate).is_some())
        {
            attempt += 1;
            candidate = format!("{name}.{attempt}");
        }
        candidate
    }

    fn visible(&self, name: &str) -> bool {
        self.taken.contains(name) || self.outer.is_some_and(|outer| outer.visible(name))
    }
}

/// Every value that a node or an output of the graph refers to; each must have an origin.
fn used_values(graph: &Graph) -> Result<HashSet<ValueId>> {
    let inputs: HashSet<ValueId> = graph.inputs.iter().copied().collect();
    let check = |id: ValueId| match graph.value(id).kind {
        ValueKind::Input if !inputs.contains(&id) => Err(undefined(graph, id)),
        ValueKind::Detached => Err(undefined(graph, id)),
        _ => Ok(id),
    };
    let mut used = inputs.clone();
    for (_, node) in graph.nodes() {
        for id in node.reads().chain(node.outputs.iter().flatten().copied()) {
            used.insert(check(id).at_node(&node.name)?);
        }
    }
    for &id in &graph.outputs {
        used.insert(check(id)?);
    }
    Ok(used)
}

fn undefined(graph: &Graph, id: ValueId) -> Error {
    let message = format!("'{}' is read, but nothing produces it", graph.value(id).name);
    Error::new(ErrorKind::Format, message)
}

/// Names in order, empty where an argument is left out. Drops trailing empty inputs. Outputs keep their
/// number, which has a meaning for `Split` and `If`.
fn inputs(node: &Node, scope: &Scope<'_>) -> Result<Vec<String>> {
    let last = node.inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    node.inputs.iter().take(last).map(|id| scope.argument(*id)).collect()
}

fn outputs(node: &Node, scope: &Scope<'_>) -> Result<Vec<String>> {
    node.outputs.iter().map(|id| scope.argument(*id)).collect()
}

/// The initializers with consumers.
fn constants(graph: &Graph, scope: &Scope<'_>) -> Vec<ValueId> {
    let ids = graph.values().map(|(id, _)| id);
    ids.filter(|&id| graph.initializer(id).is_some() && scope.name(id).is_ok()).collect()
}

fn initializers(
    graph: &Graph,
    scope: &Scope<'_>,
    constants: &[ValueId],
    stored: &BTreeMap<ValueId, Stored>,
) -> Result<Vec<TensorProto>> {
    let mut all = Vec::new();
    for id in constants {
        match (stored.get(id), graph.initializer(*id)) {
            (Some(stored), _) => all.extend(stored.tensors.iter().cloned()),
            (None, Some(tensor)) => all.push(tensor::encode(&scope.name(*id)?, tensor)?),
            (None, None) => {}
        }
    }
    Ok(all)
}

/// Computed values whose type is known, in the order of their nodes; the graph's outputs carry
/// their types themselves.
fn typed_values(graph: &Graph, order: &[NodeId]) -> Vec<ValueId> {
    let outputs: HashSet<ValueId> = graph.outputs.iter().copied().collect();
    let computed = order.iter().flat_map(|&id| graph.node(id).outputs.iter().flatten().copied());
    let typed = computed.filter(|&id| {
        let value = graph.value(id);
        value.ty.is_some() || value.foreign_type.is_some()
    });
    typed.filter(|id| !outputs.contains(id)).collect()
}

fn infos(graph: &Graph, scope: &Scope<'_>, ids: &[ValueId]) -> Result<Vec<ValueInfoProto>> {
    let info = |&id: &ValueId| {
        let declared = match graph.initializer(id) {
            Some(tensor) => Some(types::encode(&tensor.ty())),
            None => types::declared(graph.value(id))?,
        };
        Ok(ValueInfoProto {
            name: Some(scope.name(id)?),
            r#type: declared,
            ..ValueInfoProto::default()
        })
    };
    ids.iter().map(info).collect()
}

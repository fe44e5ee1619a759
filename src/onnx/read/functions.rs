//! Inlines local functions: every call is replaced by the nodes of the function's body.
//!
//! Exporters write layers and whole blocks as local functions. A call hides types and channels; the
//! inlined body shows them. A call stays if the function imports another version of an operator set
//! than the model.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::error::{Error, ErrorKind, Result};
use crate::onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
};

use super::read_domain;

/// Limit of nodes. Nested calls can expand to any number.
const MOST_NODES: usize = 250_000;

/// Limit of the nesting depth of calls.
const DEEPEST: usize = 100;

/// Domain, name and overload.
type Key = (String, String, String);

/// Replaces calls by the bodies of local functions.
///
/// # Errors
/// [`ErrorKind::Format`] if a function calls itself, or calls expand to more nodes than any model has;
/// the error names the node.
pub(super) fn inline(model: &mut ModelProto) -> Result<()> {
    if model.functions.is_empty() {
        return Ok(());
    }
    let mut graph = model.graph.take().unwrap_or_default();
    let functions = std::mem::take(&mut model.functions);
    let mut versions: BTreeMap<String, i64> = versions(&model.opset_import);
    let known = versions.clone();
    let mut inliner = Inliner {
        functions: functions.iter().map(|function| (key_of(function), function)).collect(),
        versions: &mut versions,
        beginnings: HashSet::new(),
        inlined: BTreeSet::new(),
        left: BTreeSet::new(),
        nodes: 0,
    };
    inliner.collect(&graph);
    let result = inliner.graph(&mut graph, &mut Vec::new());
    let (inlined, left) = (inliner.inlined, inliner.left);
    // A function that is still called may call any other one.
    let keeps = |key: &Key| !left.is_empty() || !inlined.contains(key);
    model.functions = functions.into_iter().filter(|f| keeps(&key_of(f))).collect();
    for (domain, version) in versions.into_iter().filter(|(domain, _)| !known.contains_key(domain))
    {
        let import = OperatorSetIdProto { domain: Some(domain), version: Some(version) };
        model.opset_import.push(import);
    }
    model.graph = Some(graph);
    result
}

fn key_of(function: &FunctionProto) -> Key {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    (read_domain(function.domain.clone()), text(&function.name), text(&function.overload))
}

fn called(node: &NodeProto) -> Key {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    (read_domain(node.domain.clone()), text(&node.op_type), text(&node.overload))
}

fn versions(imports: &[OperatorSetIdProto]) -> BTreeMap<String, i64> {
    imports.iter().map(|i| (read_domain(i.domain.clone()), i.version())).collect()
}

struct Inliner<'f> {
    functions: HashMap<Key, &'f FunctionProto>,
    /// The model's operator sets. Domains that only functions use are added.
    versions: &'f mut BTreeMap<String, i64>,
    /// Prefixes of value names, up to each `/`.
    beginnings: HashSet<String>,
    inlined: BTreeSet<Key>,
    left: BTreeSet<Key>,
    nodes: usize,
}

impl<'f> Inliner<'f> {
    /// Marks the prefixes of all value names as taken.
    fn collect(&mut self, graph: &GraphProto) {
        graph.input.iter().for_each(|value| self.take(value.name()));
        graph.initializer.iter().for_each(|tensor| self.take(tensor.name()));
        self.collect_nodes(&graph.node);
    }

    fn collect_nodes(&mut self, nodes: &[NodeProto]) {
        for node in nodes {
            node.output.iter().for_each(|name| self.take(name));
            for sub in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
                self.collect(sub);
            }
        }
    }

    fn take(&mut self, name: &str) {
        let starts = name.match_indices('/').filter_map(|(end, _)| name.get(..=end));
        self.beginnings.extend(starts.map(str::to_owned));
    }

    fn graph(&mut self, graph: &mut GraphProto, stack: &mut Vec<Key>) -> Result<()> {
        let nodes = std::mem::take(&mut graph.node);
        graph.node = self.expand(nodes, stack)?;
        Ok(())
    }

    /// The nodes, with bodies in the place of calls. `stack` holds the functions that are being expanded.
    fn expand(&mut self, nodes: Vec<NodeProto>, stack: &mut Vec<Key>) -> Result<Vec<NodeProto>> {
        let mut expanded = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            self.nodes = self.nodes.saturating_add(1);
            if self.nodes > MOST_NODES {
                let message = format!("local functions expand to more than {MOST_NODES} nodes");
                return Err(Error::new(ErrorKind::Format, message).at_node(node.name()));
            }
            for sub in node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()) {
                self.graph(sub, stack)?;
            }
            let key = called(&node);
            let Some(function) = self.functions.get(&key).copied() else {
                expanded.push(node);
                continue;
            };
            if stack.contains(&key) || stack.len() >= DEEPEST {
                let message = match stack.contains(&key) {
                    true => format!("the local function '{}' calls itself", key.1),
                    false => format!("local functions call each other more than {DEEPEST} deep"),
                };
                return Err(Error::new(ErrorKind::Format, message).at_node(node.name()));
            }
            if !self.agrees(function) {
                self.left.insert(key);
                expanded.push(node);
                continue;
            }
            let body = self.body(function, node);
            stack.push(key.clone());
            expanded.extend(self.expand(body, stack)?);
            stack.pop();
            self.inlined.insert(key);
        }
        Ok(expanded)
    }

    /// Whether the function's operator sets agree with the model's. Operator sets that the model does
    /// not import are added to it.
    fn agrees(&mut self, function: &FunctionProto) -> bool {
        let own = versions(&function.opset_import);
        let mut used = BTreeSet::new();
        domains(&function.node, &mut used);
        let used = || used.iter().filter_map(|domain| own.get_key_value(domain));
        if used().any(|(domain, version)| self.versions.get(domain).is_some_and(|v| v != version)) {
            return false;
        }
        for (domain, version) in used() {
            self.versions.entry(domain.clone()).or_insert(*version);
        }
        true
    }

    /// The nodes of a function for one call, with unique names.
    fn body(&mut self, function: &FunctionProto, call: NodeProto) -> Vec<NodeProto> {
        let prefix =
            self.fresh(call.name.as_deref().filter(|n| !n.is_empty()).unwrap_or(call.op_type()));
        let mut names: HashMap<&str, String> = HashMap::new();
        let actual = |list: &[String], index: usize| list.get(index).cloned().unwrap_or_default();
        for (index, formal) in function.input.iter().enumerate() {
            names.insert(formal, actual(&call.input, index));
        }
        let mut body = Vec::with_capacity(function.node.len());
        for (index, formal) in function.output.iter().enumerate() {
            let given = actual(&call.output, index);
            match names.get(formal.as_str()) {
                // An input that is also an output.
                Some(passed) => body.push(NodeProto {
                    name: Some(format!("{prefix}/{formal}")),
                    op_type: Some("Identity".to_owned()),
                    input: vec![passed.clone()],
                    output: vec![given],
                    ..NodeProto::default()
                }),
                None if given.is_empty() => {}
                None => drop(names.insert(formal, given)),
            }
        }
        let scope = Scope { prefix: &prefix, names, arguments: &call.attribute, function };
        body.extend(function.node.iter().map(|node| scope.node(node)));
        self.collect_nodes(&body);
        body
    }

    /// A name like `base` that is not yet a prefix of a value's name.
    fn fresh(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        let mut number = 0u32;
        while !self.beginnings.insert(format!("{name}/")) {
            number = number.saturating_add(1);
            name = format!("{base}.{number}");
        }
        name
    }
}

/// Domains of the operators in nodes and their sub-graphs.
fn domains(nodes: &[NodeProto], found: &mut BTreeSet<String>) {
    for node in nodes {
        found.insert(read_domain(node.domain.clone()));
        for sub in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
            domains(&sub.node, found);
        }
    }
}

/// The bindings of names and attributes in one call of a function.
struct Scope<'a> {
    prefix: &'a str,
    /// Names of the call's values by their names in the function.
    names: HashMap<&'a str, String>,
    arguments: &'a [AttributeProto],
    function: &'a FunctionProto,
}

impl Scope<'_> {
    fn name(&self, name: &str) -> String {
        match self.names.get(name) {
            Some(actual) => actual.clone(),
            None if name.is_empty() => String::new(),
            None => format!("{}/{name}", self.prefix),
        }
    }

    fn node(&self, node: &NodeProto) -> NodeProto {
        let own = if node.name().is_empty() { node.op_type() } else { node.name() };
        NodeProto {
            name: Some(format!("{}/{own}", self.prefix)),
            input: node.input.iter().map(|name| self.name(name)).collect(),
            output: node.output.iter().map(|name| self.name(name)).collect(),
            attribute: node.attribute.iter().filter_map(|a| self.attribute(a)).collect(),
            ..node.clone()
        }
    }

    /// The attribute with references resolved to the call's attributes or the function's defaults;
    /// `None` if neither gives a value.
    fn attribute(&self, attribute: &AttributeProto) -> Option<AttributeProto> {
        let mut attribute = attribute.clone();
        if let Some(reference) = attribute.ref_attr_name.take().filter(|name| !name.is_empty()) {
            let given = self.arguments.iter().chain(&self.function.attribute_proto);
            let value = given.into_iter().find(|own| own.name() == reference)?;
            return Some(AttributeProto { name: attribute.name, ..value.clone() });
        }
        if let Some(sub) = &mut attribute.g {
            self.graph(sub);
        }
        Some(attribute)
    }

    fn graph(&self, graph: &mut GraphProto) {
        let values = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
        for value in values {
            value.name = Some(self.name(value.name()));
        }
        for tensor in &mut graph.initializer {
            tensor.name = Some(self.name(tensor.name()));
        }
        graph.node = graph.node.iter().map(|node| self.node(node)).collect();
    }
}

#[cfg(test)]
mod tests;

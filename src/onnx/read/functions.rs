//! Inlines local functions: every call is replaced by the nodes of the function's body.
//!
//! Exporters write layers and whole blocks as local functions. A call hides types and channels; the
//! inlined body shows them. A call stays if the function imports another version of an operator set
//! than the model.

mod budget;
mod scope;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher};

use prost::Message;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::onnx::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};

use super::read_domain;
use budget::Budget;
use scope::Scope;

/// Limit of the nesting depth of calls.
const DEEPEST: usize = 100;

/// Domain, name and overload.
type Key = (String, String, String);

/// Replaces calls by the bodies of local functions.
///
/// # Errors
/// [`ErrorKind::Format`] if a function calls itself, or calls expand to more nodes or bytes than any model
/// has; the error names the node.
pub(super) fn inline(model: &mut ModelProto) -> Result<()> {
    let budget = Budget::of(model);
    inline_within(model, budget)
}

fn inline_within(model: &mut ModelProto, budget: Budget) -> Result<()> {
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
        numbers: HashMap::new(),
        inlined: BTreeSet::new(),
        left: BTreeSet::new(),
        budget,
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
    /// Hashes of the prefixes of value names, up to each `/`: all prefixes of one name together would be
    /// as long as the square of its length. Two prefixes with one hash make a name longer, not wrong.
    beginnings: HashSet<u64>,
    /// The last number behind each name that was wanted several times.
    numbers: HashMap<String, u32>,
    inlined: BTreeSet<Key>,
    left: BTreeSet<Key>,
    budget: Budget,
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
        let mut hasher = DefaultHasher::new();
        for byte in name.bytes() {
            hasher.write_u8(byte);
            if byte == b'/' {
                self.beginnings.insert(hasher.finish());
            }
        }
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
            self.budget.node().at_node(node.name())?;
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
            if self.left.contains(&key) || !self.agrees(function) {
                self.left.insert(key);
                expanded.push(node);
                continue;
            }
            let name = node.name().to_owned();
            let body = self.body(function, node).at_node(name)?;
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
    fn body(&mut self, function: &FunctionProto, call: NodeProto) -> Result<Vec<NodeProto>> {
        self.budget.bytes(function.encoded_len())?;
        let prefix =
            self.fresh(call.name.as_deref().filter(|n| !n.is_empty()).unwrap_or(call.op_type()));
        let (names, mut body) = self.bound(function, &call, &prefix)?;
        // The first of several attributes of a name is the last here, and stays.
        let values = call.attribute.iter().chain(&function.attribute_proto).rev();
        let values = values.map(|own| (own.name(), own)).collect();
        let budget = &mut self.budget;
        let mut scope = Scope { prefix: &prefix, names, values, budget };
        for node in &function.node {
            body.push(scope.node(node)?);
        }
        self.collect_nodes(&body);
        Ok(body)
    }

    /// The call's names of a function's inputs and outputs, and nodes that copy inputs to outputs.
    fn bound<'n>(
        &mut self,
        function: &'n FunctionProto,
        call: &NodeProto,
        prefix: &str,
    ) -> Result<(HashMap<&'n str, String>, Vec<NodeProto>)> {
        let mut names: HashMap<&str, String> = HashMap::new();
        let actual = |list: &[String], index: usize| list.get(index).cloned().unwrap_or_default();
        for (index, formal) in function.input.iter().enumerate() {
            names.insert(formal, actual(&call.input, index));
        }
        let mut copies = Vec::new();
        for (index, formal) in function.output.iter().enumerate() {
            let given = actual(&call.output, index);
            match names.get(formal.as_str()) {
                Some(passed) => {
                    let copy = NodeProto {
                        name: Some(format!("{prefix}/{formal}")),
                        op_type: Some("Identity".to_owned()),
                        input: vec![passed.clone()],
                        output: vec![given],
                        ..NodeProto::default()
                    };
                    self.budget.bytes(size_of::<NodeProto>().saturating_add(copy.encoded_len()))?;
                    copies.push(copy);
                }
                None if given.is_empty() => {}
                None => drop(names.insert(formal, given)),
            }
        }
        Ok((names, copies))
    }

    /// A name like `base` that is not yet a prefix of a value's name.
    fn fresh(&mut self, base: &str) -> String {
        if self.begins(base) {
            return base.to_owned();
        }
        let mut number = self.numbers.get(base).copied().unwrap_or(0);
        loop {
            number = number.saturating_add(1);
            let name = format!("{base}.{number}");
            if self.begins(&name) {
                self.numbers.insert(base.to_owned(), number);
                return name;
            }
        }
    }

    /// Takes a name as a prefix; returns whether it was free.
    fn begins(&mut self, name: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        name.bytes().chain([b'/']).for_each(|byte| hasher.write_u8(byte));
        self.beginnings.insert(hasher.finish())
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

#[cfg(test)]
mod tests;

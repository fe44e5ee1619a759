//! Copies a function's nodes for one call, within the budget.

use std::collections::HashMap;

use prost::Message;

use super::budget::Budget;
use crate::error::Result;
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};

/// The bindings of names and attributes in one call of a function.
pub(super) struct Scope<'a> {
    pub(super) prefix: &'a str,
    /// Names of the call's values by their names in the function.
    pub(super) names: HashMap<&'a str, String>,
    /// Attributes of the call and defaults of the function, by the names that refer to them.
    pub(super) values: HashMap<&'a str, &'a AttributeProto>,
    pub(super) budget: &'a mut Budget,
}

impl Scope<'_> {
    /// A node of the function, with the call's names and attributes.
    ///
    /// # Errors
    /// As [`Budget::bytes`].
    pub(super) fn node(&mut self, node: &NodeProto) -> Result<NodeProto> {
        let own = if node.name().is_empty() { node.op_type() } else { node.name() };
        let name = format!("{}/{own}", self.prefix);
        self.budget.bytes(size_of::<NodeProto>().saturating_add(name.len()))?;
        let attributes = node.attribute.iter().map(|a| self.attribute(a));
        let attribute = attributes.filter_map(Result::transpose).collect::<Result<_>>()?;
        Ok(NodeProto {
            name: Some(name),
            input: self.all(&node.input)?,
            output: self.all(&node.output)?,
            attribute,
            ..node.clone()
        })
    }

    fn all(&mut self, names: &[String]) -> Result<Vec<String>> {
        names.iter().map(|name| self.name(name)).collect()
    }

    fn name(&mut self, name: &str) -> Result<String> {
        let name = match self.names.get(name) {
            Some(actual) => actual.clone(),
            None if name.is_empty() => String::new(),
            None => format!("{}/{name}", self.prefix),
        };
        self.budget.name(&name)?;
        Ok(name)
    }

    /// The attribute with references resolved to the call's attributes or the function's defaults;
    /// `None` if neither gives a value.
    fn attribute(&mut self, attribute: &AttributeProto) -> Result<Option<AttributeProto>> {
        self.budget.bytes(size_of::<AttributeProto>())?;
        let mut attribute = attribute.clone();
        if let Some(reference) = attribute.ref_attr_name.take().filter(|name| !name.is_empty()) {
            let Some(value) = self.values.get(reference.as_str()).copied() else { return Ok(None) };
            self.budget.bytes(value.encoded_len())?;
            return Ok(Some(AttributeProto { name: attribute.name, ..value.clone() }));
        }
        if let Some(sub) = &mut attribute.g {
            self.graph(sub)?;
        }
        Ok(Some(attribute))
    }

    fn graph(&mut self, graph: &mut GraphProto) -> Result<()> {
        let values = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
        for value in values {
            self.budget.bytes(size_of::<ValueInfoProto>())?;
            value.name = Some(self.name(value.name())?);
        }
        for tensor in &mut graph.initializer {
            tensor.name = Some(self.name(tensor.name())?);
        }
        graph.node = graph.node.iter().map(|node| self.node(node)).collect::<Result<_>>()?;
        Ok(())
    }
}

//! A graph builder that stores equal constants and equal nodes once.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::ir::{Attribute, Graph, Node, Tensor, ValueId, ValueKind};

use super::recipe::Placed;
use super::trainable::Scope;

/// Matrices of fewer elements are stored as they are.
const SMALL: usize = 32;

/// Operators that give another result each time they run.
const RANDOM: &[&str] = &[
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
];

/// Builds the joint graph.
pub(super) struct Builder {
    pub(super) graph: Graph,
    /// Where the constants of the tasks' nets went.
    pub(super) placed: Vec<Placed>,
    /// Whether parameters are one only where the plan says so, not wherever they are equal.
    pub(super) untied: bool,
    constants: HashMap<u64, Vec<(Option<Scope>, ValueId)>>,
    /// Matrices by what stays the same where their axes are exchanged.
    matrices: HashMap<([usize; 2], u64), ValueId>,
    nodes: HashMap<String, Vec<Option<ValueId>>>,
}

impl Builder {
    pub(super) fn new(name: &str) -> Self {
        Builder {
            graph: Graph::new(name),
            placed: Vec::new(),
            untied: false,
            constants: HashMap::new(),
            matrices: HashMap::new(),
            nodes: HashMap::new(),
        }
    }

    /// The initializer with this content; `name` is used if it is new.
    pub(super) fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.constant_in(None, name, tensor)
    }

    /// The initializer with this content among those of `scope`.
    pub(super) fn constant_in(
        &mut self,
        scope: Option<Scope>,
        name: &str,
        tensor: Tensor,
    ) -> ValueId {
        let mut hasher = DefaultHasher::new();
        (&scope, tensor.dtype, &tensor.dims, &tensor.data).hash(&mut hasher);
        let same = self.constants.entry(hasher.finish()).or_default();
        let graph = &self.graph;
        let found =
            same.iter().find(|(s, id)| *s == scope && graph.initializer(*id) == Some(&tensor));
        if let Some((_, id)) = found {
            return *id;
        }
        let key = of_matrix(&tensor);
        let id = self.graph.add_initializer(name, tensor);
        same.push((scope, id));
        if let Some(key) = key {
            self.matrices.entry(key).or_insert(id);
        }
        id
    }

    /// The initializer that holds a matrix with its axes exchanged, as where one net uses a table both to
    /// embed and to score.
    pub(super) fn turned(&self, matrix: &Tensor) -> Option<ValueId> {
        let id = *self.matrices.get(&of_matrix(matrix)?)?;
        let stored = self.graph.initializer(id)?;
        let is_turned = stored != matrix && stored.transposed().as_ref() == Some(matrix);
        is_turned.then_some(id)
    }

    /// The outputs of `node`, whose inputs are values of the joint graph; the `i`-th output is
    /// wanted if `wanted[i]`. An equal node that is there already is used again.
    pub(super) fn node(&mut self, mut node: Node, wanted: &[bool]) -> Vec<Option<ValueId>> {
        let pure = node.subgraphs().next().is_none()
            && !(node.domain.is_empty() && RANDOM.contains(&node.op.as_str()));
        let key = format!(
            "{}|{}|{:?}|{wanted:?}|{:?}",
            node.domain, node.op, node.inputs, node.attributes
        );
        if pure && let Some(outputs) = self.nodes.get(&key) {
            return outputs.clone();
        }
        let mut first = true;
        node.outputs = wanted
            .iter()
            .map(|wanted| {
                wanted.then(|| {
                    let id = self.graph.add_value(&node.name, ValueKind::Detached, None);
                    if std::mem::take(&mut first) {
                        node.name.clone_from(&self.graph.value(id).name);
                    }
                    id
                })
            })
            .collect();
        let outputs = node.outputs.clone();
        self.graph.add_node(node);
        if pure {
            self.nodes.insert(key, outputs.clone());
        }
        outputs
    }

    /// The only output of a new or equal node of the standard operator set.
    pub(super) fn op(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[ValueId],
        attributes: impl IntoIterator<Item = (&'static str, Attribute)>,
    ) -> ValueId {
        self.single(Node::standard(op, name, inputs, attributes))
    }

    /// The only output of `node`.
    pub(super) fn single(&mut self, node: Node) -> ValueId {
        let outputs = self.node(node, &[true]);
        match outputs.first().copied().flatten() {
            Some(output) => output,
            None => unreachable!("the output was asked for"),
        }
    }

    /// Makes `value` a graph output called `name`, of the type of `like` in a task's net.
    pub(super) fn add_output(&mut self, value: ValueId, name: &str, net: &Graph, like: ValueId) {
        // A value that is fed, constant or an output already keeps its name.
        let free = self.graph.producer(value).is_some() && !self.graph.outputs.contains(&value);
        let value = if free { value } else { self.graph.add_op("Identity", name, &[value], []) };
        if let Some(other) = self.graph.value_named(name).filter(|other| *other != value) {
            self.graph.rename_value(other, &format!("{name}.inner"));
        }
        self.graph.rename_value(value, name);
        self.graph.set_type_like(value, net, like);
        self.graph.outputs.push(value);
    }
}

/// What a matrix of weights and its transpose have in common: sides and a sum; `None` for small constants.
fn of_matrix(tensor: &Tensor) -> Option<([usize; 2], u64)> {
    let [rows, columns] = *tensor.dims.first_chunk()?;
    let is_large = tensor.dims.len() == 2 && tensor.dtype.is_float() && tensor.len() >= SMALL;
    let element = tensor.dtype.size().filter(|_| is_large)?;
    let value =
        |bytes: &[u8]| bytes.iter().fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
    let sum = tensor.data.chunks_exact(element).fold(0u64, |sum, e| sum.wrapping_add(value(e)));
    Some(([rows.min(columns), rows.max(columns)], sum))
}

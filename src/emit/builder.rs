//! A graph builder that stores equal constants and equal nodes once.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::ir::{Attribute, Codes, Graph, Node, Tensor, ValueId, ValueKind};

use super::recipe::Placed;
use super::scope::Scope;

/// Operators with random results. Equal nodes of these are not merged.
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
    /// Whether equal parameters stay apart unless the plan shares them.
    pub(super) untied: bool,
    constants: HashMap<u64, Vec<(Option<Scope>, ValueId)>>,
    nodes: HashMap<String, Vec<Option<ValueId>>>,
    /// Large matrices by their extents.
    large: HashMap<(usize, usize), Vec<ValueId>>,
}

/// Matrices of at least this many elements are stored once even if that takes a `Transpose`.
const LARGE: usize = 1024;

fn content(scope: &Option<Scope>, tensor: &Tensor) -> u64 {
    let mut hasher = DefaultHasher::new();
    (scope, tensor.dtype, &tensor.dims, &tensor.data).hash(&mut hasher);
    hasher.finish()
}

impl Builder {
    pub(super) fn new(name: &str) -> Self {
        Builder::of(Graph::new(name))
    }

    /// Goes on with a graph, whose constants and nodes count as other ones.
    pub(super) fn of(graph: Graph) -> Self {
        Builder {
            graph,
            placed: Vec::new(),
            untied: false,
            constants: HashMap::new(),
            nodes: HashMap::new(),
            large: HashMap::new(),
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
        let same = self.constants.entry(content(&scope, &tensor)).or_default();
        let graph = &self.graph;
        let found =
            same.iter().find(|(s, id)| *s == scope && graph.initializer(*id) == Some(&tensor));
        if let Some((_, id)) = found {
            return *id;
        }
        let large = match *tensor.dims.as_slice() {
            [rows, columns] if tensor.len() >= LARGE => Some((rows, columns)),
            _ => None,
        };
        let id = self.graph.add_initializer(name, tensor);
        same.push((scope, id));
        large.into_iter().for_each(|extents| self.large.entry(extents).or_default().push(id));
        id
    }

    /// Records how a constant is stored. Products of all tasks read it directly, or none.
    pub(super) fn store_in(&mut self, constant: ValueId, codes: Codes) {
        let before = self.graph.codes(constant);
        let direct = codes.direct && before.is_none_or(|before| before.direct);
        let fits = |own: &&Codes| {
            self.graph.initializer(constant).is_some_and(|tensor| own.encode(tensor).is_some())
        };
        let codes = before.filter(fits).cloned().unwrap_or(codes);
        self.graph.set_codes(constant, Codes { direct, ..codes });
    }

    /// The initializer that holds the transpose of a large matrix, for example of an embedding that is
    /// also the output layer's weight. `None` for a model to be trained, where equal parameters stay
    /// apart.
    pub(super) fn swapped(&self, tensor: &Tensor) -> Option<ValueId> {
        let [rows, columns] = *tensor.dims.as_slice() else { return None };
        let is_large = tensor.len() >= LARGE && rows.min(columns) > 1 && tensor.dtype.is_float();
        let mut stored = self.large.get(&(columns, rows)).into_iter().flatten();
        let mut swapped = None;
        if !is_large || self.untied || self.holds(tensor) {
            return None;
        }
        stored
            .find(|id| {
                let swapped = swapped.get_or_insert_with(|| tensor.transposed());
                swapped.as_ref() == self.graph.initializer(**id)
            })
            .copied()
    }

    /// Whether there is an initializer with this content.
    fn holds(&self, tensor: &Tensor) -> bool {
        let scope: Option<Scope> = None;
        let mut same = self.constants.get(&content(&scope, tensor)).into_iter().flatten();
        same.any(|(_, id)| self.graph.initializer(*id) == Some(tensor))
    }

    /// Adds `node`, whose inputs are values of the joint graph, or reuses an equal node. Returns its
    /// outputs; the `i`-th one is needed if `wanted[i]`.
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

    /// Makes `value` a graph output called `name`, with the type of `like` in a task's net.
    pub(super) fn add_output(&mut self, value: ValueId, name: &str, net: &Graph, like: ValueId) {
        // An input, a constant or an existing output keeps its name.
        let free = self.graph.producer(value).is_some() && !self.graph.outputs.contains(&value);
        let value = if free { value } else { self.graph.add_op("Identity", name, &[value], []) };
        self.rename(value, name);
        self.graph.set_type_like(value, net, like);
        self.graph.outputs.push(value);
    }

    /// Gives `value` a name that another value may have.
    pub(super) fn rename(&mut self, value: ValueId, name: &str) {
        if let Some(other) = self.graph.value_named(name).filter(|other| *other != value) {
            self.graph.rename_value(other, &format!("{name}.inner"));
        }
        self.graph.rename_value(value, name);
    }
}

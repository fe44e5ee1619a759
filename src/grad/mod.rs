//! Reverse-mode differentiation: writes the gradient of a graph as standard ONNX operators.
//!
//! The result runs on any backend. Each operator family has one file, each operator one row of
//! `rules`; an operator without a row is an error that names the node. Gradients are written in
//! operators that every operator set from 13 on has, in the formulations that run fastest in ONNX
//! Runtime of those that were measured.

mod activation;
mod arithmetic;
mod conv;
mod decided;
mod elementary;
mod linear;
mod norm;
mod pool;
mod reduce;
mod rules;
mod samples_last;
mod select;
mod sensitivity;
mod shape;
mod unroll;
mod unrounded;
mod weight_gradient;
mod window;

use std::collections::{HashMap, HashSet};

use crate::canon::infer_types;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Attribute, DataType, Dim, Graph, Node, Tensor, ValueId, ValueKind};

pub use crate::calib::sensitivity::Sensitivity;
pub use rules::differentiable_ops;
pub use sensitivity::{Sample, sensitivities};

/// Gradients of a node's inputs, `None` where not needed.
type Grads = Result<Vec<Option<ValueId>>>;

/// A graph that is being extended by its own gradient.
pub struct Tape {
    /// The graph: the net, then its gradient.
    pub graph: Graph,
    /// Values whose gradient is needed: the wanted values, and all values that depend on them.
    active: HashSet<ValueId>,
    grads: HashMap<ValueId, ValueId>,
    /// Number of added values, for unique names.
    added: usize,
}

/// Joins parts in groups: tract takes the cube of the number of operands to plan one `Concat`.
fn in_groups(mut parts: Vec<ValueId>, mut joined: impl FnMut(&[ValueId]) -> ValueId) -> ValueId {
    const MOST_OPERANDS: usize = 16;
    while parts.len() > MOST_OPERANDS {
        parts = parts.chunks(MOST_OPERANDS).map(&mut joined).collect();
    }
    joined(&parts)
}

impl Tape {
    /// Prepares to differentiate with respect to `wanted`, which may be constants.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the graph has a cycle.
    pub fn new(mut graph: Graph, wanted: &[ValueId]) -> Result<Self> {
        infer_types(&mut graph)?;
        if unroll::unroll(&mut graph) {
            infer_types(&mut graph)?;
        }
        let mut active: HashSet<ValueId> = wanted.iter().copied().collect();
        for id in graph.topological_order()? {
            let node = graph.node(id);
            if node.reads().any(|v| active.contains(&v)) {
                let outputs = node.outputs.iter().flatten();
                active.extend(outputs.filter(|value| decided::may_be_float(&graph, **value)));
            }
        }
        Ok(Tape { graph, active, grads: HashMap::new(), added: 0 })
    }

    /// Adds `gradient` to that of `value`.
    pub fn seed(&mut self, value: ValueId, gradient: ValueId) {
        let sum = match self.grads.get(&value) {
            Some(sum) => self.op("Add", &[*sum, gradient]),
            None => gradient,
        };
        self.declare(sum, value);
        self.grads.insert(value, sum);
    }

    /// Declares that a gradient has the type of its value. ONNX Runtime cannot follow the name of the batch
    /// through all rules, and it takes several times as long to load a graph with unknown sizes.
    fn declare(&mut self, gradient: ValueId, value: ValueId) {
        let ty = match self.graph.initializer(value) {
            Some(tensor) => Some(tensor.ty()),
            None => self.graph.value(value).ty.clone(),
        };
        let open = self.graph.value(gradient);
        let is_open = open.ty.is_none() && matches!(open.kind, ValueKind::Computed(_));
        if let (true, Some(ty)) = (is_open, ty.filter(|ty| ty.dtype == DataType::F32)) {
            self.graph.set_type(gradient, Some(ty));
        }
    }

    /// The gradient of `value` so far.
    pub fn gradient(&self, value: ValueId) -> Option<ValueId> {
        self.grads.get(&value).copied()
    }

    /// Propagates the seeded gradients to all wanted values.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] at the first operator without a rule.
    pub fn run(&mut self) -> Result<()> {
        let order = self.graph.topological_order()?;
        for id in order.into_iter().rev() {
            let node = self.graph.node(id).clone();
            // Rules of operators with several outputs read the other outputs' gradients themselves.
            let Some(gradient) = node.outputs.iter().flatten().find_map(|o| self.gradient(*o))
            else {
                continue;
            };
            if !node.reads().any(|v| self.active.contains(&v)) {
                continue;
            }
            let rule = node.domain.is_empty().then(|| rules::rule(&node.op)).flatten();
            let Some(rule) = rule else {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("operator {} has no gradient", node.op),
                )
                .at_node(&node.name));
            };
            let gradients = rule(self, id, &node, gradient).at_node(&node.name)?;
            for (index, gradient) in gradients.into_iter().enumerate() {
                if let (true, Some(input), Some(gradient)) =
                    (self.wants(&node, index), node.input(index), gradient)
                {
                    self.seed(input, gradient);
                }
            }
        }
        Ok(())
    }

    /// Whether the gradient of a node's input is needed.
    fn wants(&self, node: &Node, input: usize) -> bool {
        node.input(input).is_some_and(|v| self.active.contains(&v))
    }

    /// The `index`-th input of a node.
    fn input(&self, node: &Node, index: usize) -> Result<ValueId> {
        node.input(index)
            .ok_or_else(|| Error::new(ErrorKind::Format, format!("input {index} is missing")))
    }

    /// The first output of a node.
    fn output(&self, node: &Node) -> Result<ValueId> {
        node.output(0).ok_or_else(|| Error::new(ErrorKind::Format, "a node without output"))
    }

    /// The output of a new node without attributes.
    pub(crate) fn op(&mut self, op: &str, inputs: &[ValueId]) -> ValueId {
        self.op_with(op, inputs, [])
    }

    /// The output of a new node.
    pub(crate) fn op_with(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        attributes: impl IntoIterator<Item = (&'static str, Attribute)>,
    ) -> ValueId {
        let name = self.name(op);
        self.graph.add_op(op, &name, inputs, attributes)
    }

    fn name(&mut self, what: &str) -> String {
        self.added += 1;
        format!("grad.{}.{what}", self.added)
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let name = self.name("constant");
        self.graph.add_initializer(&name, tensor)
    }

    /// A float constant of the given shape.
    pub(crate) fn floats(&mut self, dims: &[usize], values: Vec<f32>) -> Result<ValueId> {
        let array = ndarray::ArrayD::from_shape_vec(ndarray::IxDyn(dims), values).map_err(|e| {
            Error::new(ErrorKind::Format, "a constant does not fill its shape").because(e)
        })?;
        Ok(self.constant(Tensor::from_f32(&array)))
    }

    pub(crate) fn scalar(&mut self, value: f32) -> ValueId {
        self.constant(Tensor::from_f32(&ndarray::arr0(value).into_dyn()))
    }

    pub(crate) fn ints(&mut self, values: &[i64]) -> ValueId {
        self.constant(Tensor::from_i64(vec![values.len()], values))
    }

    /// `a · factor`.
    pub(crate) fn scaled(&mut self, a: ValueId, factor: f32) -> ValueId {
        let factor = self.scalar(factor);
        self.op("Mul", &[a, factor])
    }

    fn cast(&mut self, value: ValueId) -> ValueId {
        let to = Attribute::Int(i64::from(DataType::F32.code()));
        self.op_with("Cast", &[value], [("to", to)])
    }

    /// 1 where the comparison of `a` with `b` holds, else 0.
    fn indicator(&mut self, relation: &str, a: ValueId, b: ValueId) -> ValueId {
        let holds = self.op(relation, &[a, b]);
        self.cast(holds)
    }

    /// `value` with the shape of `like`.
    fn shaped_like(&mut self, value: ValueId, like: ValueId) -> ValueId {
        let shape = self.op("Shape", &[like]);
        self.op("Reshape", &[value, shape])
    }

    /// `value` reshaped to `dims`; 0 keeps an extent, −1 is inferred.
    fn reshaped(&mut self, value: ValueId, dims: &[i64]) -> ValueId {
        let dims = self.ints(dims);
        self.op("Reshape", &[value, dims])
    }

    /// The sum over `axes`.
    pub(crate) fn summed(&mut self, value: ValueId, axes: &[usize], keep: bool) -> ValueId {
        let axes: Vec<i64> = axes.iter().map(|a| *a as i64).collect();
        let axes = self.ints(&axes);
        self.op_with("ReduceSum", &[value, axes], [("keepdims", Attribute::Int(keep.into()))])
    }

    /// The shape of a value of the net.
    pub(crate) fn shape(&self, value: ValueId) -> Result<Vec<Dim>> {
        let shape = match self.graph.initializer(value) {
            Some(tensor) => tensor.ty().shape,
            None => self.graph.value(value).ty.as_ref().and_then(|t| t.shape.clone()),
        };
        shape.ok_or_else(|| Error::new(ErrorKind::Unsupported, "a shape is not known"))
    }

    /// Fixed sizes of all axes from `first` on.
    pub(crate) fn sizes(&self, value: ValueId, first: usize) -> Result<Vec<usize>> {
        let shape = self.shape(value)?;
        shape
            .iter()
            .skip(first)
            .map(Dim::known)
            .collect::<Option<_>>()
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "extents are known only at run time"))
    }
}

/// An error about a case that a rule does not cover.
fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, what)
}

#[cfg(test)]
mod tests;

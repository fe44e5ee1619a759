//! Quantisation without its rounding, so that gradients pass through it (the straight-through estimator).
//!
//! QuantizeLinear becomes clip(x/s + z), DequantizeLinear (q − z)·s, and operators between them move floats. Only
//! rounding is left out. Saturation stays: quantisers leave out a Relu where the least code means 0.

use std::collections::HashSet;

use ndarray::{Array0, ArrayD};

use crate::error::Result;
use crate::ir::{DataType, Graph, Node, NodeId, Tensor, TensorType, ValueId};

/// Leaves the rounding out of every pair of operators that quantise computed values. Those with computed scales
/// for single channels, and with blocks, stay.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn unround(graph: &mut Graph) -> Result<()> {
    let order = graph.topological_order()?;
    let mut unrounded = Unrounded { graph, codes: HashSet::new() };
    for id in order {
        unrounded.visit(id);
    }
    Ok(())
}

struct Unrounded<'a> {
    graph: &'a mut Graph,
    /// Values that were integers and are floats now.
    codes: HashSet<ValueId>,
}

impl Unrounded<'_> {
    fn visit(&mut self, id: NodeId) {
        let node = self.graph.node(id).clone();
        if !node.domain.is_empty() || node.int("block_size", 0) != 0 {
            return;
        }
        match node.op.as_str() {
            "QuantizeLinear" => _ = self.quantize(id, &node),
            "DynamicQuantizeLinear" => _ = self.quantize_dynamically(id, &node),
            "DequantizeLinear" => _ = self.dequantize(id, &node),
            _ => self.pass_on(id, &node),
        }
    }

    fn quantize(&mut self, id: NodeId, node: &Node) -> Option<()> {
        let (x, q) = (node.input(0)?, node.output(0)?);
        let ty = self.graph.type_of(x).filter(|ty| ty.dtype == DataType::F32)?;
        let (low, high) = self.codes_of(node).code_range()?;
        let [scale, zero] = self.parameters(node, x)?;
        let mut scaled = self.op(node, "Div", &[x, scale]);
        if let Some(zero) = zero_if_any(self.graph, zero) {
            scaled = self.op(node, "Add", &[scaled, zero]);
        }
        let [low, high] = [low, high].map(|bound| self.scalar(bound as f32));
        self.graph.remove_node(id);
        self.give(node, "Clip", &[scaled, low, high], q);
        self.become_float(q, ty);
        Some(())
    }

    /// Codes between the least and the greatest value of a tensor mean the value itself.
    fn quantize_dynamically(&mut self, id: NodeId, node: &Node) -> Option<()> {
        let (x, q) = (node.input(0)?, node.output(0)?);
        let ty = self.graph.type_of(x).filter(|ty| ty.dtype == DataType::F32)?;
        self.graph.remove_node(id);
        self.give(node, "Identity", &[x], q);
        self.become_float(q, ty);
        for (output, value) in [(1, 1.0), (2, 0.0)] {
            if let Some(output) = node.output(output) {
                self.graph.set_initializer(output, scalar(value));
            }
        }
        Some(())
    }

    fn dequantize(&mut self, id: NodeId, node: &Node) -> Option<()> {
        let (q, y) = (node.input(0)?, node.output(0)?);
        if !self.codes.contains(&q) {
            return None;
        }
        let [scale, zero] = self.parameters(node, q)?;
        let mut moved = q;
        if let Some(zero) = zero_if_any(self.graph, zero) {
            moved = self.op(node, "Sub", &[q, zero]);
        }
        self.graph.remove_node(id);
        self.give(node, "Mul", &[moved, scale], y);
        Some(())
    }

    /// What an operator computes from codes are codes, and so are its constants.
    fn pass_on(&mut self, id: NodeId, node: &Node) {
        if !node.reads().any(|value| self.codes.contains(&value)) {
            return;
        }
        for (index, value) in node.inputs.iter().enumerate() {
            let Some(value) = value else { continue };
            let constant =
                self.graph.initializer(*value).filter(|c| c.dtype.code_range().is_some());
            if let Some(floats) = constant.and_then(floats) {
                let floats = Tensor::from_f32(&floats);
                let name = format!("{}.{index}.unrounded", node.name);
                let floats = self.graph.add_initializer(&name, floats);
                self.graph.edit_node(id, |node| node.inputs[index] = Some(floats));
            }
        }
        for output in node.outputs.iter().flatten() {
            if let Some(ty) =
                self.graph.type_of(*output).filter(|ty| ty.dtype.code_range().is_some())
            {
                self.become_float(*output, ty);
            }
        }
    }

    /// Scale and zero point as floats that fit to a value; `None` if they are computed for single channels.
    fn parameters(&mut self, node: &Node, value: ValueId) -> Option<[ValueId; 2]> {
        let axis = node.int("axis", 1);
        let scale = self.parameter(node, node.input(1)?, (value, axis))?;
        let zero = match node.input(2) {
            Some(zero) => self.parameter(node, zero, (value, axis))?,
            None => self.scalar(0.0),
        };
        Some([scale, zero])
    }

    fn parameter(
        &mut self,
        node: &Node,
        own: ValueId,
        (value, axis): (ValueId, i64),
    ) -> Option<ValueId> {
        let Some(constant) = self.graph.initializer(own) else {
            let shape = self.graph.type_of(own)?.shape?;
            return shape.is_empty().then_some(own);
        };
        let floats = floats(constant)?;
        let floats = match floats.len() {
            1 => ArrayD::from_elem(vec![], *floats.first()?),
            channels => {
                let rank = self.graph.type_of(value)?.shape?.len();
                let axis = if axis < 0 { axis + rank as i64 } else { axis };
                let mut dims = vec![1; rank];
                *dims.get_mut(usize::try_from(axis).ok()?)? = channels;
                floats.into_shape_with_order(dims).ok()?
            }
        };
        let name = format!("{}.unrounded", node.name);
        Some(self.graph.add_initializer(&name, Tensor::from_f32(&floats)))
    }

    /// The type of the codes that a node writes.
    fn codes_of(&self, node: &Node) -> DataType {
        let zero = node.input(2).and_then(|zero| self.graph.type_of(zero));
        let named = i32::try_from(node.int("output_dtype", 0)).unwrap_or(0);
        match zero {
            Some(ty) => ty.dtype,
            None if named != 0 => DataType::from_code(named),
            None => DataType::U8,
        }
    }

    fn become_float(&mut self, value: ValueId, ty: TensorType) {
        self.graph.set_type(value, Some(TensorType { dtype: DataType::F32, ..ty }));
        self.codes.insert(value);
    }

    fn scalar(&mut self, value: f32) -> ValueId {
        self.graph.add_initializer("unrounded", scalar(value))
    }

    fn op(&mut self, node: &Node, op: &str, inputs: &[ValueId]) -> ValueId {
        self.graph.add_op(op, &format!("{}.{op}", node.name), inputs, [])
    }

    /// Computes the value that a removed node computed.
    fn give(&mut self, node: &Node, op: &str, inputs: &[ValueId], output: ValueId) {
        let mut given = Node::standard(op, &node.name, inputs, []);
        given.outputs = vec![Some(output)];
        self.graph.add_node(given);
    }
}

fn scalar(value: f32) -> Tensor {
    Tensor::from_f32(&Array0::from_elem((), value).into_dyn())
}

/// A constant of floats or of codes as floats.
fn floats(constant: &Tensor) -> Option<ArrayD<f32>> {
    if constant.dtype.is_float() {
        return constant.to_f32().ok();
    }
    let values = constant.to_i64()?.into_iter().map(|code| code as f32).collect();
    ArrayD::from_shape_vec(constant.dims.clone(), values).ok()
}

/// A zero point, unless it is 0 throughout.
fn zero_if_any(graph: &Graph, zero: ValueId) -> Option<ValueId> {
    let constant = graph.initializer(zero).and_then(|zero| zero.to_f32().ok());
    constant.is_none_or(|zero| zero.iter().any(|v| *v != 0.0)).then_some(zero)
}

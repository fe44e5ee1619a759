//! Layers with weights, read and written as `[out, in, taps]`.

use ndarray::{Array1, Array3, ArrayD, Axis, IxDyn};

use crate::error::{Error, ErrorKind, Result};
use crate::ir::{DataType, Graph, NodeId, Tensor, ValueId};

use super::gate::Gate;

/// Padding of a window, per spatial axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pads {
    /// Positions before and after each axis.
    Fixed(Vec<(usize, usize)>),
    /// As many positions as [`same_pads`](super::same_pads) gives for the extents of a run.
    Same {
        /// Whether an odd one is before the axis.
        lower: bool,
    },
}

/// Window of a convolution, per spatial axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// Kernel extents.
    pub kernel: Vec<usize>,
    /// Strides.
    pub strides: Vec<usize>,
    /// Padding of each axis.
    pub pads: Pads,
    /// Dilations.
    pub dilations: Vec<usize>,
    /// Number of channel groups.
    pub groups: usize,
    /// Positions added at the end of each axis of a transposed convolution's output; zeros for others.
    pub output_padding: Vec<usize>,
}

/// How the layer applies its weights.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// `y = x·Wᵀ` with the weight stored `[out, in]`.
    Gemm,
    /// `y = x·W` along the last axis with the weight stored `[in, out]`.
    MatMul,
    /// Convolution with the weight stored `[out, in/groups, taps…]`.
    Conv(ConvGeometry),
    /// Transposed convolution with the weight stored `[in, out/groups, taps…]`. With several groups, each
    /// has one channel, so that the first axis is that of rows.
    ConvTranspose(ConvGeometry),
    /// A gate of a recurrent node; its weights are rows of the node's weights.
    Gate(Gate),
    /// Picks rows of a table stored `[in, out]`: a product with one-hot inputs, which correspond by
    /// their numbers.
    Table {
        /// Number of rows.
        rows: usize,
    },
}

/// A node whose weights produce new channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// The node that holds the weight.
    pub node: NodeId,
    /// How weights apply.
    pub kind: LayerKind,
    /// Data input.
    pub input: ValueId,
    /// Axis of the data input that is contracted.
    pub in_axis: usize,
    /// Output of the node.
    pub output: ValueId,
    /// Axis of the output that runs over new channels.
    pub out_axis: usize,
    /// The weight initializer.
    pub weight: ValueId,
    /// The bias initializer, an input of the node itself or of the addition.
    pub bias: Option<ValueId>,
    /// The following `Add` of the bias, if the layer's own node has no bias input. It returns the
    /// layer's output.
    pub addition: Option<NodeId>,
    /// The rows of the weight that belong to the layer; `None` for all. The rows of one node form several
    /// layers if they belong to different groups.
    pub rows: Option<Vec<usize>>,
}

impl Layer {
    /// Whether weights are stored `[in, out, …]`.
    pub fn in_first(&self) -> bool {
        match &self.kind {
            LayerKind::MatMul | LayerKind::Table { .. } => true,
            LayerKind::ConvTranspose(geometry) => geometry.groups == 1,
            LayerKind::Gemm | LayerKind::Conv(_) | LayerKind::Gate(_) => false,
        }
    }

    /// Whether the layer picks rows of a table.
    pub fn is_table(&self) -> bool {
        matches!(self.kind, LayerKind::Table { .. })
    }

    /// The node that returns the layer's output.
    pub fn last_node(&self) -> NodeId {
        self.addition.unwrap_or(self.node)
    }

    /// Index of the layer's row number `row` along the node's output.
    pub fn row(&self, row: usize) -> usize {
        self.rows.as_ref().and_then(|rows| rows.get(row).copied()).unwrap_or(row)
    }

    /// Sizes `(out, in, taps)` of the weight; only the layer's own rows count.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the weight is not a constant of rank 2 or more.
    pub fn sizes(&self, graph: &Graph) -> Result<(usize, usize, usize)> {
        let (out, inputs, taps) = self.stored_sizes(graph)?;
        Ok((self.rows.as_ref().map_or(out, Vec::len), inputs, taps))
    }

    /// Sizes `(out, in, taps)` of the node's weight.
    fn stored_sizes(&self, graph: &Graph) -> Result<(usize, usize, usize)> {
        if let LayerKind::Gate(gate) = &self.kind {
            return gate.sizes(self, graph);
        }
        let dims = &self.tensor(graph)?.dims;
        let (Some(a), Some(b)) = (dims.first(), dims.get(1)) else {
            return Err(Error::new(ErrorKind::Format, "a layer's weight has fewer than two axes"));
        };
        let taps = dims[2..].iter().product();
        Ok(if self.in_first() { (*b, *a, taps) } else { (*a, *b, taps) })
    }

    /// The weight as `[out, in, taps]`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] or [`ErrorKind::Unsupported`] for weights that are not float matrices.
    pub fn read(&self, graph: &Graph) -> Result<Array3<f32>> {
        let all = self.read_all(graph)?;
        Ok(match &self.rows {
            Some(rows) => all.select(Axis(0), rows),
            None => all,
        })
    }

    /// The weight of the node, with rows that are not the layer's.
    fn read_all(&self, graph: &Graph) -> Result<Array3<f32>> {
        if let LayerKind::Gate(gate) = &self.kind {
            return gate.read(self, graph);
        }
        let (out, inputs, taps) = self.stored_sizes(graph)?;
        let weight = self.tensor(graph)?.to_f32()?;
        let stored = if self.in_first() { (inputs, out, taps) } else { (out, inputs, taps) };
        let mut w = weight.into_shape_with_order(stored).map_err(shape_error)?;
        if !self.in_first() {
            return Ok(w);
        }
        w.swap_axes(0, 1);
        Ok(w.as_standard_layout().into_owned())
    }

    /// The weight's tensor, without a copy, if it consists of the layer's rows in order, each as `[in,
    /// taps]`.
    pub fn plain<'g>(&self, graph: &'g Graph) -> Option<&'g Tensor> {
        let is_plain = matches!(self.kind, LayerKind::Gemm | LayerKind::Conv(_));
        graph.initializer(self.weight).filter(|_| is_plain && self.rows.is_none())
    }

    /// Stores a weight that is [plain](Layer::plain), and bias `[out]`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for biases that are not floating point.
    pub fn write_plain(&self, graph: &mut Graph, w: Tensor, bias: &Array1<f32>) -> Result<()> {
        let dtype = w.dtype;
        graph.set_initializer(self.weight, w);
        self.write_bias(graph, dtype, bias)
    }

    /// All tensors that hold weights and biases; they share their bytes with the graph.
    pub fn stored(&self, graph: &Graph) -> Vec<Tensor> {
        let recurrence = match &self.kind {
            LayerKind::Gate(gate) => Some(gate.recurrence),
            _ => None,
        };
        let values = [Some(self.weight), self.bias, recurrence].into_iter().flatten();
        values.filter_map(|value| graph.initializer(value)).cloned().collect()
    }

    /// The bias, if the node has one.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if it is not floating point.
    pub fn read_bias(&self, graph: &Graph) -> Result<Option<Array1<f32>>> {
        let Some(tensor) = self.bias.and_then(|b| graph.initializer(b)) else { return Ok(None) };
        let values: Array1<f32> = match &self.kind {
            LayerKind::Gate(gate) => gate.read_bias(tensor)?,
            _ => tensor.to_f32()?.iter().copied().collect(),
        };
        Ok(Some(match &self.rows {
            Some(rows) => values.select(Axis(0), rows),
            None => values,
        }))
    }

    /// Converts a weight `[out, in, taps]` of all rows to the stored layout, with the layer's spatial
    /// extents.
    fn encode(&self, w: &Array3<f32>) -> Result<Tensor> {
        let mut w = w.view();
        if self.in_first() {
            w.swap_axes(0, 1);
        }
        let mut dims = vec![w.len_of(Axis(0)), w.len_of(Axis(1))];
        if let LayerKind::Conv(g) | LayerKind::ConvTranspose(g) = &self.kind {
            dims.extend(&g.kernel);
        }
        let values: Vec<f32> = w.iter().copied().collect();
        Ok(Tensor::from_f32(&ArrayD::from_shape_vec(IxDyn(&dims), values).map_err(shape_error)?))
    }

    /// Stores weight `[out, in, taps]` and bias `[out]`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the weight does not have the layer's sizes.
    pub fn write(
        &self,
        graph: &mut Graph,
        w: &Array3<f32>,
        bias: Option<&Array1<f32>>,
    ) -> Result<()> {
        if let LayerKind::Gate(gate) = &self.kind {
            return gate.write(self, graph, w, bias);
        }
        // The element type must stay that of the node's other inputs.
        let dtype = self.tensor(graph)?.dtype;
        let tensor = match &self.rows {
            Some(rows) => {
                let mut all = self.read_all(graph)?;
                for (row, own) in rows.iter().zip(w.outer_iter()) {
                    all.index_axis_mut(Axis(0), *row).assign(&own);
                }
                self.encode(&all)?
            }
            None => self.encode(w)?,
        };
        let wide = tensor.to_f64()?;
        graph.set_initializer(self.weight, Tensor::from_f64(dtype, &wide)?);
        bias.map_or(Ok(()), |bias| self.write_bias(graph, dtype, bias))
    }

    /// Stores the bias of a node that has one.
    fn write_bias(&self, graph: &mut Graph, dtype: DataType, bias: &Array1<f32>) -> Result<()> {
        let Some(value) = self.bias else { return Ok(()) };
        let wide = self.all_biases(graph, bias)?.into_dyn();
        graph.set_initializer(value, Tensor::from_f64(dtype, &wide)?);
        Ok(())
    }

    /// All biases of the node, with those of the layer's rows replaced.
    fn all_biases(&self, graph: &Graph, bias: &Array1<f32>) -> Result<Array1<f64>> {
        let stored = self.bias.and_then(|b| graph.initializer(b));
        let (Some(rows), Some(stored)) = (&self.rows, stored) else {
            return Ok(bias.mapv(f64::from));
        };
        let mut all: Array1<f64> = stored.to_f64()?.into_iter().collect();
        for (row, own) in rows.iter().zip(bias) {
            all[*row] = f64::from(*own);
        }
        Ok(all)
    }

    fn tensor<'g>(&self, graph: &'g Graph) -> Result<&'g Tensor> {
        graph
            .initializer(self.weight)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "a layer's weight is not a constant"))
    }
}

fn shape_error(e: ndarray::ShapeError) -> Error {
    Error::new(ErrorKind::Format, "a layer's weight does not fit its shape").because(e)
}

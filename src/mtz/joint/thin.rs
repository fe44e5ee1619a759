//! Corrections of low rank as layers of the tasks' nets.
//!
//! A layer with weights diag(s) (W + U V) is split into the layer with the common W, a layer with V on
//! the same inputs, a layer with U after it, their sum, and a `BatchNormalization` that scales. So a
//! corrected net is a plain net, and no other code needs to know of corrections.

use std::collections::{BTreeMap, HashMap};

use ndarray::{Array3, ArrayD, IxDyn};

use crate::align::TaskLayer;
use crate::couple::{Channel, CoupledLayer, Coupling, GroupId};
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::ir::{Attribute, DataType, Dim, Graph, Node, Tensor, TensorType, ValueKind};
use crate::mtz::solver::correction::{Change, CorrectedRows};
use crate::ops::LayerKind;

use super::matrix;
use super::model::{Fused, JointModel, Sharing};

/// Corrections by task and layer.
pub(crate) type Corrections = BTreeMap<TaskLayer, CorrectedRows>;

/// The rank of a correction, and the weights V and U of its layers.
type Factors = (usize, [Tensor; 2]);

/// Whether a layer can have a correction: it is one node, with weights for all rows, and applied once.
pub(crate) fn may_have_correction(layer: &CoupledLayer) -> bool {
    let plain = match &layer.layer.kind {
        LayerKind::Gemm | LayerKind::MatMul => true,
        LayerKind::Conv(geometry) => geometry.groups == 1,
        LayerKind::ConvTranspose(_) | LayerKind::Gate(_) | LayerKind::Table { .. } => false,
    };
    plain && !layer.per_channel && !layer.is_repeated && layer.layer.rows.is_none()
}

/// Whether a `BatchNormalization` after a corrected layer can scale it: its channels are on the second
/// axis.
pub(crate) fn may_have_scale(layer: &CoupledLayer) -> bool {
    let has_bias = layer.layer.bias.is_some() && layer.layer.addition.is_none();
    let kind = matches!(layer.layer.kind, LayerKind::Gemm | LayerKind::Conv(_));
    kind && has_bias && layer.layer.out_axis == 1 && may_have_correction(layer)
}

impl JointModel {
    /// The joint model with corrections as layers of their own. The given nets still hold weights and
    /// corrections as one sum.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if a layer's weight is not a matrix.
    pub(crate) fn with_corrections(&self, corrections: &Corrections) -> Result<JointModel> {
        let (mut tasks, mut sharing, mut fused) = (Vec::new(), Sharing::new(), Fused::new());
        for id in self.task_ids() {
            let task = self.task(id);
            let mut model = task.model().clone();
            for (own, thin) in corrections.iter().filter(|(own, _)| own.task == id) {
                let layer = self.layer(*own);
                split(&mut model.graph, layer, thin).at_node(&layer.name).in_model(task.name())?;
            }
            let new = task.with_model(model)?;
            let places = places(task.coupling(), new.coupling());
            let groups = new.coupling().groups.iter();
            let mut neurons: Vec<Vec<_>> = groups.map(|group| vec![None; group.size]).collect();
            for (group, channels) in self.sharing(id).iter().enumerate() {
                for (index, neuron) in channels.iter().enumerate().filter(|(_, n)| n.is_some()) {
                    let old = Channel { group: GroupId(group), index };
                    let new = places.get(&old).ok_or_else(lost)?;
                    neurons[new.group.0][new.index] = *neuron;
                }
            }
            fused.push(numbers(task.coupling(), new.coupling(), &self.fused()[id.0]));
            sharing.push(neurons);
            tasks.push(new);
        }
        JointModel::with_sharing(tasks, sharing, fused).ok_or_else(lost)
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Numeric, "a correction changes which channels are shared")
        .hint(Hint::from("merge without ").option("corrections"))
}

/// The groups and channels of a net after layers were added, found by its old values.
fn places(old: &Coupling, new: &Coupling) -> HashMap<Channel, Channel> {
    let axes = old.axes.iter().zip(&new.axes);
    let both = axes.filter_map(|(old, new)| Some((old.as_ref()?, new.as_ref()?)));
    both.flat_map(|(old, new)| old.channels.iter().copied().zip(new.channels.iter().copied()))
        .collect()
}

/// The number in `fused` of each layer, taken from the layers of the same nodes.
fn numbers(old: &Coupling, new: &Coupling, fused: &[Option<u32>]) -> Vec<Option<u32>> {
    let mut of_node: HashMap<_, Vec<Option<u32>>> = HashMap::new();
    for (layer, number) in old.layers.iter().zip(fused).rev() {
        of_node.entry(layer.layer.node).or_default().push(*number);
    }
    let mut number = |layer: &CoupledLayer| of_node.get_mut(&layer.layer.node)?.pop().flatten();
    new.layers.iter().map(&mut number).collect()
}

/// Subtracts the correction from a layer's weights and adds it as two layers and a sum.
fn split(graph: &mut Graph, layer: &CoupledLayer, thin: &CorrectedRows) -> Result<()> {
    let mut weights = matrix::read(layer, graph)?;
    for (row, scale) in thin.rows.iter().zip(&thin.scale) {
        weights.row_mut(*row).mapv_inplace(|w| w / scale);
    }
    for (row, common) in thin.rows.iter().zip(thin.common.rows()) {
        let values = thin.columns.iter().zip(common);
        values.for_each(|(column, value)| weights[(*row, *column)] = *value);
    }
    matrix::write(layer, graph, weights.view())?;
    if !thin.scale.is_empty() {
        scale_behind(graph, layer, thin);
    }
    match factors(graph, layer, thin)? {
        Some((rank, factors)) => add_beside(graph, layer, rank, factors),
        None => Ok(()),
    }
}

/// The rank of a correction, and the weights of its two layers as they are stored, V before U; `None` without
/// any.
fn factors(graph: &Graph, layer: &CoupledLayer, thin: &CorrectedRows) -> Result<Option<Factors>> {
    let Change::LowRank { left: of_rows, right: of_columns } = &thin.change else {
        return Ok(None);
    };
    let rank = of_columns.nrows();
    if rank == 0 {
        return Ok(None);
    }
    let (out, inputs, taps) = layer.layer.sizes(graph)?;
    let mut right = Array3::zeros((rank, inputs, taps));
    for (at, column) in thin.columns.iter().enumerate().filter(|(_, c)| **c < inputs * taps) {
        for r in 0..rank {
            right[(r, column / taps, column % taps)] = of_columns[(r, at)];
        }
    }
    let mut left = Array3::zeros((out, rank, 1));
    for (at, row) in thin.rows.iter().enumerate() {
        (0..rank).for_each(|r| left[(*row, r, 0)] = of_rows[(at, r)]);
    }
    let Some(dtype) = graph.initializer(layer.layer.weight).map(|weight| weight.dtype) else {
        return Err(lost());
    };
    let spatial = match &layer.layer.kind {
        LayerKind::Conv(geometry) => geometry.kernel.clone(),
        _ => Vec::new(),
    };
    let in_first = layer.layer.in_first();
    let right = tensor(&right, dtype, in_first, &spatial)?;
    let left = tensor(&left, dtype, in_first, &vec![1; spatial.len()])?;
    Ok(Some((rank, [right, left])))
}

/// Adds a node behind a layer that scales its channels.
fn scale_behind(graph: &mut Graph, layer: &CoupledLayer, thin: &CorrectedRows) {
    let (name, out) = (layer.name.clone(), layer.outputs.len());
    let mut scale = vec![1.0f32; out];
    thin.rows.iter().zip(&thin.scale).for_each(|(row, own)| scale[*row] = *own);
    let output = layer.layer.output;
    let ty = graph.value(output).ty.clone();
    let plain = graph.add_value(&format!("{name}.unscaled"), ValueKind::Detached, ty);
    graph.edit_node(layer.layer.last_node(), |node| node.outputs = vec![Some(plain)]);
    let vectors = [("scale", scale), ("shift", vec![0.0; out]), ("mean", vec![0.0; out])];
    let vectors = vectors.into_iter().chain([("variance", vec![1.0; out])]);
    let mut inputs = vec![Some(plain)];
    for (what, values) in vectors {
        let tensor = Tensor::from_f32(&ndarray::Array1::from(values).into_dyn());
        inputs.push(Some(graph.add_initializer(&format!("{name}.{what}"), tensor)));
    }
    graph.add_node(Node {
        name: format!("{name}.scaled"),
        op: "BatchNormalization".to_owned(),
        inputs,
        outputs: vec![Some(output)],
        attributes: [("epsilon".to_owned(), Attribute::Float(0.0))].into(),
        ..Node::default()
    });
}

/// Adds the layer with V beside a layer, the layer with U behind that, and the sum of both ways.
fn add_beside(
    graph: &mut Graph,
    layer: &CoupledLayer,
    rank: usize,
    factors: [Tensor; 2],
) -> Result<()> {
    let node = graph.node(layer.layer.node).clone();
    let output = graph.node(layer.layer.last_node()).output(0).ok_or_else(lost)?;
    let [right, left] =
        factors.map(|tensor| graph.add_initializer(&format!("{}.rank", node.name), tensor));
    let ty = graph.value(output).ty.clone();
    let narrow = ty.clone().map(|ty| with_size(ty, layer.layer.out_axis, rank));
    let value = |graph: &mut Graph, name: &str, ty: Option<TensorType>| {
        graph.add_value(&format!("{}.{name}", node.name), ValueKind::Detached, ty)
    };
    let [reduced, corrected, common] =
        [("reduced", narrow), ("correction", ty.clone()), ("common", ty)]
            .map(|(name, ty)| value(graph, name, ty));
    graph.edit_node(layer.layer.last_node(), |node| node.outputs = vec![Some(common)]);
    let down = Node {
        name: format!("{}.reduced", node.name),
        inputs: vec![Some(layer.layer.input), Some(right)],
        outputs: vec![Some(reduced)],
        ..node.clone()
    };
    let up = Node {
        name: format!("{}.correction", node.name),
        op: node.op.clone(),
        inputs: vec![Some(reduced), Some(left)],
        outputs: vec![Some(corrected)],
        attributes: match layer.layer.kind {
            LayerKind::Gemm => [("transB".to_owned(), Attribute::Int(1))].into(),
            _ => Default::default(),
        },
        ..Node::default()
    };
    let sum = Node {
        name: format!("{}.corrected", node.name),
        op: "Add".to_owned(),
        inputs: vec![Some(common), Some(corrected)],
        outputs: vec![Some(output)],
        ..Node::default()
    };
    for node in [down, up, sum] {
        graph.add_node(node);
    }
    Ok(())
}

/// A weight [out, in, taps] as it is stored.
fn tensor(w: &Array3<f32>, dtype: DataType, in_first: bool, spatial: &[usize]) -> Result<Tensor> {
    let mut w = w.view();
    if in_first {
        w.swap_axes(0, 1);
    }
    let (a, b, _) = w.dim();
    let dims: Vec<usize> = [a, b].into_iter().chain(spatial.iter().copied()).collect();
    let values: Vec<f64> = w.iter().map(|w| f64::from(*w)).collect();
    let array = ArrayD::from_shape_vec(IxDyn(&dims), values).map_err(|e| lost().because(e))?;
    Tensor::from_f64(dtype, &array)
}

fn with_size(mut ty: TensorType, axis: usize, size: usize) -> TensorType {
    let dim = ty.shape.as_mut().and_then(|shape| shape.get_mut(axis));
    if let Some(dim) = dim {
        *dim = Dim::Known(size);
    }
    ty
}

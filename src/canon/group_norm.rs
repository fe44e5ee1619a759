//! Writes group normalisation as instance normalisation of groups.
//!
//! After a reshape that puts groups and their channels on two axes, groups can be permuted as blocks,
//! and the channels within a group in any order. Exporters write either `GroupNormalization`, or the
//! same steps with the channels and pixels of a group on one axis.

use ndarray::{ArrayD, Axis, IxDyn};

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Model, NodeId, Tensor, ValueId};

use super::{CanonOptions, rewire, types};

/// Limit of channels, so that a few bytes in a file cannot fill the memory.
const MOST_CHANNELS: usize = 1 << 22;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let opset = model.opset();
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        modified |= one_node(graph, id, opset).is_some() || flattened(graph, id).is_some();
    }
    Ok(modified)
}

/// The normalised value, and its groups.
struct Groups {
    data: ValueId,
    shape: Vec<Dim>,
    count: usize,
    /// Channels in a group.
    width: usize,
}

impl Groups {
    fn of(graph: &Graph, data: ValueId, count: usize) -> Option<Groups> {
        let shape = types::shape(graph, data)?;
        let channels = shape.get(1)?.known()?;
        let fits = count > 0 && channels % count == 0 && channels <= MOST_CHANNELS;
        fits.then(|| Groups { data, width: channels / count, shape, count })
    }

    /// Normalises the data group by group; the result has the shape of the data.
    fn normalised(
        &self,
        graph: &mut Graph,
        name: &str,
        params: [ValueId; 2],
        epsilon: f32,
    ) -> ValueId {
        let target = [0, self.count as i64, self.width as i64, -1];
        let target = ints(graph, name, &target);
        let split = graph.add_op("Reshape", &format!("{name}.split"), &[self.data, target], []);
        let [scale, shift] = params;
        let inputs = [split, scale, shift];
        let epsilon = [("epsilon", Attribute::Float(epsilon))];
        let y = graph.add_op("InstanceNormalization", &format!("{name}.norm"), &inputs, epsilon);
        let open = self.shape.iter().skip(2).filter(|dim| dim.known().is_none()).count();
        let target = match open {
            0 | 1 => {
                let rest = self.shape.iter().skip(1);
                let rest = rest.map(|dim| dim.known().map_or(-1, |n| n as i64));
                ints(graph, name, &std::iter::once(0).chain(rest).collect::<Vec<i64>>())
            }
            _ => graph.add_op("Shape", &format!("{name}.shape"), &[self.data], []),
        };
        graph.add_op("Reshape", &format!("{name}.merged"), &[y, target], [])
    }
}

/// Rewrites `GroupNormalization` with constant scale and shift.
fn one_node(graph: &mut Graph, id: NodeId, opset: i64) -> Option<()> {
    let node = graph.node(id);
    let (data, output) = (node.input(0)?, node.output(0)?);
    let is_plain = node.is("GroupNormalization") && matches!(node.int("stash_type", 1), 1);
    let count = usize::try_from(node.int("num_groups", 0)).ok().filter(|_| is_plain)?;
    let (name, epsilon) = (node.name.clone(), node.float("epsilon", 1e-5));
    let [scale, shift] = [1, 2].map(|slot| graph.initializer(node.input(slot)?).cloned());
    let (scale, shift) = (scale?, shift?);
    let groups = Groups::of(graph, data, count)?;
    let channels = groups.width * count;
    // Up to operator set 20 there is one number per group.
    let own = if opset < 21 { count } else { channels };
    if scale.dims != [own] || shift.dims != [own] || groups.shape.len() < 3 {
        return None;
    }
    let per_channel = |tensor: &Tensor| -> Option<Tensor> {
        let values = tensor.to_f64().ok()?;
        let each: Vec<usize> = (0..channels).map(|channel| channel * own / channels).collect();
        Tensor::from_f64(tensor.dtype, &values.select(Axis(0), &each)).ok()
    };
    let (scale, shift) = (per_channel(&scale)?, per_channel(&shift)?);
    let y = if groups.width == 1 {
        let params = [scale, shift].map(|tensor| graph.add_initializer(&name, tensor));
        let inputs = [data, params[0], params[1]];
        let epsilon = [("epsilon", Attribute::Float(epsilon))];
        graph.add_op("InstanceNormalization", &format!("{name}.norm"), &inputs, epsilon)
    } else {
        let dtype = scale.dtype;
        let constant = |value| Tensor::from_f64(dtype, &ArrayD::from_elem(IxDyn(&[count]), value));
        let (ones, zeros) = (constant(1.0).ok()?, constant(0.0).ok()?);
        let params = [ones, zeros].map(|tensor| graph.add_initializer(&name, tensor));
        let y = groups.normalised(graph, &name, params, epsilon);
        let rank = groups.shape.len();
        let [scale, shift] = [scale, shift].map(|tensor| {
            let dims = std::iter::once(channels).chain(std::iter::repeat_n(1, rank - 2)).collect();
            graph.add_initializer(&format!("{name}.affine"), Tensor { dims, ..tensor })
        });
        let scaled = graph.add_op("Mul", &format!("{name}.scaled"), &[y, scale], []);
        graph.add_op("Add", &format!("{name}.shifted"), &[scaled, shift], [])
    };
    rewire::bypass(graph, output, y).then_some(())
}

/// Rewrites a `Reshape` to [batch, groups, rest], `InstanceNormalization`, and a `Reshape` back.
fn flattened(graph: &mut Graph, id: NodeId) -> Option<()> {
    let node = graph.node(id);
    let (value, output) = (node.input(0)?, node.output(0)?);
    let params = [node.input(1)?, node.input(2)?];
    let (name, epsilon) = (node.name.clone(), node.float("epsilon", 1e-5));
    let before = graph.node(graph.producer(value)?);
    let after = graph.node(graph.only_use(output)?);
    let is_between = node.is("InstanceNormalization")
        && before.is("Reshape")
        && after.is("Reshape")
        && after.input(0) == Some(output)
        && params.iter().all(|param| graph.initializer(*param).is_some());
    let (data, end) = (before.input(0).filter(|_| is_between)?, after.output(0)?);
    let flat = types::shape(graph, value).filter(|shape| shape.len() == 3)?;
    let mut groups = Groups::of(graph, data, flat.get(1)?.known()?)?;
    let keeps_batch = flat.first()?.is_surely(groups.shape.first()?);
    if !keeps_batch || groups.width == 1 {
        return None;
    }
    if !types::same_shape(graph, data, end) {
        // Pixels may be arranged anew, too, as in patches.
        let shape = types::shape(graph, end)?;
        let alike = shape.iter().zip(&groups.shape).take(2).all(|(a, b)| a.is_surely(b));
        let target = after.input(1).filter(|_| alike && shape.len() > 2)?;
        let copies = |target: &Tensor| target.to_i64().is_none_or(|sizes| sizes[1..].contains(&0));
        if graph.initializer(target).is_some_and(copies) {
            return None;
        }
        groups.data = graph.add_op("Reshape", &format!("{name}.arranged"), &[data, target], []);
        groups.shape = shape;
    }
    let y = groups.normalised(graph, &name, params, epsilon);
    rewire::bypass(graph, end, y).then_some(())
}

fn ints(graph: &mut Graph, name: &str, values: &[i64]) -> ValueId {
    rewire::ints(graph, &format!("{name}.target"), values)
}

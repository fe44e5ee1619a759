//! Writes a product with one matrix for each group of channels as a grouped convolution.
//!
//! Grouped fully connected layers, as in networks that remove noise from speech, cut channels into groups, multiply
//! each group with a matrix of its own, and join the groups again. Their weight is block-diagonal. Groups of a
//! convolution are layers.

use crate::error::Result;
use crate::ir::{Attribute, Consumers, Dim, Graph, Model, NodeId, ValueId};

use super::CanonOptions;
use super::rewire::{added, bypass, ints, only_reader};
use super::types::shape;
use super::ungroup::MOST_GROUPS;

/// Limit of transposes on either side of the product.
const MOST_TRANSPOSES: usize = 4;

/// Most axes of data that a convolution takes in every runtime.
const MOST_AXES: usize = 5;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let readers = graph.consumers();
    let mut modified = false;
    for id in graph.topological_order()? {
        if let Some(product) = BlockDiagonal::at(graph, &readers, id) {
            modified |= product.write(graph, id).is_some();
        }
    }
    Ok(modified)
}

/// Matrices of constants, one for each group.
#[derive(Clone, Copy)]
struct Blocks {
    weight: ValueId,
    groups: usize,
    inputs: usize,
    outputs: usize,
}

impl Blocks {
    fn at(graph: &Graph, id: NodeId) -> Option<Blocks> {
        let node = graph.node(id);
        let weight = node.input(1).filter(|_| node.is("MatMul"))?;
        let tensor = graph.initializer(weight).filter(|tensor| tensor.dtype.is_float())?;
        let leading = tensor.dims.len().checked_sub(3)?;
        let (ones, blocks) = tensor.dims.split_at(leading);
        let [groups, inputs, outputs] = *blocks else { return None };
        let fits = ones.iter().all(|extent| *extent == 1)
            && (2..=MOST_GROUPS).contains(&groups)
            && inputs * outputs > 0;
        fits.then_some(Blocks { weight, groups, inputs, outputs })
    }
}

/// A product with a matrix for each group, between reshapes that cut an axis into groups and join them.
struct BlockDiagonal {
    blocks: Blocks,
    /// The value before the groups, and its axis of channels.
    data: ValueId,
    axis: usize,
    /// The value behind the groups.
    output: ValueId,
}

impl BlockDiagonal {
    fn at(graph: &Graph, readers: &Consumers, id: NodeId) -> Option<BlockDiagonal> {
        let blocks = Blocks::at(graph, id)?;
        let cut = Cut::before(graph, graph.node(id).input(0)?)?;
        let [.., group, _, depth] = *cut.places.as_slice() else { return None };
        let from = shape(graph, cut.data)?;
        let parts = [Dim::Known(blocks.groups), Dim::Known(blocks.inputs)];
        let is_cut = group > 0
            && depth == group + 1
            && from.len() <= MOST_AXES
            && from.get(group)? == &Dim::Known(blocks.groups * blocks.inputs)
            && Dim::are_surely(&shape(graph, cut.parts)?, &spliced(&from, group, &parts));
        let output = joined(graph, readers, graph.node(id).output(0)?, cut.places)?;
        let joint = [Dim::Known(blocks.groups * blocks.outputs)];
        let is_joined = Dim::are_surely(&shape(graph, output)?, &spliced(&from, group, &joint));
        let own = BlockDiagonal { blocks, data: cut.data, axis: group, output };
        (is_cut && is_joined).then_some(own)
    }

    fn write(self, graph: &mut Graph, id: NodeId) -> Option<()> {
        let name = graph.node(id).name.clone();
        let rank = shape(graph, self.data)?.len();
        let is_flat = rank == 2;
        let mut x = self.data;
        let behind = ints(graph, &format!("{name}.axis"), &[2]);
        // Channels come second in a convolution.
        let perm: Vec<usize> = (0..rank).filter(|axis| *axis != self.axis).collect();
        let perm: Vec<usize> = [&perm[..1], &[self.axis], &perm[1..]].concat();
        let is_turned = self.axis != 1;
        if is_turned {
            x = transposed(graph, &format!("{name}.channels"), x, &perm);
        }
        if is_flat {
            x = added(graph, "Unsqueeze", &format!("{name}.wide"), &[x, behind], []);
        }
        let spatial = (rank - 2).max(1);
        let weight = self.filters(graph, &name, spatial)?;
        let attributes = [
            ("group", Attribute::Int(self.blocks.groups as i64)),
            ("kernel_shape", Attribute::Ints(vec![1; spatial])),
        ];
        let mut y = added(graph, "Conv", &format!("{name}.groups"), &[x, weight], attributes);
        if is_flat {
            y = added(graph, "Squeeze", &format!("{name}.flat"), &[y, behind], []);
        }
        if is_turned {
            let back: Option<Vec<usize>> =
                (0..rank).map(|axis| perm.iter().position(|own| *own == axis)).collect();
            y = transposed(graph, &format!("{name}.turned"), y, &back?);
        }
        bypass(graph, self.output, y).then_some(())
    }

    /// The matrices as the weight of a convolution over `spatial` axes.
    fn filters(&self, graph: &mut Graph, name: &str, spatial: usize) -> Option<ValueId> {
        let Blocks { weight, groups, inputs, outputs } = self.blocks;
        let rank = graph.initializer(weight)?.dims.len();
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank - 2, rank - 1);
        let rows = transposed(graph, &format!("{name}.rows"), weight, &perm);
        let mut dims = vec![(groups * outputs) as i64, inputs as i64];
        dims.resize(2 + spatial, 1);
        let dims = ints(graph, &format!("{name}.filter"), &dims);
        Some(added(graph, "Reshape", &format!("{name}.weight"), &[rows, dims], []))
    }
}

/// A reshape that cuts an axis into groups, perhaps with transposes behind it.
struct Cut {
    data: ValueId,
    parts: ValueId,
    /// The axis behind the reshape that each axis behind the transposes is.
    places: Vec<usize>,
}

impl Cut {
    fn before(graph: &Graph, value: ValueId) -> Option<Cut> {
        let mut places: Vec<usize> = (0..shape(graph, value)?.len()).collect();
        let mut parts = value;
        for _ in 0..=MOST_TRANSPOSES {
            let node = graph.node(graph.producer(parts)?);
            let data = node.input(0)?;
            if node.is("Reshape") {
                return Some(Cut { data, parts, places });
            }
            let perm = order(graph, graph.producer(parts)?)?;
            places =
                places.into_iter().map(|place| perm.get(place).copied()).collect::<Option<_>>()?;
            parts = data;
        }
        None
    }
}

/// The value behind a reshape of `value`, perhaps with transposes before it that bring all axes back into the order
/// that `places` tells of.
fn joined(
    graph: &Graph,
    readers: &Consumers,
    mut value: ValueId,
    mut places: Vec<usize>,
) -> Option<ValueId> {
    for _ in 0..=MOST_TRANSPOSES {
        let reader = only_reader(graph, readers, value)?;
        let node = graph.node(reader);
        let output = node.output(0).filter(|_| node.input(0) == Some(value))?;
        if node.is("Reshape") || node.is("Flatten") {
            return places.iter().copied().eq(0..places.len()).then_some(output);
        }
        let perm = order(graph, reader)?;
        places = perm.into_iter().map(|place| places.get(place).copied()).collect::<Option<_>>()?;
        value = output;
    }
    None
}

/// The order of axes that a transpose gives.
fn order(graph: &Graph, id: NodeId) -> Option<Vec<usize>> {
    let node = graph.node(id);
    let perm = node.ints("perm").filter(|_| node.is("Transpose"))?;
    perm.iter().map(|place| usize::try_from(*place).ok()).collect()
}

fn transposed(graph: &mut Graph, name: &str, value: ValueId, perm: &[usize]) -> ValueId {
    let perm = perm.iter().map(|place| *place as i64).collect();
    added(graph, "Transpose", name, &[value], [("perm", Attribute::Ints(perm))])
}

/// A shape with other extents in place of one axis.
fn spliced(from: &[Dim], axis: usize, extents: &[Dim]) -> Vec<Dim> {
    let behind = from.get(axis + 1..).unwrap_or_default();
    [from.get(..axis).unwrap_or_default(), extents, behind].concat()
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::ValueId;
    use crate::ir::builder::{GraphBuilder, shape};

    /// The operators of the canonical form of a net, whose result keeps its shape.
    fn ops(result: &str, net: fn(&mut GraphBuilder) -> ValueId) -> Vec<String> {
        let mut b = GraphBuilder::new("net", 17);
        let y = net(&mut b);
        let y = b.op("Relu", "y", &[y], []);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let graph = &model.graph;
        assert_eq!(graph.type_of(graph.outputs[0]).unwrap().shape.unwrap(), shape(result));
        let order = graph.topological_order().unwrap();
        order.into_iter().map(|id| graph.node(id).op.clone()).collect()
    }

    fn reshaped(b: &mut GraphBuilder, x: ValueId, sizes: &[i64]) -> ValueId {
        let sizes = b.ints("sizes", sizes);
        b.op("Reshape", "reshape", &[x, sizes], [])
    }

    fn contracted(b: &mut GraphBuilder, equation: &str, x: ValueId, dims: &[usize]) -> ValueId {
        let w = b.weights("w", dims);
        b.op("Einsum", "product", &[x, w], [("equation", equation.into())])
    }

    #[test]
    fn a_matrix_for_each_group_of_features_is_a_layer_for_each() {
        let found = ops("n,t,6", |b| {
            let x = b.input("x", "n,t,8");
            let x = reshaped(b, x, &[0, 0, 2, 4]);
            let y = contracted(b, "ntgi,gio->ntgo", x, &[2, 4, 3]);
            reshaped(b, y, &[0, 0, -1])
        });
        assert_eq!(found, ["Transpose", "Split", "Conv", "Conv", "Concat", "Transpose", "Relu"]);
    }

    #[test]
    fn channels_may_come_second() {
        let found = ops("n,6,t", |b| {
            let x = b.input("x", "n,8,t");
            let x = reshaped(b, x, &[0, 2, 4, -1]);
            let y = contracted(b, "ngit,gio->ngot", x, &[2, 4, 3]);
            reshaped(b, y, &[0, 6, -1])
        });
        assert_eq!(found, ["Split", "Conv", "Conv", "Concat", "Relu"]);
        let found = ops("n,6", |b| {
            let x = b.input("x", "n,8");
            let x = reshaped(b, x, &[0, 2, 4]);
            let y = contracted(b, "ngi,gio->ngo", x, &[2, 4, 3]);
            reshaped(b, y, &[0, 6])
        });
        assert_eq!(found, ["Unsqueeze", "Split", "Conv", "Conv", "Concat", "Flatten", "Relu"]);
    }

    #[test]
    fn groups_that_are_read_apart_keep_their_stack() {
        let found = ops("n,t,2,3", |b| {
            let x = b.input("x", "n,t,8");
            let x = reshaped(b, x, &[0, 0, 2, 4]);
            contracted(b, "ntgi,gio->ntgo", x, &[2, 4, 3])
        });
        assert!(!found.contains(&"Conv".to_owned()), "{found:?}");
    }
}

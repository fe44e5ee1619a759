//! Copies of a net with permuted channels that compute the same function.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ndarray::Axis;
use rand::SeedableRng;
use rand::seq::SliceRandom;

use onnx_zip::canon::{BatchNorm, CanonOptions, canonicalise};
use onnx_zip::couple::{Channel, Coupling, LayerId, Nest};
use onnx_zip::ir::{Attribute, DataType, Graph, Model, Node, NodeId, Tensor, ValueId, ValueKind};
use onnx_zip::mtz::joint::Task;
use onnx_zip::ops::{Flow, Operand, Partwise, Together};

/// The net in canonical form with the channels of every hidden group permuted.
///
/// An operator that needs its channels whole gets them in their old order. Its outputs are permuted
/// again.
pub fn permuted(model: &Model, seed: u64) -> Model {
    permuted_with(model, seed, BatchNorm::Fold)
}

/// [`permuted`] with an option for `BatchNormalization`.
pub fn permuted_with(model: &Model, seed: u64, batchnorm: BatchNorm) -> Model {
    let options = CanonOptions { batchnorm, ..CanonOptions::default() };
    let task = Task::fresh("p", canonicalise(model.clone(), &options).unwrap()).unwrap();
    let (mut net, coupling) = (task.model().clone(), task.coupling().clone());
    let orders = Orders::new(&coupling, seed);
    let graph = &mut net.graph;
    for id in (0..coupling.layers.len()).map(LayerId) {
        // A layer that is applied several times has its weights once.
        if coupling.first_use(id) == id {
            permute_layer(graph, &coupling, id, &orders);
        }
    }
    for (id, flow) in &coupling.flows {
        match flow {
            Flow::Partwise(Partwise { operands, .. })
            | Flow::Together(Together { operands, .. }) => {
                permute_parameters(graph, &coupling, *id, operands, &orders);
                permute_depths(graph, &coupling, *id, operands, &orders);
                straighten_plain(graph, &coupling, *id, operands, &orders);
            }
            Flow::Whole(_) => straighten(graph, &coupling, *id, &orders),
            Flow::Layer(layer) => {
                let number = coupling.layer_of(*id).unwrap();
                if coupling.layer(number).inputs.is_none() {
                    straighten_read(graph, &coupling, (*id, layer.input), &orders);
                }
            }
            Flow::Recurrent(gates) => {
                let units = coupling.axis(gates[0].output).unwrap();
                permute_states(graph, *id, &orders.places(&units.channels));
            }
            _ => {}
        }
    }
    straighten_outputs(graph, &coupling, &orders);
    net
}

/// For each group, the old index of the channel at each new index.
struct Orders(Vec<Vec<usize>>);

impl Orders {
    fn new(coupling: &Coupling, seed: u64) -> Self {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let order = |group: &onnx_zip::couple::ChannelGroup| {
            let mut order: Vec<usize> = (0..group.size).collect();
            // Channels without a producing layer keep their place.
            if group.frozen.is_none() && !group.producers.is_empty() {
                order.shuffle(&mut rng);
            }
            order
        };
        let mut orders: Vec<Vec<usize>> = coupling.groups.iter().map(order).collect();
        let mut families: BTreeMap<usize, Vec<&Nest>> = BTreeMap::new();
        coupling.nests.iter().for_each(|nest| families.entry(nest.heads.0).or_default().push(nest));
        for (heads, nests) in families {
            let moves = |nest: &&Nest| coupling.group(nest.channels).frozen.is_none();
            let may_move = nests.iter().all(moves);
            let mut order: Vec<usize> = (0..orders[heads].len()).collect();
            if may_move {
                order.shuffle(&mut rng);
            }
            for nest in nests {
                let blocks = nest.blocks();
                let common = common_order(coupling, nest, &orders, may_move, &mut rng);
                for (block, old) in blocks.iter().zip(&order) {
                    let mut inside = blocks[*old].clone();
                    match &common {
                        Some(common) => {
                            inside = common.iter().map(|place| inside[*place]).collect();
                        }
                        None if may_move && !nest.is_fixed => inside.shuffle(&mut rng),
                        None => {}
                    }
                    for (new, old) in block.iter().zip(inside) {
                        orders[nest.channels.0][*new] = old;
                    }
                }
            }
            orders[heads] = order;
        }
        Orders(orders)
    }

    /// The permutation of an axis with these channels: the old index for each new one.
    fn places(&self, channels: &[Channel]) -> Vec<usize> {
        let mut at: HashMap<Channel, Vec<usize>> = HashMap::new();
        for (index, channel) in channels.iter().enumerate() {
            at.entry(*channel).or_default().push(index);
        }
        // The n-th index of a channel, say its n-th pixel, takes the place of the n-th index of another.
        let mut seen: HashMap<Channel, usize> = HashMap::new();
        let place = |channel: &Channel| {
            let nth = seen.entry(*channel).or_default();
            *nth += 1;
            let old = Channel { index: self.0[channel.group.0][channel.index], ..*channel };
            at[&old][*nth - 1]
        };
        channels.iter().map(place).collect()
    }
}

/// The order of the channels of all heads, if they have one: that of the only head which they meet, if there is one.
fn common_order(
    coupling: &Coupling,
    nest: &Nest,
    orders: &[Vec<usize>],
    may_move: bool,
    rng: &mut rand_chacha::ChaCha8Rng,
) -> Option<Vec<usize>> {
    if coupling.is_of_pairs(nest) {
        return nest.depths.map(|depths| orders[depths.0].clone());
    }
    if !nest.is_common || nest.is_fixed || !may_move {
        return None;
    }
    Some(match nest.depths {
        Some(depths) => orders[depths.0].clone(),
        None => {
            let mut order: Vec<usize> = (0..nest.width()).collect();
            order.shuffle(rng);
            order
        }
    })
}

/// Puts values with one entry per depth, for all heads, into the order of these.
fn permute_depths(
    graph: &mut Graph,
    coupling: &Coupling,
    id: NodeId,
    operands: &[Operand],
    orders: &Orders,
) {
    let node = graph.node(id).clone();
    let is_wide = |value: &ValueId| coupling.axis(*value).is_some_and(|axis| axis.within.is_some());
    let mut values = node.inputs.iter().chain(&node.outputs).flatten().copied();
    let Some(wide) = values.find(is_wide) else { return };
    let axis = coupling.axis(wide).unwrap();
    let shape = graph.value(wide).ty.clone().unwrap().shape.unwrap();
    let width = shape[axis.within.unwrap()].known().unwrap();
    let places = orders.places(&axis.channels);
    let order: Vec<usize> = places[..width].iter().map(|place| place % width).collect();
    for (slot, operand) in operands.iter().enumerate() {
        if let Operand::Entries { heads, depths } = operand {
            let value = node.inputs[slot].unwrap();
            permute_entries(graph, value, [*heads, *depths], (&places, width));
        }
        let Operand::Depths { axis } = operand else { continue };
        let value = node.inputs[slot].unwrap();
        if let Some(tensor) = graph.initializer(value) {
            let tensor = tensor.select(*axis, &order).unwrap();
            graph.set_initializer(value, tensor);
            continue;
        }
        let own = match coupling.axis(value) {
            Some(own) => orders.places(&own.channels),
            None => (0..width).collect(),
        };
        let at = |old: &usize| own.iter().position(|place| place == old).unwrap();
        let wanted: Vec<usize> = order.iter().map(at).collect();
        if !wanted.is_sorted() {
            let moved = graph.add_value("moved", ValueKind::Detached, None);
            gather(graph, value, *axis, &wanted, moved);
            graph.edit_node(id, |node| node.inputs[slot] = Some(moved));
        }
    }
}

/// Permutes a constant with one entry per depth of each head.
fn permute_entries(
    graph: &mut Graph,
    value: ValueId,
    [heads, depths]: [usize; 2],
    (places, width): (&[usize], usize),
) {
    let old = graph.initializer(value).unwrap().to_f32().unwrap().into_owned();
    let new = ndarray::ArrayD::from_shape_fn(old.raw_dim(), |mut at| {
        let place = places[at[heads] * width + at[depths]];
        (at[heads], at[depths]) = (place / width, place % width);
        old[at]
    });
    graph.set_initializer(value, Tensor::from_f32(&new));
}

fn permute_layer(graph: &mut Graph, coupling: &Coupling, id: LayerId, orders: &Orders) {
    let layer = coupling.layer(id);
    let w = layer.layer.read(graph).unwrap();
    let bias = layer.layer.read_bias(graph).unwrap();
    let rows = orders.places(&layer.outputs);
    let mut w = w.select(Axis(0), &rows);
    if let (false, Some(inputs)) = (layer.per_channel, &layer.inputs) {
        w = w.select(Axis(1), &orders.places(inputs));
    }
    let bias = bias.map(|b| b.select(Axis(0), &rows));
    layer.layer.write(graph, &w, bias.as_ref()).unwrap();
}

/// Permutes constants with an entry per channel.
fn permute_parameters(
    graph: &mut Graph,
    coupling: &Coupling,
    id: NodeId,
    operands: &[Operand],
    orders: &Orders,
) {
    let node = graph.node(id).clone();
    for (operand, input) in operands.iter().zip(&node.inputs) {
        let (Operand::Param { axis }, Some(value)) = (operand, input) else { continue };
        let channels = coupling.axis(node.outputs[0].unwrap()).unwrap();
        let places = orders.places(&channels.channels);
        let tensor = graph.initializer(*value).unwrap();
        // One number per channel, or per head.
        let width = places.len() / tensor.dims[*axis];
        let places: Vec<usize> = places.chunks(width).map(|run| run[0] / width).collect();
        let tensor = tensor.select(*axis, &places).unwrap();
        graph.set_initializer(*value, tensor);
    }
}

/// Puts channels that are the same for all others into their old order.
fn straighten_plain(
    graph: &mut Graph,
    coupling: &Coupling,
    id: NodeId,
    operands: &[Operand],
    orders: &Orders,
) {
    let inputs = graph.node(id).inputs.clone();
    for (slot, (operand, input)) in operands.iter().zip(inputs).enumerate() {
        let Some(value) = input.filter(|_| *operand == Operand::Plain) else { continue };
        let Some((axis, places)) = moved(coupling, value, orders) else { continue };
        let straight = in_old_order(graph, value, axis, &places);
        graph.edit_node(id, |node| node.inputs[slot] = Some(straight));
    }
}

/// Permutes states of a recurrent layer like its hidden units.
fn permute_states(graph: &mut Graph, id: NodeId, places: &[usize]) {
    let inputs = graph.node(id).inputs.clone();
    for (slot, state) in inputs.into_iter().enumerate().skip(4) {
        let Some(state) = state else { continue };
        let is_size = graph.value(state).ty.as_ref().is_some_and(|ty| ty.dtype == DataType::I32);
        let Some(tensor) = graph.initializer(state) else {
            if !is_size && !places.is_sorted() {
                let moved = graph.add_value("moved", ValueKind::Detached, None);
                gather(graph, state, 2, places, moved);
                graph.edit_node(id, |node| node.inputs[slot] = Some(moved));
            }
            continue;
        };
        let moved = tensor.to_f32().unwrap().select(Axis(2), places);
        graph.set_initializer(state, Tensor::from_f32(&moved));
    }
}

/// Puts a value that a node reads into its old order.
fn straighten_read(
    graph: &mut Graph,
    coupling: &Coupling,
    (id, value): (NodeId, ValueId),
    orders: &Orders,
) {
    let Some((axis, places)) = moved(coupling, value, orders) else { return };
    let straight = in_old_order(graph, value, axis, &places);
    graph.edit_node(id, |node| node.redirect(|v| if v == value { straight } else { v }));
}

/// Puts a node's inputs into their old order, and its outputs into the new one.
fn straighten(graph: &mut Graph, coupling: &Coupling, id: NodeId, orders: &Orders) {
    let node = graph.node(id).clone();
    let read: BTreeSet<ValueId> = node.reads().collect();
    read.into_iter().for_each(|value| straighten_read(graph, coupling, (id, value), orders));
    for (slot, output) in node.outputs.iter().enumerate() {
        let Some((axis, places)) = output.and_then(|v| moved(coupling, v, orders)) else {
            continue;
        };
        let straight = graph.add_value("straight", ValueKind::Detached, None);
        graph.edit_node(id, |node| node.outputs[slot] = Some(straight));
        gather(graph, straight, axis, &places, output.unwrap());
    }
}

/// Puts model outputs with hidden channels into their old order.
fn straighten_outputs(graph: &mut Graph, coupling: &Coupling, orders: &Orders) {
    for slot in 0..graph.outputs.len() {
        let output = graph.outputs[slot];
        let Some((axis, places)) = moved(coupling, output, orders) else { continue };
        let straight = in_old_order(graph, output, axis, &places);
        let name = graph.value(output).name.clone();
        let ty = graph.value(output).ty.clone();
        graph.rename_value(output, &format!("{name}.permuted"));
        graph.rename_value(straight, &name);
        graph.set_type(straight, ty);
        graph.outputs[slot] = straight;
    }
}

fn in_old_order(graph: &mut Graph, value: ValueId, axis: usize, places: &[usize]) -> ValueId {
    let mut back = vec![0; places.len()];
    places.iter().enumerate().for_each(|(new, old)| back[*old] = new);
    let straight = graph.add_value("straight", ValueKind::Detached, None);
    gather(graph, value, axis, &back, straight);
    straight
}

/// The axis and permutation of a value's channels, if they have moved.
fn moved(coupling: &Coupling, value: ValueId, orders: &Orders) -> Option<(usize, Vec<usize>)> {
    let axis = coupling.axis(value)?;
    let places = orders.places(&axis.channels);
    (!places.iter().enumerate().all(|(i, p)| i == *p)).then_some((axis.axis, places))
}

fn gather(graph: &mut Graph, data: ValueId, axis: usize, places: &[usize], output: ValueId) {
    let places: Vec<i64> = places.iter().map(|p| *p as i64).collect();
    let indices = Tensor::from_i64(vec![places.len()], &places);
    let indices = graph.add_initializer("order", indices);
    graph.add_node(Node {
        name: graph.value(output).name.clone() + ".reorder",
        op: "Gather".to_owned(),
        inputs: vec![Some(data), Some(indices)],
        outputs: vec![Some(output)],
        attributes: [("axis".to_owned(), Attribute::Int(axis as i64))].into(),
        ..Node::default()
    });
}

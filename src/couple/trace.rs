//! Follows channels through a graph and groups them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::atoms::{Atoms, Mark};
use super::heads::{Heads, Rows};
use super::{Coupling, End, Frozen, Tied, View};
use crate::error::Result;
use crate::ir::{Consumers, Dim, Graph, NodeId, ValueId};
use crate::ops::{self, Atom, Flow, Labels, Layer, LayerKind, OpRule, Pick};

/// Limit of layers per node.
const MOST_PARTS: usize = 16;

/// State of the walk through the graph.
pub(super) struct Tracer<'g> {
    pub(super) graph: &'g Graph,
    pub(super) atoms: Atoms,
    pub(super) labels: Vec<Option<Labels>>,
    pub(super) layers: Vec<(Layer, bool)>,
    pub(super) flows: BTreeMap<NodeId, Flow>,
    pub(super) reasons: Vec<Frozen>,
    /// Nodes other than layers at which channels begin, by their index.
    pub(super) makers: HashMap<u32, NodeId>,
    pub(super) heads: Heads,
    /// By the smallest atom of a channel, whether it reaches an answer without passing another layer.
    pub(super) answered: Vec<bool>,
    /// Values that depend on a layer.
    pub(super) learned: HashSet<ValueId>,
    /// Channels that begin at values of one number, and the reason to freeze them.
    pub(super) uniform: Vec<(Vec<Atom>, u32)>,
    /// Values with one number for all channels, and the axis of extent 1 on which it is.
    pub(super) summed: HashMap<ValueId, usize>,
    /// Values whose rows are depths of heads.
    pub(super) rows: HashMap<ValueId, Rows>,
    /// Products that sum over such rows.
    pub(super) met: BTreeSet<NodeId>,
    pub(super) closed: &'g Closed,
    pub(super) readers: Consumers,
    /// The number of the first layer with each weight.
    pub(super) first_uses: HashMap<ValueId, usize>,
    /// Number of channels that may still be followed, counted at every value on their way.
    pub(super) room: usize,
    /// Nodes at which channels begin, whatever their rules say.
    pub(super) view: Option<View<'g>>,
}

/// Followed channels per value at most, so that a small file cannot fill the memory.
pub(super) const MOST_CHANNELS: usize = 1 << 22;

/// Followed channels of all values at most.
const MOST_LABELS: usize = 1 << 25;

/// Reshapes that split the axis of channels, but whose heads cannot be paired.
#[derive(Default)]
pub(super) struct Closed {
    /// They put no channels on two axes.
    pub(super) on_two_axes: BTreeSet<NodeId>,
    /// They do not cut channels into blocks that keep their order either.
    pub(super) in_blocks: BTreeSet<NodeId>,
}

impl Closed {
    fn close(&mut self, reshape: NodeId) {
        if !self.on_two_axes.insert(reshape) {
            self.in_blocks.insert(reshape);
        }
    }
}

/// Follows channels until all heads and blocks of channels can be paired. They begin at layers and inputs, and as a
/// view says.
pub(super) fn trace(graph: &Graph, view: Option<View<'_>>) -> Result<Coupling> {
    let mut closed = Closed::default();
    loop {
        let (coupling, open) = follow(graph, &closed, view)?;
        if open.is_empty() {
            return Ok(coupling);
        }
        // Pairs of heads and depths are given up before heads are.
        let is_pair = |id: &&NodeId| graph.node(**id).is("MatMul");
        let some: Vec<NodeId> = open.iter().filter(is_pair).copied().collect();
        let all = if some.is_empty() { open.into_iter().collect() } else { some };
        all.into_iter().for_each(|node| closed.close(node));
    }
}

/// The coupling with these reshapes closed, and further reshapes to close.
fn follow<'g>(
    graph: &'g Graph,
    closed: &'g Closed,
    view: Option<View<'g>>,
) -> Result<(Coupling, BTreeSet<NodeId>)> {
    let mut tracer = Tracer {
        graph,
        atoms: Atoms::default(),
        labels: vec![None; graph.value_count()],
        layers: Vec::new(),
        flows: BTreeMap::new(),
        reasons: Vec::new(),
        makers: HashMap::new(),
        heads: Heads::default(),
        answered: Vec::new(),
        learned: HashSet::new(),
        uniform: Vec::new(),
        summed: HashMap::new(),
        rows: HashMap::new(),
        met: BTreeSet::new(),
        closed,
        readers: graph.consumers(),
        first_uses: HashMap::new(),
        room: MOST_LABELS,
        view,
    };
    let are_followed = !tracer.is_alone();
    for (index, input) in graph.inputs.iter().enumerate().filter(|_| are_followed) {
        tracer.enter_input(index, *input);
    }
    for node in graph.topological_order()? {
        tracer.visit(node);
    }
    tracer.keep_shown_rows();
    tracer.freeze_uniform();
    let tied = tracer.freeze_repeated_rows();
    tracer.heads.unite(&mut tracer.atoms);
    tracer.freeze_outputs()?;
    let (coupling, open) = tracer.resolve();
    Ok((Coupling { tied, ..coupling }, open))
}

impl Tracer<'_> {
    fn visit(&mut self, id: NodeId) {
        if self.flows.contains_key(&id) || self.is_out_of_view(id) {
            return;
        }
        self.adopt(id);
        let node = self.graph.node(id);
        let rule = node.domain.is_empty().then(|| ops::rule(&node.op)).flatten();
        let tracked = node.reads().any(|v| self.labels[v.index()].is_some());
        let flow = match rule {
            _ if tracked && !self.has_room(id) => Flow::whole("more channels than are followed"),
            _ if self.is_empty(id) => {
                self.spoil(id);
                if tracked { Flow::whole("a value without elements") } else { Flow::Untracked }
            }
            _ if self.captures_heads(id) => {
                self.spoil(id);
                Flow::whole("heads that a sub-graph reads")
            }
            Some(rule) if self.reads_heads(id) => {
                let aside = self.set_aside(id);
                let flow = self.head_flow(id, rule);
                self.put_back(aside);
                flow
            }
            Some(rule) => self.flow_by_rule(id, rule, tracked),
            None if tracked => {
                self.spoil(id);
                Flow::whole("an operator without a channel rule")
            }
            None => Flow::Untracked,
        };
        let flow = self.opened(id, flow);
        self.apply(id, &flow);
        self.note_sum(id, &flow);
        self.carry_rows(id);
        self.learn(id, &flow);
        self.room = self.room.saturating_sub(self.labelled(id));
        if flow != Flow::Untracked {
            self.flows.insert(id, flow);
        }
    }

    /// The flow of a node that reads no channels on two axes, perhaps of one at which channels begin.
    fn flow_by_rule(&mut self, id: NodeId, rule: &dyn OpRule, tracked: bool) -> Flow {
        let flow = self.viewed(id).or_else(|| self.spread(id)).or_else(|| self.regrouped(id));
        if let Some(flow) = flow.or_else(|| self.common_values(id)) {
            return flow;
        }
        let flow = self.plain_flow(id, rule);
        let flow = self.mixing(id, flow);
        let begins = match &flow {
            Flow::Layer(_) | Flow::PerChannel(_) | Flow::Recurrent(_) => true,
            Flow::Whole(whole) => whole.outputs.iter().flatten().any(Labels::go_on),
            _ => false,
        };
        match tracked || begins {
            true => flow,
            false => self.begun_again(id).unwrap_or(Flow::Untracked),
        }
    }

    /// Whether the limits allow to follow the channels of a node's inputs and outputs.
    fn has_room(&self, id: NodeId) -> bool {
        let extents = |value: &ValueId| {
            let shape = self.graph.value(*value).ty.as_ref().and_then(|ty| ty.shape.as_ref());
            shape.into_iter().flatten().filter_map(Dim::known).max().unwrap_or(0)
        };
        let widest = self.graph.node(id).outputs.iter().flatten().map(extents).max().unwrap_or(0);
        widest <= MOST_CHANNELS && self.labelled(id) <= MOST_CHANNELS.min(self.room)
    }

    /// Whether a node returns or contracts a value with an extent of 0, which has no channels.
    fn is_empty(&self, id: NodeId) -> bool {
        let node = self.graph.node(id);
        // A join with such a value is that of the others.
        let read = node.inputs.first().filter(|_| !node.is("Concat"));
        let mut values = node.outputs.iter().chain(read).flatten();
        values.any(|value| {
            let shape = self.graph.type_of(*value).and_then(|ty| ty.shape);
            shape.is_some_and(|shape| shape.contains(&Dim::Known(0)))
        })
    }

    /// Number of channels of all values that a node reads and returns.
    fn labelled(&self, id: NodeId) -> usize {
        let node = self.graph.node(id);
        let values = node.inputs.iter().chain(&node.outputs).flatten();
        let labels = values.filter_map(|v| self.labels[v.index()].as_ref());
        labels.fold(0usize, |sum, labels| sum.saturating_add(labels.atoms.len()))
    }

    fn apply(&mut self, id: NodeId, flow: &Flow) {
        match flow {
            Flow::Untracked | Flow::Bias => {}
            Flow::Layer(layer) => {
                self.enter_layer(layer);
                layer.addition.map(|addition| self.flows.insert(addition, Flow::Bias));
            }
            Flow::Recurrent(gates) => self.enter_gates(id, gates),
            Flow::PerChannel(layer) => {
                let number = self.layers.len() as u32;
                self.layers.push((layer.clone(), true));
                if let Some(labels) = self.labels[layer.input.index()].clone() {
                    self.atoms.mark(&labels.atoms, Mark::Produced(number));
                    self.labels[layer.output.index()] = Some(labels);
                }
                self.unite_uses(number as usize, layer);
            }
            Flow::Partwise(partwise) => {
                self.unite(&partwise.coupled);
                for output in self.graph.node(id).outputs.iter().flatten() {
                    self.labels[output.index()] = Some(partwise.output.clone());
                }
            }
            Flow::Together(together) => {
                for (x, y) in together.coupled.iter().flat_map(|(a, b)| a.iter().zip(b)) {
                    self.atoms.unite(*x, *y);
                }
                for (output, labels) in self.graph.node(id).outputs.iter().zip(&together.outputs) {
                    let Some(output) = output else { continue };
                    self.labels[output.index()].clone_from(labels);
                }
            }
            Flow::Relabel(picks) => self.relabel(id, picks),
            Flow::Whole(whole) => {
                self.unite(&whole.coupled);
                let outputs = self.graph.node(id).outputs.clone();
                for (output, labels) in outputs.into_iter().zip(&whole.outputs) {
                    let (Some(output), Some(labels)) = (output, labels) else { continue };
                    let labels = self.with_new_atoms(id, labels);
                    self.labels[output.index()] = Some(labels);
                }
            }
        }
    }

    fn unite(&mut self, coupled: &[(Vec<Atom>, Vec<Atom>)]) {
        for (a, b) in coupled {
            for (x, y) in a.iter().zip(b) {
                self.atoms.unite(*x, *y);
            }
        }
    }

    fn enter_layer(&mut self, layer: &Layer) {
        let number = self.layers.len() as u32;
        let Ok((out, inputs, _)) = layer.sizes(self.graph) else { return };
        self.begin_before(layer, inputs);
        let fits = self.labels[layer.input.index()].as_ref().is_some_and(|l| {
            l.axis == layer.in_axis && l.within.is_none() && l.atoms.len() == inputs
        });
        if let Some(labels) = self.labels[layer.input.index()].clone().filter(|_| fits) {
            self.atoms.mark(&labels.atoms, Mark::Consumed(number));
        }
        let atoms = self.atoms.fresh(out, Mark::Produced(number));
        self.labels[layer.output.index()] = Some(Labels::along(layer.out_axis, atoms));
        self.layers.push((layer.clone(), false));
        self.unite_uses(number as usize, layer);
    }

    /// All gates produce the same channels, and consume those of the previous step.
    fn enter_gates(&mut self, id: NodeId, gates: &[Layer]) {
        let first = self.layers.len() as u32;
        let units = gates.first().and_then(|gate| gate.sizes(self.graph).ok());
        let Some((units, ..)) = units else { return };
        let atoms = self.atoms.fresh(units, Mark::Produced(first));
        for (number, layer) in (first..).zip(gates) {
            let LayerKind::Gate(gate) = &layer.kind else { continue };
            if let Some(inputs) = self.extent(layer.input, layer.in_axis) {
                self.begin_before(layer, inputs);
            }
            self.atoms.mark(&atoms, Mark::Produced(number));
            if gate.reads_hidden() {
                self.atoms.mark(&atoms, Mark::Consumed(number));
            }
            let read = self.labels[layer.input.index()].clone().filter(|_| gate.reads_input());
            if let Some(labels) = read.filter(|l| l.axis == layer.in_axis) {
                self.atoms.mark(&labels.atoms, Mark::Consumed(number));
            }
            self.layers.push((layer.clone(), false));
        }
        let axes = gates.first().map(|gate| [gate.out_axis, gate.out_axis - 1, gate.out_axis - 1]);
        let outputs = self.graph.node(id).outputs.iter();
        for (output, axis) in outputs.zip(axes.into_iter().flatten()) {
            let Some(output) = output else { continue };
            self.labels[output.index()] = Some(Labels::along(axis, atoms.clone()));
        }
        gates.first().into_iter().for_each(|gate| self.unite_uses(first as usize, gate));
    }

    fn relabel(&mut self, id: NodeId, picks: &[Pick]) {
        let node = self.graph.node(id);
        let sources: Vec<Option<Labels>> =
            node.inputs.iter().map(|v| self.labels[(*v)?.index()].clone()).collect();
        let read: usize = sources.iter().flatten().map(|l| l.atoms.len()).sum();
        for (i, pick) in picks.iter().enumerate() {
            let atom = |(input, index): &(usize, usize)| {
                sources.get(*input)?.as_ref()?.atoms.get(*index).copied()
            };
            let Some(atoms) = pick.from.iter().map(atom).collect::<Option<Vec<Atom>>>() else {
                continue;
            };
            if atoms.len() < read {
                self.atoms.mark(&atoms, Mark::Picked(id.index() as u32, i as u32));
            }
            if let Some(output) = node.output(i) {
                self.labels[output.index()] = Some(Labels::along(pick.axis, atoms));
            }
        }
    }

    /// Labels in which new channels have atoms of their own.
    pub(super) fn with_new_atoms(&mut self, id: NodeId, labels: &Labels) -> Labels {
        let new = labels.atoms.iter().filter(|a| **a == Atom::NEW).count();
        self.makers.insert(id.index() as u32, id);
        let mut fresh = self.atoms.fresh(new, Mark::Made(id.index() as u32)).into_iter();
        let atom = |a: &Atom| if *a == Atom::NEW { fresh.next().unwrap_or(*a) } else { *a };
        Labels { atoms: labels.atoms.iter().map(atom).collect(), ..labels.clone() }
    }

    pub(super) fn reason(&mut self, reason: &str, node: Option<NodeId>, end: Option<End>) -> u32 {
        let node = node.map(|id| self.graph.node(id).name.clone()).unwrap_or_default();
        self.reasons.push(Frozen { reason: reason.to_owned(), node, end });
        self.reasons.len() as u32 - 1
    }

    /// Freezes channels with several rows in one layer, since these cannot be paired row by row.
    /// Returns the nodes with such rows.
    fn freeze_repeated_rows(&mut self) -> Vec<Tied> {
        let mut tied = Vec::new();
        for (layer, _) in self.layers.clone() {
            let Some(labels) = self.labels[layer.output.index()].clone() else { continue };
            let mut parts: Vec<Vec<usize>> = Vec::new();
            let mut seen: HashMap<Atom, usize> = HashMap::new();
            for (row, atom) in labels.atoms.iter().enumerate() {
                let times = seen.entry(self.atoms.root(*atom)).or_default();
                parts.resize(parts.len().max(*times + 1), Vec::new());
                parts[*times].push(row);
                *times += 1;
            }
            let later: Vec<Atom> =
                parts.iter().skip(1).flatten().map(|r| labels.atoms[*r]).collect();
            if !later.is_empty() {
                let reason =
                    self.reason("channels of one layer that are added up", Some(layer.node), None);
                self.atoms.freeze(&later, reason);
            }
            let is_gate = matches!(layer.kind, LayerKind::Gate(_));
            if !is_gate && (2..=MOST_PARTS).contains(&parts.len()) {
                tied.push(Tied { node: layer.node, rows: parts });
            }
        }
        tied
    }
}

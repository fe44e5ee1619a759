//! Rules for operators: one file per family, one table.
//!
//! The table of `types` gives the types of an operator's outputs, and an [`OpRule`] declares how
//! *channels* flow through it. Coupling, freezing and emission follow from these declarations. An
//! operator without a rule gets its channels whole, in the order of the task's own net, and its outputs
//! are not tracked.

mod alike;
mod axes;
mod beside;
mod control;
mod conv;
mod elementwise;
mod gate;
mod heads;
mod join;
mod layer;
mod linear;
mod norm;
mod parameter;
mod pool;
mod quantise;
mod ranked;
mod recurrent;
mod reshape;
mod resize;
mod scatter;
mod shape;
mod sizes;
mod space;
mod table;
mod types;
mod view;
mod window;

pub use conv::{divided_pads, filters_of_channels, same_pads};
pub use gate::{Gate, GateInputs};
pub use heads::{CommonProduct, HeadProduct, common_product, group_norm, head_flow, head_product};
pub use join::{picked, slices};
pub use layer::{ConvGeometry, Layer, LayerKind, Pads};
pub use linear::beside_channels;
pub use parameter::is_parameter;
pub use pool::pad_widths;
pub(crate) use recurrent::SEQUENCE_LENGTHS;
pub use recurrent::gates;
pub use reshape::{blocks, moved_ones};
pub use resize::{crops, stretches};
pub use sizes::{Sizes, compares, constant_sizes, sizes};
pub use types::{REDUCTIONS, implied_result, infer, reduced_axes};
pub use view::{NodeView, aligned_axis, normal_axis};

/// One channel of a tracked axis before coupling is resolved; equal atoms are the same channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Atom(pub u32);

impl Atom {
    /// Marks a channel that begins at the node, in the labels that a rule returns.
    pub const NEW: Atom = Atom(u32::MAX);
}

/// The channel of every index along one axis of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// The axis, counted from the front.
    pub axis: usize,
    /// One entry per index along the axis.
    pub atoms: Vec<Atom>,
    /// The second axis, if channels lie on two axes, as in attention heads: index h of the first axis and
    /// index d of the second one, of extent n, hold channel h·n + d.
    pub within: Option<usize>,
}

impl Labels {
    /// Channels along one axis.
    pub fn along(axis: usize, atoms: Vec<Atom>) -> Labels {
        Labels { axis, atoms, within: None }
    }
}

impl Labels {
    /// Whether some of the channels come from earlier nodes, so that they are not new.
    pub fn go_on(&self) -> bool {
        self.atoms.iter().any(|atom| *atom != Atom::NEW)
    }
}

/// The role of an operand for the channels that flow through its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// Carries channels along its labelled axis.
    Channels,
    /// Carries channels of as many heads as the others, each of them in its own order.
    Heads {
        /// Number of heads.
        count: usize,
    },
    /// A constant with one entry per index of the tracked axis, found at `axis`.
    Param {
        /// Axis of the constant that runs over channels.
        axis: usize,
    },
    /// A constant or computed value with one entry per depth, for all heads, found at `axis` in its own order.
    Depths {
        /// Axis of the value that runs over depths.
        axis: usize,
    },
    /// A constant with one entry per depth of each head, found at these axes.
    Entries {
        /// Axis of the constant that runs over heads.
        heads: usize,
        /// Axis of the constant that runs over depths.
        depths: usize,
    },
    /// The same for every channel (absent, scalar, or of extent 1 along the tracked axis). Channels that it
    /// has on another axis are read whole, in their own order.
    Plain,
    /// The shape of the result, as the target of a reshape; entry `entry` counts channels and follows their
    /// number.
    Shape {
        /// Position in the shape vector.
        entry: usize,
        /// Channels per unit of the entry: those of a head, else 1.
        width: usize,
    },
}

/// A node that processes every channel separately, so it may run on any subset of channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Partwise {
    /// Labels of each of the node's outputs.
    pub output: Labels,
    /// The role of each input.
    pub operands: Vec<Operand>,
    /// Channels that must be the same channel (operands of an addition).
    pub coupled: Vec<(Vec<Atom>, Vec<Atom>)>,
    /// Copies of channels in the output.
    pub expand: Expand,
}

/// Copies of channels outside and inside of the tracked axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expand {
    /// Copies of the whole axis, one after the other.
    pub outer: usize,
    /// Copies of every run of channels.
    pub inner: usize,
    /// Channels in a run: those of a head, else 1.
    pub width: usize,
}

impl Expand {
    /// One copy of every channel.
    pub const NONE: Expand = Expand { outer: 1, inner: 1, width: 1 };

    /// Number of the output's indices per channel.
    pub fn copies(&self) -> usize {
        self.outer * self.inner
    }

    /// The output's indices of `positions` on an axis of extent `n`.
    pub fn places(&self, positions: &[usize], n: usize) -> Vec<usize> {
        let runs = n / self.width.max(1);
        let mut out = Vec::with_capacity(positions.len() * self.copies());
        for o in 0..self.outer {
            for run in positions.chunks(self.width.max(1)) {
                for i in 0..self.inner {
                    out.extend(run.iter().map(|p| {
                        let (head, depth) = (p / self.width, p % self.width);
                        ((o * runs + head) * self.inner + i) * self.width + depth
                    }));
                }
            }
        }
        out
    }
}

/// A node that reads all channels at once, in any order, such as a normalisation over channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Together {
    /// The role of each input. All inputs with channels have the same channels.
    pub operands: Vec<Operand>,
    /// Channels that must be the same channel (operands of a scalar product).
    pub coupled: Option<(Vec<Atom>, Vec<Atom>)>,
    /// Labels of the outputs: the same channels, or none if the node has summed over them.
    pub outputs: Vec<Option<Labels>>,
}

/// An output whose indices along one axis are picked from the node's inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// The axis, the same for inputs and output.
    pub axis: usize,
    /// For every index along the axis: which input, and which index there.
    pub from: Vec<(usize, usize)>,
}

/// A node that reads all channels at once, in their own order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Whole {
    /// The reason, as a noun phrase.
    pub reason: &'static str,
    /// Labels of the outputs; an output without labels is not tracked.
    pub outputs: Vec<Option<Labels>>,
    /// Channels that must be the same channel.
    pub coupled: Vec<(Vec<Atom>, Vec<Atom>)>,
}

/// How channels flow through a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Flow {
    /// No tracked channels reach the node, none leave it.
    Untracked,
    /// Weights contract all input channels and produce new ones (Conv, Gemm, MatMul).
    Layer(Layer),
    /// The node adds the bias of an earlier layer, and counts as a part of that layer.
    Bias,
    /// Weights of one channel each (depthwise convolution).
    PerChannel(Layer),
    /// Gates that produce the same channels, on the last axis of every output, and consume them
    /// (LSTM, GRU).
    Recurrent(Vec<Layer>),
    /// Every channel is processed separately.
    Partwise(Partwise),
    /// All channels are processed at once, in any order.
    Together(Together),
    /// Channels are reordered, joined or dropped; values do not change. One entry per output.
    Relabel(Vec<Pick>),
    /// The node needs its channels whole and in order.
    Whole(Whole),
}

impl Flow {
    /// The node needs its channels whole, and its outputs are not tracked.
    pub fn whole(reason: &'static str) -> Flow {
        Flow::Whole(Whole { reason, ..Whole::default() })
    }

    /// The node needs its channels whole; those of its only tracked output are `labels`.
    pub fn whole_with(reason: &'static str, labels: Labels) -> Flow {
        Flow::Whole(Whole { reason, outputs: vec![Some(labels)], ..Whole::default() })
    }
}

/// The rule of an operator family.
pub trait OpRule: Sync {
    /// Operators of the standard operator set that the rule covers.
    fn ops(&self) -> &'static [&'static str];

    /// How channels flow; called only if at least one operand is tracked or the node is a layer.
    fn flow(&self, node: &NodeView<'_>) -> Flow;
}

/// All rules. A new operator is one file (or one row in its family's file) and one row here.
static RULES: &[&dyn OpRule] = &[
    &conv::Conv,
    &conv::ConvTranspose,
    &linear::Gemm,
    &linear::MatMul,
    &elementwise::Unary,
    &elementwise::Binary,
    &elementwise::Clip,
    &pool::Window,
    &pool::Global,
    &pool::Reduce,
    &resize::Resize,
    &pool::Pad,
    &recurrent::Recurrent,
    &norm::PerChannelNorm,
    &norm::LocalResponse,
    &norm::Norm,
    &norm::Softmax,
    &reshape::Flatten,
    &reshape::Reshape,
    &axes::Squeeze,
    &axes::Unsqueeze,
    &axes::Transpose,
    &axes::Repeat,
    &join::Concat,
    &join::Split,
    &join::Slice,
    &join::Gather,
    &shape::Shape,
    &space::SpaceToDepth,
    &space::DepthToSpace,
    &control::Control,
    &quantise::Quantise,
    &quantise::QuantiseByRange,
    &shape::Cast,
    &ranked::Ranked,
    &ranked::PickEach,
    &ranked::PickPlaces,
    &scatter::Scatter,
    &alike::Alike,
];

/// The rule for operator `op` of the standard operator set.
pub fn rule(op: &str) -> Option<&'static dyn OpRule> {
    RULES.iter().copied().find(|r| r.ops().contains(&op))
}

/// Names of all operators with a rule, sorted.
pub fn known_ops() -> Vec<&'static str> {
    let mut ops: Vec<_> = RULES.iter().flat_map(|r| r.ops().iter().copied()).collect();
    ops.sort_unstable();
    ops
}

#[cfg(test)]
mod tests;

//! Canonical form: one way to write each layer and operation, for models of all exporters.
//!
//! Each pass is an exact simplification (up to rounding, if constants are combined) in a file of its
//! own, which begins with its reason. [`canonicalise`] runs them in this order:
//!
//! 1. once: `constants` before all others, which look for initializers only; the checks of sizes (`limits`)
//!    and for training mode; `upgrade`, so that the others need to know one version of each operator;
//!    `hoist`, so that the others see weights of sub-graphs; the checks of what constants demand together (`demands`) and
//!    of loops without an end (`rounds`), now that types are known; constants in few bits, before nodes move them (`fold`).
//! 2. until nothing changes: `unfuse`, so that the others find standard operators; `noop`, `requantised`, `fold`,
//!    `shapes`, `branches`, `loops`, `reversed`, `extents`, `views`, `expanded`, `copies`, `stretched`, `contraction`,
//!    `batched`, `ones`, `patches`, `resize`.
//!    Each may uncover work for the others: a folded constant makes a shape known, a known shape a reshape
//!    idle or a branch certain.
//!    Then also `certain`, for branches that no condition decides, and `unroll`, for loops that have not become
//!    recurrent layers.
//! 3. once: the checks for training mode, for NaN and for infinities, now that weights are not hidden
//!    behind nodes.
//! 4. until nothing changes, together with those of 2: `untie` before weights are rewritten;
//!    `leading`; `block_diagonal`; `entries`, then `unstack`; `group_norm`; `bands`; `padding`, then `covered`; `left` before `gemm`, whose products without a bias can
//!    take one from `affine`; `flattened`, which needs layers in one form; `addend`, which removes a computed bias; `bias` for layers that still
//!    have none; `channels_first` for layers that are complete; `recurrent`; `shuffle`, `positions`, then `pixels`, `predicted`, and `largest`, then `stacked` last,
//!    since they look for remaining patterns.
//! 5. once: `ungroup`, when nothing more can be folded into grouped convolutions, and 4 again.

mod addend;
mod affine;
mod alive;
mod bands;
mod batched;
mod bias;
mod block_diagonal;
mod branches;
mod certain;
mod channels_first;
mod check;
mod constants;
mod contraction;
mod copies;
mod covered;
mod demands;
mod entries;
mod expanded;
mod extents;
mod features;
mod filled;
mod fixed;
mod flattened;
mod fold;
mod gemm;
mod group_norm;
mod hoist;
mod largest;
mod leading;
mod left;
mod limits;
mod loops;
mod noop;
mod ones;
mod operands;
mod padding;
mod patches;
mod pixels;
mod positions;
mod predicted;
mod reach;
mod recurrent;
mod regroup;
mod rejoin;
mod requantised;
mod resize;
mod reversed;
mod rewire;
mod rounds;
mod row_constants;
mod row_parts;
mod rows;
mod runtime_names;
mod shapes;
mod shuffle;
mod splice;
mod stacked;
mod stretched;
mod tokenwise;
mod types;
mod unfuse;
mod ungroup;
mod unread;
mod unstack;
mod untie;
mod upgrade;
mod views;
mod zeros;

use std::ops::Deref;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Model, NodeId, Tensor, ValueId};

pub use filled::filled;
pub use fixed::{fix_inputs, with_branches_taken};
pub use fold::{compute_filled, dequantise};
pub use limits::check_sizes;
pub use regroup::{PerGroup, per_group, regroup};
pub use rejoin::{JoinedConstant, join_layers, rejoin};
pub use rows::split_rows;
pub use types::infer as infer_types;

/// A model in canonical form, with inferred types of all values. Only this module creates one.
#[derive(Debug, Clone)]
pub struct Canonical {
    model: Model,
    had_ties: bool,
}

impl Canonical {
    /// A model that was in canonical form when it was stored. Its file may have been changed since, so sizes,
    /// operands and types are those of a model that was just read.
    ///
    /// # Errors
    /// As [`infer_types`]; [`ErrorKind::Memory`] for inputs that are too large.
    pub(crate) fn stored(mut model: Model) -> Result<Canonical> {
        limits::check(&model.graph)?;
        types::infer(&mut model.graph)?;
        Ok(Canonical { model, had_ties: false })
    }

    /// Whether nodes had weights in common before each got constants of its own.
    pub(crate) fn had_ties(&self) -> bool {
        self.had_ties
    }

    /// The model with its nodes in this topological order.
    pub(crate) fn in_order(mut self, order: &[NodeId]) -> Canonical {
        self.model.graph.reorder(order);
        self
    }

    /// The model with its inputs in this order.
    pub(crate) fn with_inputs(mut self, inputs: Vec<ValueId>) -> Canonical {
        self.model.graph.inputs = inputs;
        self
    }

    /// The model with other numbers in some constants, whose types stay.
    pub(crate) fn with_constants(mut self, constants: Vec<(ValueId, Tensor)>) -> Canonical {
        for (value, tensor) in constants {
            self.model.graph.set_initializer(value, tensor);
        }
        self
    }

    /// The model, for changes after which it need not be canonical any more.
    pub fn into_inner(self) -> Model {
        self.model
    }
}

impl Deref for Canonical {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.model
    }
}

/// How to treat `BatchNormalization` after a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BatchNorm {
    /// It is folded into the layer.
    #[default]
    Fold,
    /// It stays, so that each task keeps its own after a shared layer.
    PerTask,
}

impl BatchNorm {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        BATCH_NORMS.iter().find(|(_, own, _)| *own == self).map_or("", |(name, ..)| name)
    }
}

/// All choices with their names and a line of help, for the command line and its documentation.
pub const BATCH_NORMS: &[(&str, BatchNorm, &str)] = &[
    ("fold", BatchNorm::Fold, "fold it into the previous layer"),
    (
        "per-task",
        BatchNorm::PerTask,
        "keep scale, shift and statistics per task, behind shared weights",
    ),
];

/// Options of canonical form.
#[derive(Debug, Clone, Copy, Default)]
pub struct CanonOptions {
    /// Version of the standard operator set; by default the model's own, but at least 13.
    pub target_opset: Option<i64>,
    /// How to treat `BatchNormalization`.
    pub batchnorm: BatchNorm,
}

/// One exact simplification.
struct Pass {
    name: &'static str,
    run: Run,
}

/// The function of a pass; it returns whether it changed anything.
enum Run {
    Rewrite(fn(&mut Model, &CanonOptions) -> Result<bool>),
    /// Computes constants within a budget.
    Fold(fn(&mut Model, &mut fold::Budget) -> Result<bool>),
}

use Run::{Fold, Rewrite};

const TIDY: &[Pass] = &[
    Pass { name: "unfuse", run: Rewrite(unfuse::run) },
    Pass { name: "noop", run: Rewrite(noop::run) },
    Pass { name: "requantised", run: Rewrite(requantised::run) },
    Pass { name: "fold", run: Fold(fold::run) },
    Pass { name: "shapes", run: Rewrite(shapes::run) },
    Pass { name: "branches", run: Rewrite(branches::run) },
    Pass { name: "loops", run: Rewrite(loops::run) },
    Pass { name: "reversed", run: Rewrite(reversed::run) },
    Pass { name: "extents", run: Rewrite(extents::run) },
    Pass { name: "views", run: Rewrite(views::run) },
    Pass { name: "expanded", run: Rewrite(expanded::run) },
    Pass { name: "copies", run: Rewrite(copies::run) },
    Pass { name: "stretched", run: Rewrite(stretched::run) },
    Pass { name: "contraction", run: Rewrite(contraction::run) },
    Pass { name: "batched", run: Rewrite(batched::run) },
    Pass { name: "ones", run: Rewrite(ones::run) },
    Pass { name: "patches", run: Rewrite(patches::run) },
    Pass { name: "resize", run: Rewrite(resize::run) },
];

const CERTAIN: &[Pass] = &[Pass { name: "certain", run: Rewrite(certain::run) }];

const UNROLLED: &[Pass] = &[Pass { name: "unroll", run: Rewrite(loops::unroll) }];

const LAYERS: &[Pass] = &[
    Pass { name: "untie", run: Rewrite(untie::run) },
    Pass { name: "leading", run: Rewrite(leading::run) },
    Pass { name: "block_diagonal", run: Rewrite(block_diagonal::run) },
    Pass { name: "entries", run: Rewrite(entries::run) },
    Pass { name: "unstack", run: Rewrite(unstack::run) },
    Pass { name: "group_norm", run: Rewrite(group_norm::run) },
    Pass { name: "bands", run: Rewrite(bands::run) },
    Pass { name: "padding", run: Rewrite(padding::run) },
    Pass { name: "covered", run: Rewrite(covered::run) },
    Pass { name: "left", run: Rewrite(left::run) },
    Pass { name: "gemm", run: Rewrite(gemm::run) },
    Pass { name: "flattened", run: Rewrite(flattened::run) },
    Pass { name: "addend", run: Rewrite(addend::run) },
    Pass { name: "affine", run: Rewrite(affine::run) },
    Pass { name: "bias", run: Rewrite(bias::run) },
    Pass { name: "channels_first", run: Rewrite(channels_first::run) },
    Pass { name: "recurrent", run: Rewrite(recurrent::run) },
    Pass { name: "shuffle", run: Rewrite(shuffle::run) },
    Pass { name: "positions", run: Rewrite(positions::run) },
    Pass { name: "pixels", run: Rewrite(pixels::run) },
    Pass { name: "predicted", run: Rewrite(predicted::run) },
    Pass { name: "largest", run: Rewrite(largest::run) },
    Pass { name: "stacked", run: Rewrite(stacked::run) },
];

/// The oldest operator set in which a model can be brought to canonical form.
pub fn oldest_opset(model: &Model) -> i64 {
    unfuse::oldest_opset(&model.graph).max(model.opset())
}

/// Limit of rounds. No chain of simplifications needs so many, unless two passes undo each other.
const MOST_ROUNDS: usize = 100;

/// Brings a model to canonical form.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a model in training mode or one that cannot be brought to the
/// operator set, [`ErrorKind::Numeric`] for weights that are not finite, [`ErrorKind::Format`] for a
/// graph with a cycle or constants that do not fit their operator, [`ErrorKind::Memory`] for values too
/// large to be computed; each names the model, and the node where there is one.
pub fn canonicalise(mut model: Model, options: &CanonOptions) -> Result<Canonical> {
    let name = model.name.clone();
    let had_ties = simplify(&mut model, options).in_model(name)?;
    Ok(Canonical { model, had_ties })
}

/// Runs all passes; returns whether nodes had weights in common.
fn simplify(model: &mut Model, options: &CanonOptions) -> Result<bool> {
    constants::to_initializers(&mut model.graph);
    let mut had_ties = untie::are_tied(&model.graph);
    limits::check(&model.graph)?;
    types::name_extents(&mut model.graph);
    check::inference_mode(&model.graph, true)?;
    upgrade::run(model, options.target_opset)?;
    hoist::run(&mut model.graph);
    settle(model)?;
    limits::together(&model.graph)?;
    let budget = &mut fold::Budget::of(&model.graph);
    fold::decode(&mut model.graph, budget)?;
    settle(model)?;
    repeat(&[TIDY], model, options, budget)?;
    let has = |model: &Model, op: &str| model.graph.nodes().any(|(_, node)| node.is(op));
    if has(model, "If") {
        repeat(&[TIDY, CERTAIN], model, options, budget)?;
    }
    if has(model, "Loop") || has(model, "Scan") {
        repeat(&[TIDY, UNROLLED], model, options, budget)?;
    }
    check::inference_mode(&model.graph, false)?;
    check::finite(&model.graph)?;
    had_ties |= untie::are_tied(&model.graph);
    repeat(&[TIDY, LAYERS], model, options, budget)?;
    if ungroup::run(model)? {
        settle(model)?;
        repeat(&[TIDY, LAYERS], model, options, budget)?;
    }
    runtime_names::change(&mut model.graph);
    Ok(had_ties)
}

/// Runs passes in turn until none of them changes anything.
fn repeat(
    passes: &[&[Pass]],
    model: &mut Model,
    options: &CanonOptions,
    budget: &mut fold::Budget,
) -> Result<()> {
    let mut last = "";
    for _ in 0..MOST_ROUNDS {
        let mut modified = false;
        for pass in passes.iter().copied().flatten() {
            let changed = match pass.run {
                Rewrite(run) => run(model, options)?,
                Fold(run) => run(model, budget)?,
            };
            if changed {
                settle(model)?;
                modified = true;
                last = pass.name;
            }
        }
        if !modified {
            return Ok(());
        }
    }
    let message = format!("simplification does not come to an end (pass '{last}')");
    Err(Error::new(ErrorKind::Unsupported, message))
}

/// Tidies up after each change: removes dead nodes, unused constants and unread outputs (`unread`), infers
/// types, and checks operands and results of nodes (`operands`, `limits`).
fn settle(model: &mut Model) -> Result<()> {
    rewire::prune(&mut model.graph);
    unread::leave_out(&mut model.graph);
    types::infer(&mut model.graph)
}

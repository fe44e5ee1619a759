//! Canonical form: one way to write each thing, whatever exporter wrote the model.
//!
//! Each pass is an exact simplification (up to rounding, where constants are combined) in a file of
//! its own, which says why it is there. [`canonicalise`] runs them in this order:
//!
//! 1. once: `constants` before all others, which look for initializers only; the checks of what the
//!    model asks for (`limits`) and for training mode; `upgrade`, so that the others know one version of
//!    each operator; `hoist`, so that weights of sub-graphs are seen.
//! 2. until nothing changes: `unfuse`, so that the others find standard operators; `noop`, `fold`,
//!    `shapes`, `extents`, `views`, `resize`. Each may uncover work for the others: a folded constant
//!    makes a shape known, a known shape a reshape idle.
//! 3. once: the check for NaN and infinities, now that weights are not hidden behind nodes.
//! 4. until nothing changes, together with those of 2: `untie` before weights are rewritten;
//!    `unstack`; `padding`; `gemm`, whose product without a bias lets `affine` add one; `bias` where
//!    there is none still; `recurrent`; `shuffle` last, since it looks for what the others left.
//! 5. once: `ungroup`, when nothing more can be folded into grouped convolutions, and 4 again.

mod affine;
mod bias;
mod check;
mod constants;
mod extents;
mod fold;
mod gemm;
mod hoist;
mod limits;
mod noop;
mod operands;
mod padding;
mod recurrent;
mod regroup;
mod resize;
mod rewire;
mod shapes;
mod shuffle;
mod tokenwise;
mod types;
mod unfuse;
mod ungroup;
mod unstack;
mod untie;
mod upgrade;
mod views;

use std::ops::Deref;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;

pub use limits::check_sizes;
pub use regroup::{PerGroup, per_group, regroup};
pub use types::infer as infer_types;

/// A model in canonical form, with the types of all values inferred; only this module makes one.
#[derive(Debug, Clone)]
pub struct Canonical(Model);

impl Canonical {
    /// A model that was in canonical form when it was stored.
    pub(crate) fn stored(model: Model) -> Canonical {
        Canonical(model)
    }

    /// The model, to be changed: what comes out need not be canonical any more.
    pub fn into_inner(self) -> Model {
        self.0
    }
}

impl Deref for Canonical {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.0
    }
}

/// What becomes of `BatchNormalization` behind a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BatchNorm {
    /// It is folded into the layer.
    #[default]
    Fold,
    /// It stays, so that each task keeps its own where the layer is shared.
    PerTask,
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

/// What canonical form to make.
#[derive(Debug, Clone, Copy, Default)]
pub struct CanonOptions {
    /// Version of the standard operator set, by default the model's own; 13 where that is newer.
    pub target_opset: Option<i64>,
    /// What becomes of `BatchNormalization`.
    pub batchnorm: BatchNorm,
}

/// One exact simplification.
struct Pass {
    name: &'static str,
    run: Run,
}

/// What a pass does; it returns whether it changed anything.
enum Run {
    Rewrite(fn(&mut Model, &CanonOptions) -> Result<bool>),
    /// Computes constants, as far as the budget goes.
    Fold(fn(&mut Model, &mut fold::Budget) -> Result<bool>),
}

use Run::{Fold, Rewrite};

const TIDY: &[Pass] = &[
    Pass { name: "unfuse", run: Rewrite(unfuse::run) },
    Pass { name: "noop", run: Rewrite(noop::run) },
    Pass { name: "fold", run: Fold(fold::run) },
    Pass { name: "shapes", run: Rewrite(shapes::run) },
    Pass { name: "extents", run: Rewrite(extents::run) },
    Pass { name: "views", run: Rewrite(views::run) },
    Pass { name: "resize", run: Rewrite(resize::run) },
];

const LAYERS: &[Pass] = &[
    Pass { name: "untie", run: Rewrite(untie::run) },
    Pass { name: "unstack", run: Rewrite(unstack::run) },
    Pass { name: "padding", run: Rewrite(padding::run) },
    Pass { name: "gemm", run: Rewrite(gemm::run) },
    Pass { name: "affine", run: Rewrite(affine::run) },
    Pass { name: "bias", run: Rewrite(bias::run) },
    Pass { name: "recurrent", run: Rewrite(recurrent::run) },
    Pass { name: "shuffle", run: Rewrite(shuffle::run) },
];

/// More rounds than any chain of simplifications needs; passing it means that two passes undo each
/// other.
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
    simplify(&mut model, options).in_model(name)?;
    Ok(Canonical(model))
}

fn simplify(model: &mut Model, options: &CanonOptions) -> Result<()> {
    constants::to_initializers(&mut model.graph);
    limits::check(&model.graph)?;
    types::name_extents(&mut model.graph);
    check::inference_mode(&model.graph)?;
    upgrade::run(model, options.target_opset)?;
    hoist::run(&mut model.graph);
    settle(model)?;
    let budget = &mut fold::Budget::of(&model.graph);
    repeat(&[TIDY], model, options, budget)?;
    check::finite(&model.graph)?;
    repeat(&[TIDY, LAYERS], model, options, budget)?;
    if ungroup::run(model)? {
        settle(model)?;
        repeat(&[TIDY, LAYERS], model, options, budget)?;
    }
    Ok(())
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

/// After each change: no dead nodes, no unused constants, all types up to date, and what nodes read and
/// return within bounds (`operands`, `limits`).
fn settle(model: &mut Model) -> Result<()> {
    rewire::prune(&mut model.graph);
    types::infer(&mut model.graph)
}

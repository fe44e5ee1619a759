//! What a merge would give, told from structure alone.
//!
//! How many neurons are shared follows from the budget; which ones does not change any size. So the
//! first channels of each group stand in for those that data would choose.

use serde::{Deserialize, Serialize};

use crate::align::{Alignment, only_group};
use crate::calib::gram::Moments;
use crate::couple::{CoupledLayer, LayerId};
use crate::error::Result;

use super::columns::{Columns, shared};
use super::joint::JointModel;
use super::matcher::Share;
use super::options::Budget;
use super::run::obstacle;
use super::size::{Sizes, sizes};

/// What would happen at one pair of corresponding layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SitePlan {
    /// Names of the layers, one per task.
    pub layers: Vec<String>,
    /// Neurons, one number per task.
    pub neurons: Vec<usize>,
    /// Neurons that would be shared; at most, where the budget is a limit of cost.
    pub shared: usize,
    /// Inputs, one number per task.
    pub inputs: Vec<usize>,
    /// Inputs that would be shared.
    pub shared_inputs: usize,
    /// Parameters that would be stored once instead of twice.
    pub saved: u64,
    /// Bytes of the layers' statistics, both tasks together.
    pub statistics: u64,
    /// Why nothing can be shared, where nothing can.
    pub reason: Option<String>,
}

/// What a merge would give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prediction {
    /// What would happen at each pair of corresponding layers.
    pub sites: Vec<SitePlan>,
    /// Parameters before and after.
    pub sizes: Sizes,
}

/// What merging `joint`, in which nothing is shared yet, would give; `targets` tells whether
/// statistics hold pre-activations too.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a layer's weight is not a matrix.
pub fn predict(
    joint: &JointModel,
    alignment: &Alignment,
    budget: &Budget,
    targets: bool,
) -> Result<Prediction> {
    let mut joint = joint.clone();
    let mut sites = Vec::new();
    for (a, b) in &alignment.layers {
        sites.push(site(&mut joint, alignment, budget, targets, (*a, *b))?);
    }
    let sizes = sizes(&joint)?;
    Ok(Prediction { sites, sizes })
}

fn site(
    joint: &mut JointModel,
    alignment: &Alignment,
    budget: &Budget,
    targets: bool,
    (ia, ib): (LayerId, LayerId),
) -> Result<SitePlan> {
    let layer = |task: usize, id| joint.tasks[task].coupling.layer(id).clone();
    let layers = [layer(0, ia), layer(1, ib)];
    let (out_a, in_a, taps) = layers[0].layer.sizes(&joint.tasks[0].model.graph)?;
    let (out_b, in_b, _) = layers[1].layer.sizes(&joint.tasks[1].model.graph)?;
    let columns = shared(joint, alignment, &layers[0], &layers[1], taps);
    let reason = obstacle(alignment, &layers, &columns);
    let common = match &reason {
        Some(_) => 0,
        None => share(joint, &layers, budget.share(&layers[0].name)),
    };
    let targets = |out: usize| if targets { out } else { 0 };
    let bias = usize::from(layers[0].layer.bias.is_some());
    Ok(SitePlan {
        layers: layers.iter().map(|l| l.name.clone()).collect(),
        neurons: vec![out_a, out_b],
        shared: common,
        inputs: vec![in_a, in_b],
        shared_inputs: columns.a.len() / taps.max(1),
        saved: (common * (columns.a.len() + bias)) as u64,
        statistics: Moments::bytes(in_a * taps, targets(out_a))
            .saturating_add(Moments::bytes(in_b * taps, targets(out_b))),
        reason,
    })
}

/// Shares the first channels of two layers and returns their number. Where an earlier layer of the
/// same group did so, its pairs stay.
fn share(joint: &mut JointModel, layers: &[CoupledLayer; 2], share: Share) -> usize {
    let (rows_a, rows_b) = (&layers[0].outputs, &layers[1].outputs);
    let Some(group) = only_group(rows_a) else { return 0 };
    let known = joint.shared_count(0, group);
    if known > 0 {
        return known;
    }
    let most = rows_a.len().min(rows_b.len());
    let count = match share {
        Share::Count(count) => count.min(most),
        Share::Fraction(part) => (part * most as f64).round() as usize,
        Share::MaxCost(_) => most,
    };
    for (a, b) in rows_a.iter().zip(rows_b).take(count) {
        joint.share((0, *a), (1, *b));
    }
    count
}

//! What a merge would give, told from structure alone.
//!
//! How many neurons are shared follows from the budget; which ones does not change any size. So the
//! first channels of each group stand in for those that data would choose.

use serde::{Deserialize, Serialize};

use crate::align::{Alignment, only_group};
use crate::calib::gram::Moments;
use crate::couple::{CoupledLayer, LayerId};
use crate::error::{Error, ErrorKind, Result};

use super::columns::shared;
use super::joint::JointModel;
use super::matcher::Share;
use super::options::Budget;
use super::site::obstacle;
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
/// [`ErrorKind::Usage`] if more neurons are to be shared than there are; [`ErrorKind::Format`] if a
/// layer's weight is not a matrix.
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
        None => share(joint, &layers, budget.share(&layers[0].name))?,
    };
    let bias = usize::from(layers[0].layer.bias.is_some());
    let depthwise = layers[0].per_channel;
    let shared_inputs = if depthwise { common } else { columns.a.len() / taps.max(1) };
    let weights = if depthwise { taps } else { columns.a.len() };
    let statistics = |out: usize, inputs: usize| match depthwise {
        true => Moments::bytes(taps, usize::from(targets)).saturating_mul(out as u64),
        false => Moments::bytes(inputs * taps, if targets { out } else { 0 }),
    };
    Ok(SitePlan {
        layers: layers.iter().map(|l| l.name.clone()).collect(),
        neurons: vec![out_a, out_b],
        shared: common,
        inputs: vec![in_a, in_b],
        shared_inputs,
        saved: (common * (weights + bias)) as u64,
        statistics: statistics(out_a, in_a).saturating_add(statistics(out_b, in_b)),
        reason,
    })
}

/// Shares the first channels of two layers and returns their number. Where an earlier layer of the
/// same group did so, its pairs stay.
fn share(joint: &mut JointModel, layers: &[CoupledLayer; 2], share: Share) -> Result<usize> {
    let (rows_a, rows_b) = (&layers[0].outputs, &layers[1].outputs);
    let Some(group) = only_group(rows_a) else { return Ok(0) };
    let coupling = &joint.tasks[0].coupling;
    let first = coupling.group(group).producers.first().map(|id| coupling.layer(*id).layer.node);
    if first != Some(layers[0].layer.node) {
        return Ok(joint.shared_count(0, group));
    }
    let most = rows_a.len().min(rows_b.len());
    let count = match share {
        Share::Count(count) if count > most => {
            let message = format!("{count} neurons cannot be shared where a layer has {most}");
            return Err(Error::new(ErrorKind::Usage, message).at_node(&layers[0].name));
        }
        Share::Count(count) => count,
        Share::Fraction(part) => (part * most as f64).round() as usize,
        Share::MaxCost(_) => most,
    };
    for (a, b) in rows_a.iter().zip(rows_b).take(count) {
        joint.share((0, *a), (1, *b));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::zipper::{Input, Prepared, prepare};

    fn prepared() -> Prepared {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models");
        let input = |name: &str| Input {
            name: name.to_owned(),
            model: crate::onnx::load(&folder.join(format!("lenet300_{name}.onnx"))).unwrap(),
        };
        prepare(vec![input("mnist_a"), input("fashion")]).unwrap()
    }

    fn predicted(share: Share) -> Prediction {
        let prepared = prepared();
        predict(&prepared.joint, &prepared.alignment, &Budget::uniform(share), true).unwrap()
    }

    #[test]
    fn sizes_are_those_of_the_arithmetic() {
        let nothing = predicted(Share::Fraction(0.0));
        assert_eq!(nothing.sizes.joint(), nothing.sizes.separate());
        let all = predicted(Share::Fraction(1.0));
        let hidden = 300 * 785 + 100 * 301;
        assert_eq!(all.sizes.shared, hidden);
        assert_eq!(all.sizes.specific, [1010, 1010]);
        assert_eq!(all.sites.iter().map(|s| s.saved).sum::<u64>(), hidden);
    }

    #[test]
    fn outputs_say_why_they_are_not_shared() {
        let sites = predicted(Share::MaxCost(1.0)).sites;
        assert_eq!(sites.iter().map(|s| s.shared).collect::<Vec<_>>(), [300, 100, 0]);
        assert!(sites[2].reason.is_some());
    }

    #[test]
    fn more_than_there_are_cannot_be_shared() {
        let prepared = prepared();
        let budget = Budget::uniform(Share::Count(200));
        let error = predict(&prepared.joint, &prepared.alignment, &budget, true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("200 neurons"), "{error}");
    }
}

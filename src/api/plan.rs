//! Plans a merge without data.

use std::collections::BTreeSet;

use super::TOOL;
use super::models::{self, Loaded, ModelInput, ToMerge};
use super::options::{PlanOptions, RuntimeOptions};
use super::structure::{decidable_of, structure};
use crate::calib::data::check_fed;
use crate::error::{Context, Result};
use crate::mtz::joint::Task;
use crate::mtz::options::Budget;
use crate::mtz::plan::{Means, common_tables, file_bytes, peak, predict_sharing};
use crate::mtz::solver::memory::beside;
use crate::report::Plan;
use crate::zipper::{Decisions, Goal, SiteNames, prepare_parts, values_of_batch};

/// The remark on the size of a merge without a share.
const AT_KNEE: &str = "this is full sharing; without a share, a merge leaves to the tasks the layers that, by the \
    data, save little and cost much, and may be larger";

/// Finds the layers that correspond, the channels that cannot be shared and why, and the size of the
/// joint model. Tasks get `names`, or the names of their files. Needs no data. Where a merge chooses from
/// data what to share, the size is that of full sharing, and [`Plan::most`] is its limit.
///
/// ```
/// use onnx_zip::{PlanOptions, plan};
/// let models = ["a", "b"].map(|net| format!("fixtures/models/lenet300_mnist_{net}.onnx"));
/// let plan = plan(&models.map(|path| path.as_str().into()), &[], &PlanOptions::default())?;
/// assert_eq!(plan.tasks, ["lenet300_mnist_a", "lenet300_mnist_b"]);
/// # Ok::<(), onnx_zip::Error>(())
/// ```
///
/// # Errors
/// Those of reading and aligning the models.
pub fn plan(models: &[ModelInput], names: &[String], options: &PlanOptions) -> Result<Plan> {
    plan_decided(models, names, options, &|_| Ok(None))
}

/// [`plan`], where `decisions` about the layers that models have in common come before the options.
///
/// # Errors
/// As [`plan`] and `decisions`.
pub(super) fn plan_decided(
    models: &[ModelInput],
    names: &[String],
    options: &PlanOptions,
    decisions: &dyn Fn(&[SiteNames]) -> Result<Option<Decisions>>,
) -> Result<Plan> {
    let PlanOptions { sharing, method, statistics, .. } = options;
    let budget = sharing.budget(method.is_paper(), false)?;
    let ToMerge { tasks: loaded, parts } = models::load_parts(models, names)?;
    // A merge needs samples, so a plan for models that take none would lead nowhere.
    loaded.iter().try_for_each(|model| check_fed(&model.ports).in_model(&model.name))?;
    let preparation = sharing.preparation(options.models.batchnorm, method.is_paper())?;
    let mut prepared = prepare_parts(parts, preparation)?;
    let decisions = decisions(&prepared.sites())?;
    let budget = prepared.budget_of(decisions.as_ref(), budget)?;
    let (prediction, shared) =
        predict_sharing(&prepared.joint, &prepared.alignment, &budget, method.stores_targets())?;
    let goal = sharing.goal(method.is_paper()).filter(|_| decisions.is_none());
    let sizes: Vec<u64> = loaded.iter().map(|model| model.bytes).collect();
    let tasks = prepared.joint.tasks();
    let left = beside(statistics.bytes(), &sizes);
    let batch = RuntimeOptions::default().batch;
    let values = tasks.iter().map(|net| values_of_batch(net.model(), batch, left));
    let parameters = prediction.sizes.joint() as f64 / prediction.sizes.separate().max(1) as f64;
    let means = Means {
        models: &sizes,
        joint: (sizes.iter().sum::<u64>() as f64 * parameters) as u64,
        values: values.max().unwrap_or(0),
        rows: statistics.max_rows,
        memory: statistics.bytes(),
        searches: goal.is_some(),
    };
    let memory = peak(&prepared.joint, means)?;
    let tables = match options.shares_tables(&budget) {
        true => common_tables(&shared, &prepared.alignment)?,
        false => BTreeSet::new(),
    };
    let file = file_bytes(&prepared.joint, &prepared.alignment, &prediction.sizes, &tables)?;
    let most = match goal {
        Some(Goal::Part(part)) => Some(prediction.sizes.saving(part)),
        _ => None,
    };
    let mut plan = Plan::new(
        TOOL.to_owned(),
        tasks.iter().map(|t| t.name().to_owned()).collect(),
        tasks.iter().map(layers).collect(),
        prediction,
        (file, sizes),
        memory,
        structure(&prepared),
    );
    plan.most = most;
    plan.notes.extend(Loaded::notes_of(&loaded));
    let decidable: Vec<String> =
        decidable_of(&plan.structure, plan.tasks.iter().map(String::as_str)).collect();
    plan.notes.extend(decidable);
    if goal == Some(Goal::Knee) {
        plan.notes.push(AT_KNEE.to_owned());
    }
    Ok(plan)
}

impl PlanOptions {
    /// Whether a merge within this budget makes tables common.
    fn shares_tables(&self, budget: &Budget) -> bool {
        let is_paper = self.method.is_paper();
        !is_paper && self.sharing.goal(is_paper).is_none() && budget.shares_everything()
    }
}

/// The number of a net's layers; one that is applied several times counts once.
fn layers(task: &Task) -> usize {
    let layers = task.coupling().layers.iter();
    layers.filter(|layer| layer.repeats().is_none()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mtz::options::Unit;

    fn planned(set: impl Fn(&mut PlanOptions)) -> Plan {
        let nets = ["mnist_a", "fashion"];
        let models = nets.map(|net| format!("fixtures/models/lenet300_{net}.onnx"));
        let mut options = PlanOptions::default();
        set(&mut options);
        plan(&models.map(|path| path.as_str().into()), &[], &options).unwrap()
    }

    #[test]
    fn a_share_that_data_decide_about_has_a_least_size_and_a_limit() {
        let full = planned(|o| o.sharing.share = Some(1.0));
        let sizes = &full.prediction.sizes;
        assert!(full.most.is_none() && !full.text().contains("at least"), "{}", full.text());
        for unit in [None, Some(Unit::Mixed)] {
            let half = planned(|o| (o.sharing.share, o.sharing.unit) = (Some(0.5), unit));
            assert_eq!(half.most, Some((sizes.separate() + sizes.joint()) / 2));
            let text = half.text();
            assert!(text.contains("at least 268,020 after") && text.contains("75.1 %"), "{text}");
        }
        let neurons =
            planned(|o| (o.sharing.share, o.sharing.unit) = (Some(0.5), Some(Unit::Neuron)));
        assert!(neurons.most.is_none() && neurons.prediction.sizes.joint() > sizes.joint());
    }

    /// As the exporter of PyTorch 2 notes at every node where it comes from.
    #[test]
    fn what_a_file_says_about_its_model_does_not_count() {
        let read =
            |net: &str| std::fs::read(format!("fixtures/models/lenet300_{net}.onnx")).unwrap();
        // A doc string of 2^20 bytes: field 6 of the message, the length in seven bits a byte.
        let noted = [read("mnist_a"), vec![0x32, 0x80, 0x80, 0x40], vec![b'x'; 1 << 20]].concat();
        let names = ["a", "b"].map(str::to_owned);
        let options = PlanOptions::default();
        let [plain, noted] = [read("mnist_a"), noted]
            .map(|first| plan(&[first.into(), read("fashion").into()], &names, &options).unwrap());
        assert!(noted.files[0] > plain.files[0] + (1 << 20));
        assert_eq!(noted.file, plain.file);
    }

    #[test]
    fn the_default_says_that_it_is_full_sharing() {
        let text = planned(|_| ()).text();
        assert!(text.contains("after: 50.3 %") && text.contains("full sharing"), "{text}");
    }
}

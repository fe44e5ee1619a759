//! Plans a merge without data.

use super::TOOL;
use super::models::{self, Loaded, ModelInput, ToMerge};
use super::options::{PlanOptions, RuntimeOptions};
use super::structure::structure;
use crate::error::Result;
use crate::mtz::plan::{Means, file_bytes, peak, predict};
use crate::mtz::solver::memory::beside;
use crate::report::Plan;
use crate::zipper::{prepare_parts, values_of_batch};

/// Finds the layers that correspond, the channels that cannot be shared and why, and the size of the
/// joint model. Tasks get `names`, or the names of their files. Needs no data.
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
    let PlanOptions { sharing, method, statistics, .. } = options;
    let budget = sharing.budget(method.is_paper(), false)?;
    let ToMerge { tasks: loaded, parts } = models::load_parts(models, names)?;
    let preparation = sharing.preparation(options.models.batchnorm, method.is_paper())?;
    let prepared = prepare_parts(parts, preparation)?;
    let prediction =
        predict(&prepared.joint, &prepared.alignment, &budget, method.stores_targets())?;
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
        searches: sharing.goal(method.is_paper()).is_some(),
    };
    let memory = peak(&prepared.joint, means)?;
    let file = file_bytes(&prepared.joint, &prepared.alignment, &prediction.sizes, &sizes);
    let mut plan = Plan::new(
        TOOL.to_owned(),
        tasks.iter().map(|t| t.name().to_owned()).collect(),
        tasks.iter().map(|t| t.coupling().layers.len()).collect(),
        prediction,
        (file, sizes),
        memory,
        structure(&prepared),
    );
    plan.notes.extend(Loaded::defaults_of(&loaded));
    Ok(plan)
}

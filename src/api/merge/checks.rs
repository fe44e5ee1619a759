//! Checks before and after a merge.

use std::sync::Arc;

use super::Merger;
use super::record::Facts;
use crate::api::verify::SAMPLES as VERIFIED_SAMPLES;
use crate::calib::data::Dataset;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::mtz::joint::{JointModel, Task};
use crate::mtz::options as mtz;
use crate::mtz::site::SiteRecord;
use crate::onnx::Draft;
use crate::progress::Progress;
use crate::runtime::{Backend, ModelSource};
use crate::verify::{Joint, Limits, Subject, Verification, verify};
use crate::zipper::Prepared;

impl Merger {
    /// Checks all options and rules before data is read.
    pub(super) fn check_plan(
        &self,
        prepared: &Prepared,
        options: &mtz::MergeOptions,
    ) -> Result<()> {
        let usage = |message: &str| Error::new(ErrorKind::Usage, message);
        self.options.form.emit().check(&prepared.joint)?;
        if let Some(first) = prepared.joint.tasks().first() {
            let layers: Vec<String> =
                first.coupling().layers.iter().map(|layer| layer.name.clone()).collect();
            if let Some(glob) = options.budget.unused(&layers).first() {
                let message = format!("the rule for '{glob}' matches no layer of {}", first.name());
                let hint = Hint::from("correct ").option("keep-shared").then("; its layers are ");
                return Err(usage(&message).hint(hint.then(layers.join(", "))));
            }
        }
        prepared.check_common(&options.budget)
    }

    /// Verifies the staged file against the nets that it was written from and the originals.
    pub(super) fn check(
        &self,
        joint: &JointModel,
        draft: &Draft<'_>,
        facts: &Facts<'_>,
        progress: &dyn Progress,
    ) -> Result<Option<Verification>> {
        if self.options.result.no_verify || facts.was_stopped() {
            return Ok(None);
        }
        let samples: Vec<Dataset> = facts
            .data
            .iter()
            .map(|d| d.dataset.subset(VERIFIED_SAMPLES, facts.options.seed))
            .collect();
        let is_untouched = self.options.retraining.retrain.is_none()
            && !self.options.retraining.reset_bn
            && !facts.outcome.sites.iter().any(SiteRecord::loses);
        let mut subjects = Vec::new();
        for ((model, net), data) in facts.loaded.iter().zip(joint.tasks()).zip(&samples) {
            subjects.push(Subject {
                task: &model.name,
                original: model.source(),
                reading: model.reading,
                net: Some(ModelSource::Graph(net.model())),
                data,
                reported: None,
                is_untouched,
            });
        }
        let runtime = &self.options.runtime;
        let backends: Vec<Arc<dyn Backend>> = runtime.all(&facts.backend)?;
        let limits = Limits::of_nets(joint.tasks().iter().map(Task::graph));
        let name = draft.target().display().to_string();
        let joint = Joint { path: draft.path(), name: &name, bytes: draft.bytes()? };
        let batch = facts.batch;
        verify(joint, &subjects, &backends, batch, &limits, progress).map(Some)
    }
}

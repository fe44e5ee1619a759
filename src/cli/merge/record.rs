//! The report of a merge.

use std::sync::Arc;

use super::{MergeArgs, SYNTHETIC};
use crate::cli::TOOL;
use crate::cli::data::TaskData;
use crate::cli::models::Loaded;
use crate::cli::verdict::Settled;
use crate::emit::Form;
use crate::mtz::options::MergeOptions;
use crate::mtz::solver::pair_cost::Metric;
use crate::report::{
    Compression, JointRecord, Parameters, Report, SCHEMA, Settings, StageTime, Structure,
    TaskRecord,
};
use crate::runtime::Backend;
use crate::verify::Verification;
use crate::zipper::{Outcome, Trial};

/// What is known after a merge.
pub(super) struct Facts<'a> {
    pub(super) args: &'a MergeArgs,
    pub(super) options: MergeOptions,
    pub(super) loaded: Vec<Loaded>,
    pub(super) data: Vec<TaskData>,
    pub(super) structure: Structure,
    pub(super) outcome: Outcome,
    /// What was tried on the way to a goal.
    pub(super) search: Vec<Trial>,
    /// Seconds spent on reading models and data.
    pub(super) read: f64,
    pub(super) backend: Arc<dyn Backend>,
}

/// How the joint model is laid out.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) form: Form,
    /// Whether tasks have inputs of their own.
    pub(super) separate: bool,
}

/// The file that was written.
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) settled: Settled,
    pub(super) shape: Shape,
}

impl Facts<'_> {
    pub(super) fn report(&self, written: &Written, checked: Option<Verification>) -> Report {
        let tasks = self.tasks();
        let joint = self.joint(written);
        Report {
            schema: SCHEMA,
            tool: TOOL.to_owned(),
            compression: Compression::new(&tasks, &joint),
            tasks,
            joint,
            settings: self.settings(),
            runtime: self.backend.describe(),
            synthetic_data: self.args.data.is_synthetic(),
            layers: self.outcome.sites.clone(),
            structure: self.structure.clone(),
            search: self.search.clone(),
            seconds: self.seconds(),
            retraining: self.outcome.retrained.clone(),
            verification: checked,
            warnings: self.warnings(),
        }
    }

    fn tasks(&self) -> Vec<TaskRecord> {
        let parameters = &self.outcome.sizes.originals;
        let record = |((model, data), parameters): ((&Loaded, &TaskData), &u64)| {
            let without = self.outcome.without_sensitivity.iter().find(|(t, _)| *t == model.name);
            TaskRecord {
                name: model.name.clone(),
                path: model.path.display().to_string(),
                sha256: model.sha256.clone(),
                bytes: model.bytes,
                parameters: *parameters,
                data: data.record.clone(),
                without_sensitivity: without.map(|(_, reason)| reason.clone()),
            }
        };
        self.loaded.iter().zip(&self.data).zip(parameters).map(record).collect()
    }

    fn joint(&self, written: &Written) -> JointRecord {
        let names: Vec<&str> = self.loaded.iter().map(|m| m.name.as_str()).collect();
        JointRecord {
            path: written.settled.path.display().to_string(),
            written: written.settled.written,
            sha256: written.sha256.clone(),
            bytes: written.bytes,
            parameters: Parameters::new(&self.outcome.sizes, &names),
            form: written.shape.form.name().to_owned(),
            inputs: if written.shape.separate { "separate" } else { "shared" }.to_owned(),
        }
    }

    fn settings(&self) -> Settings {
        let options = &self.options;
        let metric = Metric::ALL.iter().find(|(metric, ..)| *metric == options.metric);
        Settings {
            method: options.method,
            matcher: options.matcher().map(|m| m.name().to_owned()).unwrap_or_default(),
            metric: metric.map_or("", |(_, name, _)| name).to_owned(),
            passes: options.passes,
            share: self.args.share.default_text(self.args.counts_neurons()),
            unit: options.unit,
            biases: options.budget.biases(),
            keep_shared: self.args.share.rule_texts(),
            own_weights: self.args.share.own_weights(),
            share_outputs: self.args.share.shares_outputs(),
            alpha: options.task_weights(self.loaded.len()),
            damping: options.damping,
            max_rows: options.max_rows,
            batch: self.args.runtime.batch,
            seed: options.seed,
        }
    }

    fn seconds(&self) -> Vec<StageTime> {
        let read = [("read", self.read)];
        let all = read.iter().chain(&self.outcome.seconds);
        all.map(|(stage, s)| StageTime { stage: (*stage).to_owned(), seconds: *s }).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.args.is_made_up() {
            warnings.push(SYNTHETIC.to_owned());
        }
        for (task, reason) in &self.outcome.without_sensitivity {
            warnings.push(format!(
                "pairs were not weighted by sensitivities, because of {task}: {reason}"
            ));
        }
        warnings
    }
}

//! The report of a merge.

use std::sync::Arc;

use super::{Files, Merger, synthetic};
use crate::api::TOOL;
use crate::api::data::TaskData;
use crate::api::models::Loaded;
use crate::api::options::MergeOptions;
use crate::api::structure::decidable_of;
use crate::api::verdict::Settled;
use crate::compare::Comparison;
use crate::emit::Form;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::mtz::options as mtz;
use crate::mtz::plan::allowed;
use crate::mtz::site::SiteRecord;
use crate::mtz::solver::pair_cost::Metric;
use crate::report::{
    Compression, JointRecord, Parameters, Picture, Report, SCHEMA, Settings, StageTime,
    StatisticsRecord, Structure, TaskRecord, apart, at_outputs,
};
use crate::retrain::Ending;
use crate::runtime::Backend;
use crate::verify::Verification;
use crate::zipper::{Outcome, SiteNames, Trial};

/// The facts about a merge.
pub(crate) struct Facts<'a> {
    pub(crate) merger: &'a Merger,
    /// Records of the files; empty where no plan needs them.
    pub(in crate::api) files: Files,
    pub(crate) options: mtz::MergeOptions,
    /// The memory limit in bytes, as given.
    pub(crate) memory: u64,
    /// Samples per batch of whole nets, within the memory limit.
    pub(crate) batch: usize,
    pub(crate) loaded: Vec<Loaded>,
    pub(crate) data: Vec<TaskData>,
    pub(crate) structure: Structure,
    pub(crate) sites: Vec<SiteNames>,
    /// Stored statistics, one per task; empty without any.
    pub(crate) statistics: Vec<StatisticsRecord>,
    pub(crate) picture: Picture,
    pub(crate) outcome: Outcome,
    /// Merges that were tried for a goal.
    pub(crate) search: Vec<Trial>,
    /// Seconds spent on reading models and data.
    pub(crate) read: f64,
    pub(crate) backend: Arc<dyn Backend>,
}

/// The layout of the joint model.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) form: Form,
    /// Whether tasks have inputs of their own.
    pub(crate) separate: bool,
}

/// The result of a comparison.
#[derive(Default)]
pub(super) struct Compared {
    /// The measurements; `None` if there are none.
    pub(super) comparison: Option<Comparison>,
    /// Measurements that failed, as sentences.
    pub(super) missing: Vec<String>,
}

/// The file that was written.
pub(crate) struct Written {
    pub(crate) sha256: String,
    pub(crate) settled: Settled,
    pub(crate) shape: Shape,
}

impl Facts<'_> {
    /// Refuses work that would take more bytes than are allowed.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`].
    pub(crate) fn check_room(&self, bytes: u64) -> Result<()> {
        let models: Vec<u64> = self.loaded.iter().map(|model| model.bytes).collect();
        let allowed = allowed(&models, self.memory);
        if bytes <= allowed {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let message = format!("takes {} MiB, and {} MiB are allowed", mib(bytes), mib(allowed));
        Err(Error::new(ErrorKind::Usage, message).hint(Hint::from("allow more: ").option("memory")))
    }

    /// Whether the user stopped retraining and waits for the end.
    pub(crate) fn was_stopped(&self) -> bool {
        let rounds = self.outcome.retrained.iter().flat_map(|r| &r.rounds);
        rounds.last().is_some_and(|r| r.outcome.ending == Ending::Interrupted)
    }

    pub(crate) fn report(
        &self,
        written: &Written,
        checked: Option<Verification>,
        compared: Compared,
        worse: Option<&Hint>,
    ) -> Report {
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
            synthetic_data: self.merger.is_made_up(),
            layers: self.outcome.sites.clone(),
            structure: self.structure.clone(),
            picture: self.picture.clone(),
            search: self.search.clone(),
            seconds: self.seconds(),
            retraining: self.outcome.retrained.clone(),
            verification: checked,
            warnings: self.warnings(worse, compared.missing),
            comparison: compared.comparison,
        }
    }

    fn tasks(&self) -> Vec<TaskRecord> {
        let parameters = &self.outcome.sizes.originals;
        let record = |(at, ((model, data), parameters)): (usize, ((&Loaded, &TaskData), &u64))| {
            let without = self.outcome.without_sensitivity.iter().find(|(t, _)| *t == model.name);
            TaskRecord {
                name: model.name.clone(),
                path: model.path.display().to_string(),
                sha256: model.sha256.clone(),
                bytes: model.bytes,
                parameters: *parameters,
                data: data.record.clone(),
                statistics: self.statistics.get(at).cloned(),
                without_sensitivity: without.map(|(_, reason)| reason.clone()),
            }
        };
        self.loaded.iter().zip(&self.data).zip(parameters).enumerate().map(record).collect()
    }

    fn joint(&self, written: &Written) -> JointRecord {
        let names: Vec<&str> = self.loaded.iter().map(|m| m.name.as_str()).collect();
        JointRecord {
            path: written.settled.path.display().to_string(),
            written: written.settled.written,
            sha256: written.sha256.clone(),
            bytes: written.settled.bytes,
            parameters: Parameters::new(&self.outcome.sizes, &names),
            form: written.shape.form.name().to_owned(),
            inputs: if written.shape.separate { "separate" } else { "shared" }.to_owned(),
        }
    }

    fn settings(&self) -> Settings {
        let options = &self.options;
        let sharing = &self.merger.options.sharing;
        let metric = Metric::ALL.iter().find(|(metric, ..)| *metric == options.metric);
        Settings {
            method: options.method,
            matcher: options.matcher().map(|m| m.name().to_owned()).unwrap_or_default(),
            metric: metric.map_or("", |(_, name, _)| name).to_owned(),
            passes: options.passes,
            share: self.share(),
            unit: options.unit,
            biases: options.budget.biases(),
            keep_shared: sharing.rule_texts(),
            own_weights: sharing.own_weights.clone(),
            share_outputs: sharing.share_outputs,
            alpha: options.task_weights(self.loaded.len()),
            damping: options.damping,
            max_rows: options.max_rows,
            batch: self.merger.options.runtime.batch,
            seed: options.seed,
            options: self.merger.recorded(self.merger.replay.typed.clone(), self.memory),
        }
    }

    /// What decides how much is shared, as typed.
    fn share(&self) -> String {
        let MergeOptions { goal, sharing, .. } = &self.merger.options;
        match goal.text() {
            _ if self.merger.replay.decides() => "plan".to_owned(),
            Some(goal) => goal,
            None => sharing.default_text(self.merger.counts_neurons()),
        }
    }

    fn seconds(&self) -> Vec<StageTime> {
        let read = [("read", self.read)];
        let all = read.iter().chain(&self.outcome.seconds);
        all.map(|(stage, s)| StageTime { stage: (*stage).to_owned(), seconds: *s }).collect()
    }

    fn warnings(&self, worse: Option<&Hint>, missing: Vec<String>) -> Vec<String> {
        let mut warnings = Vec::new();
        let sites = self.outcome.sites.iter();
        let reasons = sites.map(|site| (site.layers.first(), site.reason.as_ref()));
        warnings.extend(apart(&self.structure, reasons));
        let reasons = self.outcome.sites.iter().map(|site| site.reason.as_ref());
        warnings.extend(at_outputs(reasons).map(|hint| hint.in_flags()));
        warnings.extend(Loaded::notes_of(&self.loaded));
        let names = self.loaded.iter().map(|model| model.name.as_str());
        warnings.extend(decidable_of(&self.structure, names));
        if self.merger.is_made_up() && self.outcome.sites.iter().any(SiteRecord::loses) {
            warnings.push(synthetic().in_flags());
        }
        if !self.statistics.is_empty() {
            let predicted = match self.merger.given().is_synthetic() {
                true => {
                    "; losses of layers were predicted, and outputs compared on random numbers only"
                }
                false => "",
            };
            warnings.push(format!(
                "statistics are those of the original models, so layers were not refitted to merged \
                 inputs, and a merge from samples loses less{predicted}"
            ));
        }
        for (task, reason) in &self.outcome.without_sensitivity {
            warnings.push(format!(
                "pairs were not weighted by sensitivities, because of {task}: {reason}"
            ));
        }
        warnings.extend(worse.map(Hint::in_flags));
        warnings.extend(missing);
        warnings
    }
}

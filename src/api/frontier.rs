//! The curve of size against loss.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::merge::{Made, Merger, Ready, SAMPLES, with_originals};
use super::models::Loaded;
use super::{TOOL, output};
use crate::calib::data::Dataset;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::mtz::joint::JointModel;
use crate::naming::UniqueNames;
use crate::onnx::{self, Draft, SaveOptions};
use crate::progress::Progress;
use crate::report::{Frontier, FrontierRecord, FrontierTask, Picture, SCHEMA, TaskLoss};
use crate::runtime::Backend;
use crate::staging::MadeFolder;
use crate::zipper::{FrontierPoint, Job, PlanFile, frontier, knee};

/// Default number of samples to measure on, at least: errors have steps of a tenth of a point.
const FEWEST: usize = 1000;

/// Files of a curve, and options of its measurement.
///
/// ```no_run
/// use onnx_zip::{FrontierDestination, MergeOptions, Merger, PlanFile, Silent};
///
/// let reports = ["curve.html".into()];
/// let mut destination = FrontierDestination::new(10);
/// destination.reports = &reports;
/// let merger = Merger::new(MergeOptions::default()).model("a.onnx").model("b.onnx");
/// let curve = merger.data("images.npz").frontier(&destination, &PlanFile::default(), &Silent)?;
/// assert!(curve.points.len() <= 10);
/// # Ok::<(), onnx_zip::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct FrontierDestination<'a> {
    /// Number of merges at most.
    pub points: usize,
    /// Number of samples to measure each merge on, at most; without it as many as statistics are taken from, and
    /// at least 1000.
    pub measure: Option<usize>,
    /// Whether to measure the time of a run.
    pub latency: bool,
    /// Files of reports: `.html`, `.json`, `.csv` or `.md`.
    pub reports: &'a [PathBuf],
    /// A folder for the plans of all merges.
    pub plans: Option<&'a Path>,
    /// A folder for all joint models and their plans.
    pub keep: Option<&'a Path>,
}

impl FrontierDestination<'_> {
    /// Up to `points` merges, without any files.
    pub fn new(points: usize) -> Self {
        FrontierDestination {
            points,
            measure: None,
            latency: false,
            reports: &[],
            plans: None,
            keep: None,
        }
    }

    /// Checks that all files can be written, and creates the folders. New ones that are still empty when the
    /// result is dropped are removed.
    fn check(&self, inputs: &[PathBuf]) -> Result<Vec<MadeFolder>> {
        self.reports.iter().try_for_each(|report| output::check(report, inputs))?;
        output::check_distinct(self.reports.iter().map(PathBuf::as_path))?;
        let folders = [self.plans, self.keep].into_iter().flatten();
        let mut made: Vec<MadeFolder> = folders.map(MadeFolder::at).collect::<Result<_>>()?;
        // One may lie in another that is made before it, and is removed first.
        made.reverse();
        Ok(made)
    }

    /// Writes the reports.
    fn write(&self, curve: &Frontier, progress: &dyn Progress) -> Result<()> {
        let text = |path: &PathBuf| Ok((path.clone(), output::frontier(path, curve)?));
        let texts: Vec<(PathBuf, String)> = self.reports.iter().map(text).collect::<Result<_>>()?;
        output::write(texts.iter().map(|(path, text)| (path.as_path(), text.as_str())), progress)
    }
}

/// Records points in files and in the report.
struct Recorder<'a> {
    start: Instant,
    merger: &'a Merger,
    to: &'a FrontierDestination<'a>,
    template: &'a PlanFile,
    ready: &'a Ready,
    /// The runtime on one thread, for measuring times.
    timer: Option<&'a dyn Backend>,
    /// A folder for joint models that are not kept.
    aside: &'a Path,
    /// The files that are read.
    inputs: &'a [PathBuf],
    progress: &'a dyn Progress,
}

impl Merger {
    /// Merges for several sizes, beginning with all that can be shared, and measures the loss of each
    /// task: its error if samples have labels, else the deviation of its outputs. `plan` holds the
    /// options as typed, for the plans of the points.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for options that fix how much is shared; else as [`Merger::merge_into`].
    pub fn frontier(
        &self,
        to: &FrontierDestination<'_>,
        plan: &PlanFile,
        progress: &dyn Progress,
    ) -> Result<Frontier> {
        self.check_open()?;
        let start = Instant::now();
        let inputs = self.inputs();
        let _folders = to.check(&inputs)?;
        let ready = self.ready(true, progress)?;
        let timer = self.options.runtime.single_threaded(&ready.backend)?;
        let aside = tempfile::tempdir()
            .map_err(|e| Error::new(ErrorKind::Io, "cannot make a temporary folder").because(e))?;
        let recorder = Recorder {
            start,
            merger: self,
            to,
            template: plan,
            ready: &ready,
            timer: to.latency.then_some(timer.as_ref()),
            aside: aside.path(),
            inputs: &inputs,
            progress,
        };
        let (mut records, mut names) = (Vec::new(), UniqueNames::default());
        let mut visit = |point: &FrontierPoint, joint: &JointModel| {
            let name = names.claim(&name_of(point.size));
            records.push(recorder.record(&name, point, joint)?);
            Ok(())
        };
        // Every point is measured, so this must take less time than a merge.
        let drawn = self.options.calibration.samples.unwrap_or(SAMPLES);
        let measured = to.measure.unwrap_or(drawn.max(FEWEST));
        let tests: Vec<Dataset> = ready.data.iter().map(|d| d.to_measure(measured)).collect();
        let teachers = self.options.retraining.teachers(&ready.loaded)?;
        let retraining = self.retraining(&teachers, &[], &ready.calibration, ready.options.seed);
        let job = Job {
            retraining: retraining.as_ref(),
            ..Job::new(&ready.calibration, &ready.options, progress)
        };
        let (originals, points) = frontier(&ready.prepared, &tests, to.points, &mut visit, &job)?;
        let parameters = points.first().map_or(&[][..], |p| &p.outcome.sizes.originals);
        let curve = recorder.curve(recorder.tasks(&tests, &originals, parameters), records);
        to.write(&curve, progress)?;
        Ok(curve)
    }

    /// Refuses options that fix how much is shared.
    fn check_open(&self) -> Result<()> {
        let super::MergeOptions { sharing, goal, .. } = &self.options;
        let fixed = [
            ("share", sharing.share.is_some()),
            ("max-cost", sharing.max_cost.is_some()),
            ("target-size", goal.target_size.is_some()),
            ("max-drop", goal.max_drop.is_some()),
        ];
        if let Some((option, _)) = fixed.iter().find(|(_, is)| *is) {
            let message = "a curve covers all sizes and cannot fix how much to share";
            let hint = Hint::from("leave out ").option(option);
            return Err(Error::new(ErrorKind::Usage, message).hint(hint));
        }
        if self.is_stored() && self.given().is_synthetic() {
            let message = "a curve is measured on samples, which stored statistics do not hold";
            let hint = Hint::from("give some: ").option("data");
            return Err(Error::new(ErrorKind::Usage, message).hint(hint));
        }
        Ok(())
    }
}

impl Recorder<'_> {
    /// The curve through these points.
    fn curve(&self, tasks: Vec<FrontierTask>, mut points: Vec<FrontierRecord>) -> Frontier {
        points.sort_by(|a, b| a.size.total_cmp(&b.size));
        let at: Vec<(f64, f64)> = points.iter().map(|r| (r.size, r.loss)).collect();
        if let Some(point) = knee(&at).and_then(|at| points.get_mut(at)) {
            point.knee = true;
        }
        Frontier {
            schema: SCHEMA,
            tool: TOOL.to_owned(),
            runtime: self.ready.backend.describe(),
            tasks,
            points,
            seconds: self.start.elapsed().as_secs_f64(),
        }
    }

    /// The entries of all models, with their measurements on `tests` and their numbers of parameters.
    fn tasks(
        &self,
        tests: &[Dataset],
        originals: &[TaskLoss],
        parameters: &[u64],
    ) -> Vec<FrontierTask> {
        let measured = tests.iter().zip(originals).zip(parameters);
        let task =
            |(model, ((data, original), parameters)): (&Loaded, ((&Dataset, &TaskLoss), &u64))| {
                FrontierTask {
                    name: model.name.clone(),
                    path: model.path.display().to_string(),
                    bytes: model.bytes,
                    parameters: *parameters,
                    samples: data.len(),
                    original: *original,
                }
            };
        self.ready.loaded.iter().zip(measured).map(task).collect()
    }

    /// Writes the files of a point under a name, and returns its entry of the report.
    fn record(
        &self,
        name: &str,
        point: &FrontierPoint,
        joint: &JointModel,
    ) -> Result<FrontierRecord> {
        let model = self.merger.emitted(joint)?;
        let path = self.to.keep.unwrap_or(self.aside).join(format!("{name}.onnx"));
        output::check_input(&path, self.inputs)?;
        let draft = onnx::stage(&model, &path, &SaveOptions::default(), self.progress)?;
        let bytes = draft.bytes()?;
        let latency = self.timer.map(|timer| self.latency(point, joint, &draft, timer));
        let latency = latency.transpose()?.flatten();
        self.keep(draft, name, point)?;
        let report = self.to.reports.first().map_or(Path::new(""), PathBuf::as_path);
        let own = point.outcome.sites.iter().filter(|site| site.keeps_weights());
        Ok(FrontierRecord {
            size: point.size,
            parameters: point.outcome.sizes.joint(),
            bytes,
            tasks: point.tasks.clone(),
            loss: point.loss,
            latency,
            own: own.filter_map(|site| site.layers.first().cloned()).collect(),
            knee: false,
            plan: self.plan(report, point),
            picture: Picture::of(joint, &self.ready.prepared.alignment, &point.outcome.sites),
        })
    }

    /// Puts the joint model of a point and its plans into the folders that are asked for.
    fn keep(&self, mut draft: Draft<'_>, name: &str, point: &FrontierPoint) -> Result<()> {
        let plan_in = |folder: &Path| {
            let path = folder.join(format!("{name}.toml"));
            let text = self.plan(&path, point);
            (path, text)
        };
        if let Some((path, text)) = self.to.keep.map(plan_in) {
            draft.add_text(&path, &text)?;
            draft.commit()?;
        }
        if let Some((path, text)) = self.to.plans.map(plan_in) {
            output::write([(path.as_path(), text.as_str())], self.progress)?;
        }
        Ok(())
    }

    /// The text of a point's plan, for the file `path`.
    fn plan(&self, path: &Path, point: &FrontierPoint) -> String {
        let made = Made {
            files: &self.ready.files,
            runtime: self.ready.backend.describe(),
            memory: self.ready.memory,
            sites: &self.ready.sites,
            records: &point.outcome.sites,
            decisions: &point.outcome.decisions,
        };
        self.merger.plan_of(path, self.template, &made)
    }

    /// Seconds per run of the joint model and of all originals, if they can be measured.
    fn latency(
        &self,
        point: &FrontierPoint,
        joint: &JointModel,
        draft: &Draft<'_>,
        timer: &dyn Backend,
    ) -> Result<Option<(f64, f64)>> {
        let ready = self.ready;
        let models = (ready.loaded.as_slice(), ready.data.as_slice());
        let sizes = &point.outcome.sizes;
        let compared = with_originals(joint, draft, models, sizes, Ok(timer), self.progress)?;
        compared.unmeasured.iter().for_each(|what| self.progress.warn(what));
        Ok(compared.latency.map(|l| (l.joint, l.originals.iter().sum())))
    }
}

/// The name of a point's files, without suffix. Points whose sizes round to one need numbers behind it.
fn name_of(size: f64) -> String {
    format!("joint-{:.2}", 100.0 * size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_one_size_have_names_of_their_own() {
        let mut names = UniqueNames::default();
        let found = [0.57121, 0.57119, 0.6].map(|size| names.claim(&name_of(size)));
        assert_eq!(found, ["joint-57.12", "joint-57.12.1", "joint-60.00"]);
    }
}

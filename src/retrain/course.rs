//! The loop: step by step through the batches, with validations in between.

use std::path::Path;
use std::time::Instant;

use crate::error::{Error, ErrorKind, Hint, Result};
use crate::mtz::joint::JointModel;
use crate::onnx;
use crate::progress::Progress;
use crate::runtime::{HostArray, ModelSource, Recurrence, Session, State};

use super::batches::{Batches, filling, split, unfilled};
use super::checkpoint::Checkpoint;
use super::examples::Examples;
use super::fingerprint::Training;
use super::graph::Built;
use super::lesson::Lesson;
use super::optimizer::schedule;
use super::options::RetrainOptions;
use super::outcome::{Ending, Outcome, Point, TaskOutcome};
use super::validate::{Quality, named, single, validate};

/// Number of validations.
const CHECKS: usize = 20;

/// The best weights so far.
pub(super) struct Best {
    iteration: usize,
    /// Weighted loss on validation.
    loss: f64,
    pub(super) parameters: Vec<HostArray>,
    qualities: Vec<Quality>,
}

impl Best {
    /// The best weights at the time of the checkpoint.
    fn of(checkpoint: Checkpoint, weights: &[f64]) -> Self {
        let iteration = checkpoint.best_iteration;
        let point = checkpoint.history.iter().find(|p| p.iteration == iteration);
        let qualities = point.map(|p| p.validation.clone()).unwrap_or_default();
        let loss = weighted(&qualities, weights);
        Best { iteration, loss, parameters: checkpoint.best, qualities }
    }

    /// The initial parameters.
    fn none(built: &Built) -> Self {
        let states = built.states.iter().take(built.trained.len());
        let parameters = states.map(|s| s.value.clone()).collect();
        Best { iteration: 0, loss: f64::INFINITY, parameters, qualities: Vec::new() }
    }
}

/// The weighted loss; infinite where it is no number, so that any other is better.
fn weighted(qualities: &[Quality], weights: &[f64]) -> f64 {
    let loss: f64 = qualities.iter().zip(weights).map(|(q, w)| q.loss * w).sum();
    if loss.is_nan() { f64::INFINITY } else { loss }
}

/// The inputs of a training: graphs, samples and options.
pub(super) struct Setup<'a> {
    pub(super) built: &'a Built,
    pub(super) lesson: &'a Lesson<'a>,
    pub(super) options: &'a RetrainOptions,
    /// Samples of each task per step.
    pub(super) batch: usize,
    /// Whether the net takes batches of this size only.
    pub(super) is_fixed: bool,
    pub(super) progress: &'a dyn Progress,
}

/// A training in progress.
pub(super) struct Course<'a> {
    names: Vec<String>,
    weights: Vec<f64>,
    setup: Setup<'a>,
    /// Steps taken before.
    start: usize,
    /// File and fingerprint of the training, if it is saved.
    saved: Option<(&'a Path, String)>,
    stepper: Box<dyn Recurrence>,
    checker: Box<dyn Session>,
    examples: Vec<Examples<'a>>,
    /// Batches for training, per task.
    batches: Vec<Batches>,
    /// Samples for validation, per task.
    held: Vec<Vec<usize>>,
    pub(super) best: Best,
    history: Vec<Point>,
    /// Seconds spent on steps.
    stepping: f64,
}

impl<'a> Setup<'a> {
    /// Splits the samples of each task into batches for training and samples for validation.
    fn split(
        &self,
        names: &[String],
        examples: &[Examples<'_>],
    ) -> Result<(Vec<Batches>, Vec<Vec<usize>>)> {
        let Setup { options, batch, .. } = *self;
        let mut parts = Vec::new();
        for (task, (name, examples)) in names.iter().zip(examples).enumerate() {
            // All tasks get common samples in the same batch.
            let stream = if self.lesson.data.len() == 1 { 0 } else { task as u64 };
            let seed = options.seed.wrapping_add(stream);
            let (train, held) = split(examples.len(), options.validation, seed);
            if train.len() < batch {
                return Err(unfilled(train.len(), batch).in_model(name));
            }
            let held = if self.is_fixed { filling(held, batch) } else { held };
            parts.push((Batches::new(train, batch, seed.wrapping_add(options.round)), held));
        }
        Ok(parts.into_iter().unzip())
    }

    /// What this training is told apart by, with the encoded graph of a step.
    fn training<'s>(&'s self, graph: &'s [u8]) -> Training<'s> {
        let Setup { built, lesson, options, .. } = *self;
        let parameters = built.states.get(..built.trained.len()).unwrap_or_default();
        Training { graph, parameters, teachers: lesson.teachers, data: lesson.data, options }
    }

    /// The state to start from: that of the checkpoint, or the initial one.
    fn states(&self, resumed: Option<&Checkpoint>) -> Result<Vec<State>> {
        let Setup { built, options, .. } = *self;
        let mut states = built.states.clone();
        if let Some(checkpoint) = resumed {
            let shapes: Vec<&[usize]> = states.iter().map(|s| s.value.shape()).collect();
            checkpoint.check(options.iterations, &shapes, built.trained.len())?;
            let values = states.iter_mut().zip(&checkpoint.state);
            values.for_each(|(state, value)| state.value = value.clone());
        }
        Ok(states)
    }
}

impl<'a> Course<'a> {
    /// Loads the graphs, and the checkpoint if training resumes from one.
    pub(super) fn new(
        joint: &JointModel,
        examples: Vec<Examples<'a>>,
        setup: Setup<'a>,
    ) -> Result<Self> {
        let Setup { built, lesson, options, .. } = setup;
        let names: Vec<String> = joint.tasks().iter().map(|t| t.name().to_owned()).collect();
        let bytes = onnx::encode(&built.step)?;
        let saved = match lesson.checkpoint {
            Some(path) => Some((path, setup.training(&bytes).fingerprint()?)),
            None => None,
        };
        let resumed = match &saved {
            Some((path, name)) if lesson.resume => Some(Checkpoint::load(path, name)?),
            _ => None,
        };
        let states = setup.states(resumed.as_ref())?;
        let stepper = lesson.backend.recur(ModelSource::Bytes(&bytes), states)?;
        let checker = lesson.backend.load(ModelSource::Graph(&built.check))?;
        let (batches, held) = setup.split(&names, &examples)?;
        let weights = options.task_weights(names.len());
        let (start, history, best) = match resumed {
            Some(c) => (c.iteration, c.history.clone(), Best::of(c, &weights)),
            None => (0, Vec::new(), Best::none(built)),
        };
        Ok(Course {
            names,
            weights,
            setup,
            start,
            saved,
            stepper,
            checker,
            examples,
            batches,
            held,
            best,
            history,
            stepping: 0.0,
        })
    }

    /// Trains to the end.
    pub(super) fn run(&mut self) -> Result<Outcome> {
        let start = Instant::now();
        let all = self.setup.options.iterations;
        self.setup.progress.begin("retraining", all as u64);
        if self.start == 0 {
            self.check(0, &[])?;
        } else {
            (0..self.start).for_each(|_| self.setup.progress.step());
        }
        let before = self.history.first().map(|p| p.validation.clone()).unwrap_or_default();
        let every = all.div_ceil(CHECKS).max(1);
        let mut recent = Vec::new();
        let (mut done, mut ending) = (self.start, Ending::Complete);
        while done < all {
            if self.setup.progress.stopped() {
                ending = Ending::Interrupted;
                break;
            }
            recent.push(self.step(done)?);
            done += 1;
            if done % every == 0 || done == all {
                self.check(done, &recent)?;
                recent.clear();
                if done < all && self.is_stuck() {
                    ending = Ending::Early;
                    break;
                }
            }
        }
        if !recent.is_empty() {
            self.check(done, &recent)?;
        }
        let tasks = self.names.iter().zip(before.iter().zip(&self.best.qualities));
        let tasks = tasks.map(|(name, (before, after))| TaskOutcome {
            name: name.clone(),
            before: *before,
            after: *after,
        });
        Ok(Outcome {
            iterations: done,
            best: self.best.iteration,
            ending,
            tasks: tasks.collect(),
            history: std::mem::take(&mut self.history),
            speed: (done - self.start) as f64 / self.stepping.max(1e-9),
            seconds: start.elapsed().as_secs_f64(),
            normalisations: 0,
        })
    }

    /// One step; returns each task's mean loss.
    fn step(&mut self, step: usize) -> Result<Vec<f64>> {
        let start = Instant::now();
        let mut fed = Vec::new();
        for (examples, batches) in self.examples.iter_mut().zip(&mut self.batches) {
            let parts = self.setup.options.mix.then(|| batches.mixture(step));
            fed.push(examples.feed(&batches.of_step(step), parts.as_deref())?);
        }
        let schedule = schedule(self.setup.options, step);
        let knobs =
            [schedule.rate, schedule.decay].map(|v| HostArray::from(ndarray::arr0(v).into_dyn()));
        let mut inputs = named(&self.setup.built.feeds, &fed)?;
        inputs.extend(self.setup.built.knobs.iter().map(String::as_str).zip(&knobs));
        let results = self.stepper.step(&inputs)?;
        let mut losses = Vec::new();
        for (result, name) in results.iter().zip(&self.names) {
            let loss = f64::from(single(result)?) / self.setup.batch as f64;
            if !loss.is_finite() {
                return Err(self.diverged(name, step));
            }
            losses.push(loss);
        }
        self.setup.progress.step();
        self.stepping += start.elapsed().as_secs_f64();
        Ok(losses)
    }

    fn diverged(&self, task: &str, step: usize) -> Error {
        let rate = self.setup.options.rate;
        Error::new(ErrorKind::Numeric, format!("the loss is not finite in iteration {}", step + 1))
            .in_model(task)
            .hint(
                Hint::from("use a smaller ")
                    .option(if rate.is_relative() { "relative-rate" } else { "learning-rate" })
                    .then(format!(" (it is {}), and check the samples (", rate.peak()))
                    .option("scale")
                    .then(")"),
            )
    }

    /// Validates the current weights, and keeps them if they are the best.
    fn check(&mut self, iteration: usize, recent: &[Vec<f64>]) -> Result<()> {
        let count = self.setup.built.trained.len();
        let mut parameters = self.stepper.state()?;
        parameters.truncate(count);
        let named: Vec<(String, HostArray)> =
            self.setup.built.states.iter().map(|s| s.input.clone()).zip(parameters).collect();
        let held = (self.held.as_slice(), self.setup.batch);
        let (checker, feeds) = (self.checker.as_mut(), &self.setup.built.feeds);
        let qualities = validate(checker, &named, &mut self.examples, feeds, held)?;
        let loss = weighted(&qualities, &self.weights);
        let validated = self.held.iter().all(|h| !h.is_empty());
        if !validated || loss < self.best.loss || iteration == 0 {
            let parameters = named.into_iter().map(|(_, value)| value).collect();
            self.best = Best { iteration, loss, parameters, qualities: qualities.clone() };
        }
        let mean = |task: usize| {
            recent.iter().map(|losses| losses[task]).sum::<f64>() / recent.len() as f64
        };
        let tasks = if recent.is_empty() { 0 } else { self.names.len() };
        let training: Vec<f64> = (0..tasks).map(mean).collect();
        self.tell(iteration, &training, &qualities);
        self.history.push(Point { iteration, training, validation: qualities });
        self.save(iteration)
    }

    /// Writes the checkpoint, if there is one.
    fn save(&mut self, iteration: usize) -> Result<()> {
        let Some((path, name)) = &self.saved else { return Ok(()) };
        let checkpoint = Checkpoint {
            iteration,
            best_iteration: self.best.iteration,
            history: self.history.clone(),
            state: self.stepper.state()?,
            best: self.best.parameters.clone(),
        };
        checkpoint.save(path, name)
    }

    fn tell(&self, iteration: usize, training: &[f64], qualities: &[Quality]) {
        let steps = iteration.saturating_sub(self.start);
        let tasks = self.names.iter().zip(qualities).enumerate();
        let tasks: Vec<String> = tasks
            .map(|(task, (name, quality))| {
                let held = Some(quality.loss).filter(|loss| !loss.is_nan());
                let losses = training.get(task).copied().into_iter().chain(held);
                let losses: Vec<String> = losses.map(|loss| format!("{loss:.4}")).collect();
                let losses = if losses.is_empty() { "–".to_owned() } else { losses.join(", ") };
                let error = quality.error.map(|e| format!(", error {:.2} %", 100.0 * e));
                format!("{name}: loss {losses}{}", error.unwrap_or_default())
            })
            .collect();
        let speed = steps as f64 / self.stepping.max(1e-9);
        let speed = if steps > 0 { format!("; {speed:.0} steps/s") } else { String::new() };
        self.setup.progress.status(&format!("{iteration}: {}{speed}", tasks.join("; ")));
    }

    /// Whether the last validations have not improved.
    fn is_stuck(&self) -> bool {
        let since = self.history.iter().filter(|p| p.iteration > self.best.iteration).count();
        let is_over = self.setup.options.patience.is_some_and(|most| since >= most);
        is_over && !self.held.iter().any(Vec::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_loss_is_better_than_no_number() {
        let quality =
            |loss: f64| [Quality { loss, error: None }, Quality { loss: 1.0, error: None }];
        let of = |loss: f64| weighted(&quality(loss), &[1.0, 1.0]);
        assert!(of(5.0) < of(f64::NAN) && of(5.0) < of(f64::INFINITY));
        assert_eq!(of(5.0), 6.0);
    }
}

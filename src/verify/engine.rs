//! One runtime, with the models to compare in it.

use std::ops::Range;

use ndarray::arr1;

use super::{Joint, Subject, Wiring};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::mtz::plan::stays_loaded;
use crate::runtime::{Backend, HostArray, ModelSource, Port, Session, feeds, fixed_batch};

/// A runtime with the joint model. Original nets are loaded one at a time, when they are compared,
/// since each takes memory for its weights and the activations of a batch.
pub(super) struct Engine<'a> {
    pub(super) name: &'static str,
    pub(super) description: String,
    pub(super) wiring: Wiring,
    pub(super) backend: &'a dyn Backend,
    subjects: &'a [Subject<'a>],
    /// The ports of the original nets.
    ports: Vec<Ports>,
    joint: Joint<'a>,
    joint_ports: Ports,
    /// The joint model, while it is loaded.
    session: Option<Box<dyn Session>>,
}

/// Inputs and outputs of a model.
pub(super) struct Ports {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Ports {
    fn of(session: &dyn Session) -> Ports {
        Ports { inputs: session.inputs().to_vec(), outputs: session.outputs().to_vec() }
    }
}

/// The samples of the joint model for one batch of one task.
pub(super) struct JointFeed<'a> {
    pub(super) number: usize,
    pub(super) range: Range<usize>,
    pub(super) own: &'a [(String, HostArray)],
}

impl<'a> Engine<'a> {
    /// Loads the original nets of all tasks, one after the other, and returns their ports.
    pub(super) fn ports(backend: &dyn Backend, subjects: &[Subject<'_>]) -> Result<Vec<Ports>> {
        let load =
            |s: &Subject<'_>| Ok(Ports::of(backend.load(s.original).in_model(s.task)?.as_ref()));
        subjects.iter().map(load).collect()
    }

    /// Loads the original nets of all tasks, one after the other, and runs each on a first batch, since
    /// some nets load but do not run. The batch has `batch` samples, unless the net fixes its size.
    pub(super) fn try_originals(
        backend: &dyn Backend,
        subjects: &[Subject<'_>],
        batch: usize,
    ) -> Result<()> {
        for subject in subjects {
            let mut net = backend.load(subject.original).in_model(subject.task)?;
            let size = fixed_batch(net.inputs()).unwrap_or(batch.min(subject.data.len()));
            // Too few samples are an error of the data, not of the runtime.
            if size <= subject.data.len() {
                let samples = subject.data.batch(0..size)?;
                net.run(&feeds(&samples)).in_model(subject.task)?;
            }
        }
        Ok(())
    }

    /// Loads the joint model; `ports` are those of the original nets.
    pub(super) fn new(
        backend: &'a dyn Backend,
        joint: Joint<'a>,
        subjects: &'a [Subject<'a>],
        ports: Vec<Ports>,
    ) -> Result<Self> {
        let session = backend.load(ModelSource::File(joint.path)).in_model(joint.name)?;
        let wiring = Wiring::of(session.inputs(), session.outputs()).in_model(joint.name)?;
        Ok(Engine {
            name: backend.name(),
            description: backend.describe(),
            wiring,
            backend,
            subjects,
            ports,
            joint,
            joint_ports: Ports::of(session.as_ref()),
            session: stays_loaded(joint.bytes, subjects.len()).then_some(session),
        })
    }

    /// Unloads a joint model that is too large to be kept.
    pub(super) fn rest(&mut self) {
        if !stays_loaded(self.joint.bytes, self.subjects.len()) {
            self.session = None;
        }
    }

    /// Runs the joint model.
    fn run(&mut self, inputs: &[(String, HostArray)]) -> Result<Vec<HostArray>> {
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                self.backend.load(ModelSource::File(self.joint.path)).in_model(self.joint.name)?
            }
        };
        self.session.insert(session).run(&feeds(inputs)).in_model(self.joint.name)
    }

    /// The batch size that the joint model or a task's original net fixes.
    pub(super) fn fixed_batch(&self, task: usize) -> Option<usize> {
        let own: Vec<&str> = self.ports[task].inputs.iter().map(|p| p.name.as_str()).collect();
        let names = self.wiring.inputs_of(&self.wiring.tasks[task], &own).unwrap_or_default();
        let is_own = |port: &&Port| names.contains(&port.name.as_str());
        let own: Vec<Port> = self.joint_ports.inputs.iter().filter(is_own).cloned().collect();
        fixed_batch(&own).or_else(|| fixed_batch(&self.ports[task].inputs))
    }

    /// Names of a task's outputs.
    pub(super) fn outputs(&self, task: usize) -> Vec<&str> {
        self.ports[task].outputs.iter().map(|p| p.name.as_str()).collect()
    }

    /// Loads a task's original net.
    pub(super) fn original(&self, task: usize) -> Result<Box<dyn Session>> {
        let subject = &self.subjects[task];
        self.backend.load(subject.original).in_model(subject.task)
    }

    /// Loads the net that the joint model must compute for a task, if it is given.
    pub(super) fn exact(&self, task: usize) -> Result<Option<Box<dyn Session>>> {
        let subject = &self.subjects[task];
        let load = |net| self.backend.load(net).in_model(merged(subject.task));
        subject.net.map(load).transpose()
    }

    /// Runs the joint model for one task; gives its outputs in the order of the original net.
    pub(super) fn joint(&mut self, feed: &JointFeed<'_>) -> Result<Vec<HostArray>> {
        let inputs = self.feeds(feed)?;
        let mut results: Vec<Option<HostArray>> =
            self.run(&inputs)?.into_iter().map(Some).collect();
        let task = &self.wiring.tasks[feed.number];
        let ports = &self.joint_ports.outputs;
        let outputs = self.ports[feed.number].outputs.iter().map(|output| {
            let name = format!("{task}/{}", output.name);
            let at = ports.iter().position(|p| p.name == name);
            at.and_then(|at| results.get_mut(at)?.take())
                .ok_or_else(|| Error::new(ErrorKind::Parity, format!("output '{name}' is missing")))
        });
        outputs.collect()
    }

    fn feeds(&self, feed: &JointFeed<'_>) -> Result<Vec<(String, HostArray)>> {
        let mut inputs = self.named(feed.number, feed.own)?;
        if self.wiring.separate() {
            for other in (0..self.subjects.len()).filter(|t| *t != feed.number) {
                let arrays = self.bystander(other, feed)?;
                inputs.extend(self.named(other, &arrays)?);
            }
        }
        if let Some(selector) = &self.wiring.selector {
            let number = arr1(&[feed.number as i64]).into_dyn();
            inputs.push((selector.clone(), number.into()));
        }
        Ok(inputs)
    }

    /// Samples for the inputs of a task that is not being checked, but must be fed.
    fn bystander(&self, task: usize, feed: &JointFeed<'_>) -> Result<Vec<(String, HostArray)>> {
        let data = self.subjects[task].data;
        let size = self.fixed_batch(task).unwrap_or(feed.range.len());
        let indices: Vec<usize> =
            (0..size).map(|i| (feed.range.start + i) % data.len().max(1)).collect();
        data.select(&indices)?.batch(0..size)
    }

    /// A task's arrays under the joint model's names.
    fn named(
        &self,
        task: usize,
        arrays: &[(String, HostArray)],
    ) -> Result<Vec<(String, HostArray)>> {
        let task = &self.wiring.tasks[task];
        let own: Vec<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
        let names = self.wiring.inputs_of(task, &own).ok_or_else(|| {
            let message = format!(
                "has other inputs for task '{task}' than the {} of the original model",
                own.len()
            );
            Error::new(ErrorKind::Parity, message)
        })?;
        Ok(names.iter().zip(arrays).map(|(n, (_, a))| ((*n).to_owned(), a.clone())).collect())
    }
}

/// What messages call the net that the joint model must compute for a task.
pub(super) fn merged(task: &str) -> String {
    format!("the merged net of '{task}'")
}

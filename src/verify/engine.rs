//! One runtime with everything that is compared in it.

use std::ops::Range;

use ndarray::arr1;

use super::{Joint, Subject, Wiring};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::runtime::{Backend, HostArray, ModelSource, Port, Session, feeds, fixed_batch};

/// A runtime with the joint model and the nets behind it.
pub(super) struct Engine {
    pub(super) name: &'static str,
    pub(super) description: String,
    pub(super) wiring: Wiring,
    pub(super) nets: Vec<Nets>,
    joint: Box<dyn Session>,
}

/// The nets behind one task.
pub(super) struct Nets {
    pub(super) original: Box<dyn Session>,
    pub(super) exact: Option<Box<dyn Session>>,
}

/// What the joint model is fed for one batch of one task.
pub(super) struct JointFeed<'a> {
    pub(super) number: usize,
    pub(super) range: Range<usize>,
    pub(super) subjects: &'a [Subject<'a>],
}

impl Engine {
    /// Loads the original nets of all tasks.
    pub(super) fn originals(
        backend: &dyn Backend,
        subjects: &[Subject<'_>],
    ) -> Result<Vec<Box<dyn Session>>> {
        let load = |s: &Subject<'_>| backend.load(s.original).in_model(s.task);
        subjects.iter().map(load).collect()
    }

    /// Loads the original nets of all tasks and runs each on a first batch, of `batch` samples where
    /// it does not fix that: what loads need not run.
    pub(super) fn try_originals(
        backend: &dyn Backend,
        subjects: &[Subject<'_>],
        batch: usize,
    ) -> Result<()> {
        for (net, subject) in Self::originals(backend, subjects)?.iter_mut().zip(subjects) {
            let size = fixed_batch(net.inputs()).unwrap_or(batch.min(subject.data.len()));
            // Less than a batch is the fault of the data.
            if size <= subject.data.len() {
                let samples = subject.data.batch(0..size)?;
                net.run(&feeds(&samples)).in_model(subject.task)?;
            }
        }
        Ok(())
    }

    /// Loads the joint model and the nets that it must compute, beside the original ones.
    pub(super) fn new(
        backend: &dyn Backend,
        joint: Joint<'_>,
        subjects: &[Subject<'_>],
        originals: Vec<Box<dyn Session>>,
    ) -> Result<Self> {
        let session = backend.load(ModelSource::File(joint.path)).in_model(joint.name)?;
        let wiring = Wiring::of(session.inputs(), session.outputs()).in_model(joint.name)?;
        let nets = subjects.iter().zip(originals).map(|(subject, original)| {
            let exact = subject.net.map(|net| backend.load(net).in_model(subject.task));
            Ok(Nets { original, exact: exact.transpose()? })
        });
        Ok(Engine {
            name: backend.name(),
            description: backend.describe(),
            wiring,
            nets: nets.collect::<Result<_>>()?,
            joint: session,
        })
    }

    /// The batch size that a task's net or its inputs of the joint model insist on.
    pub(super) fn fixed_batch(&self, task: usize) -> Option<usize> {
        let names = self.wiring.inputs_of(&self.wiring.tasks[task]);
        let is_own = |port: &&Port| names.contains(&port.name.as_str());
        let own: Vec<Port> = self.joint.inputs().iter().filter(is_own).cloned().collect();
        fixed_batch(&own).or_else(|| fixed_batch(self.nets[task].original.inputs()))
    }

    /// Names of a task's outputs.
    pub(super) fn outputs(&self, task: usize) -> Vec<&str> {
        self.nets[task].original.outputs().iter().map(|p| p.name.as_str()).collect()
    }

    /// Outputs for one task, whose samples are `own`: of the net that the joint model must compute,
    /// where it is at hand, and of the joint model.
    pub(super) fn merged(
        &mut self,
        feed: &JointFeed<'_>,
        own: &[(String, HostArray)],
    ) -> Result<(Option<Vec<HostArray>>, Vec<HostArray>)> {
        let exact = self.nets[feed.number].exact.as_mut();
        let exact = exact.map(|net| net.run(&feeds(own))).transpose()?;
        Ok((exact, self.joint(feed, own)?))
    }

    /// Runs the joint model for one task, whose samples are `own`; gives its outputs in the order of
    /// the original net.
    fn joint(
        &mut self,
        feed: &JointFeed<'_>,
        own: &[(String, HostArray)],
    ) -> Result<Vec<HostArray>> {
        let inputs = self.feeds(feed, own)?;
        let mut results: Vec<Option<HostArray>> =
            self.joint.run(&feeds(&inputs))?.into_iter().map(Some).collect();
        let task = &self.wiring.tasks[feed.number];
        let ports = self.joint.outputs();
        let outputs = self.nets[feed.number].original.outputs().iter().map(|output| {
            let name = format!("{task}/{}", output.name);
            let at = ports.iter().position(|p| p.name == name);
            at.and_then(|at| results.get_mut(at)?.take())
                .ok_or_else(|| Error::new(ErrorKind::Parity, format!("output '{name}' is missing")))
        });
        outputs.collect()
    }

    fn feeds(
        &self,
        feed: &JointFeed<'_>,
        own: &[(String, HostArray)],
    ) -> Result<Vec<(String, HostArray)>> {
        let mut inputs = self.named(feed.number, own)?;
        if self.wiring.separate() {
            for other in (0..feed.subjects.len()).filter(|t| *t != feed.number) {
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

    /// Samples of a task that is not being checked, but whose inputs must be fed.
    fn bystander(&self, task: usize, feed: &JointFeed<'_>) -> Result<Vec<(String, HostArray)>> {
        let data = feed.subjects[task].data;
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
        let names = self.wiring.inputs_of(task);
        if names.len() != arrays.len() {
            return Err(Error::new(
                ErrorKind::Parity,
                format!(
                    "has {} inputs for task '{task}', but the original model has {}",
                    names.len(),
                    arrays.len()
                ),
            ));
        }
        Ok(names.iter().zip(arrays).map(|(n, (_, a))| ((*n).to_owned(), a.clone())).collect())
    }
}

//! One runtime with everything that is compared in it.

use std::ops::Range;
use std::path::Path;

use ndarray::arr1;

use super::{Subject, Wiring};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::onnx;
use crate::runtime::{Backend, HostArray, ModelSource, Port, Session, feeds, fixed_batch};

/// A runtime with the joint model.
pub(super) struct Engine {
    pub(super) name: &'static str,
    pub(super) description: String,
    pub(super) wiring: Wiring,
    joint: Box<dyn Session>,
}

/// The nets behind one task, in one runtime.
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

impl Nets {
    pub(super) fn load(backend: &dyn Backend, subject: &Subject<'_>) -> Result<Nets> {
        let load = |source: ModelSource<'_>| backend.load(source).in_model(subject.task);
        let original = load(subject.original)?;
        let exact = match subject.net {
            Some(net) => Some(load(ModelSource::Bytes(&onnx::encode(net)?))?),
            None => None,
        };
        Ok(Nets { original, exact })
    }

    /// Names of the outputs.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &str> {
        self.original.outputs().iter().map(|p| p.name.as_str())
    }
}

impl Engine {
    pub(super) fn new(backend: &dyn Backend, joint: &Path) -> Result<Self> {
        let session = backend.load(ModelSource::File(joint)).in_model(joint.display())?;
        let wiring = Wiring::of(session.inputs(), session.outputs()).in_model(joint.display())?;
        Ok(Engine { name: backend.name(), description: backend.describe(), wiring, joint: session })
    }

    /// The batch size that a task's inputs of the joint model insist on.
    pub(super) fn fixed_batch(&self, task: usize) -> Option<usize> {
        let names = self.wiring.inputs_of(&self.wiring.tasks[task]);
        let is_own = |port: &&Port| names.contains(&port.name.as_str());
        let own: Vec<Port> = self.joint.inputs().iter().filter(is_own).cloned().collect();
        fixed_batch(&own)
    }

    /// Runs the joint model for one task, whose samples are `own`; gives its outputs in the order of
    /// the original net.
    pub(super) fn joint(
        &mut self,
        nets: &Nets,
        feed: &JointFeed<'_>,
        own: &[(String, HostArray)],
    ) -> Result<Vec<HostArray>> {
        let inputs = self.feeds(feed, own)?;
        let mut results: Vec<Option<HostArray>> =
            self.joint.run(&feeds(&inputs))?.into_iter().map(Some).collect();
        let task = &self.wiring.tasks[feed.number];
        let ports = self.joint.outputs();
        let outputs = nets.outputs().map(|output| {
            let name = format!("{task}/{output}");
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

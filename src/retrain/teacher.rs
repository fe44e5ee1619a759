//! Targets of the joint model: the original nets' scores, or labels.

use std::ops::Range;

use ndarray::{ArrayD, Axis, IxDyn};

use crate::calib::data::Dataset;
use crate::canon::{BatchNorm, CanonOptions, canonicalise};
use crate::couple::{Coupling, LayerId};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Graph, Model, ValueId};
use crate::mtz::joint::{Task, coupled};
use crate::naming::counterparts;
use crate::progress::Progress;
use crate::runtime::{Backend, HostArray, ModelSource, Session, fixed_batch};

use super::batches::unfilled;
use super::options::LossKind;
use super::scores::{learnable, scores};

/// The values to take from an original net.
pub(super) struct Asked<'a> {
    /// The task in the joint model.
    pub(super) task: &'a Task,
    pub(super) loss: LossKind,
    /// Layers whose pre-activations count.
    pub(super) layers: Vec<LayerId>,
}

impl Asked<'_> {
    /// The pre-activations of the layers in the original net.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if its layers are not those of the task.
    fn layers_of(&self, graph: &Graph) -> Result<Vec<ValueId>> {
        if self.layers.is_empty() {
            return Ok(Vec::new());
        }
        let sizes = |coupling: &Coupling, graph: &Graph| -> Result<Vec<_>> {
            coupling.layers.iter().map(|l| l.layer.sizes(graph)).collect()
        };
        let own = Coupling::of(graph)?;
        let (coupling, model) = (self.task.coupling(), self.task.model());
        if sizes(&own, graph)? != sizes(coupling, &model.graph)? {
            let message = "the original model's layers are not those of its task";
            return Err(Error::new(ErrorKind::Usage, message)
                .hint("give the models that were merged, in the order of the tasks"));
        }
        Ok(self.layers.iter().map(|id| own.layer(*id).layer.output).collect())
    }
}

/// An original net that returns its scores and the pre-activations of its layers.
pub(super) struct Teacher {
    session: Box<dyn Session>,
    name: String,
    /// Names of its inputs.
    inputs: Vec<String>,
    batch: usize,
    /// The axis of each result that counts samples.
    axes: Vec<usize>,
}

impl Teacher {
    /// Prepares the original net of task `name`.
    ///
    /// # Errors
    /// As canonicalisation and the runtime.
    pub(super) fn new(
        model: &Model,
        name: &str,
        backend: &dyn Backend,
        asked: &Asked<'_>,
        batch: usize,
    ) -> Result<Self> {
        let keeps = asked.task.model().graph.nodes().any(|(_, n)| n.is("BatchNormalization"));
        let batchnorm = if keeps { BatchNorm::PerTask } else { BatchNorm::Fold };
        let options = CanonOptions { batchnorm, ..CanonOptions::default() };
        let (mut net, _) = coupled(canonicalise(model.clone(), &options)?)?;
        let graph = &net.graph;
        let rank = |v| graph.value(v).ty.as_ref().and_then(|t| Some(t.shape.as_ref()?.len()));
        let mut wanted: Vec<ValueId> = match asked.loss {
            LossKind::Mse => learnable(graph),
            _ => learnable(graph).into_iter().map(|o| scores(graph, o, rank).value).collect(),
        };
        wanted.extend(asked.layers_of(graph)?);
        let axes = wanted.iter().map(|value| graph.sample_axis(*value)).collect();
        net.graph.outputs.clear();
        for value in wanted {
            let output = net.graph.add_op("Identity", "taught", &[value], []);
            net.graph.outputs.push(output);
        }
        net.graph.remove_dead_nodes();
        let session = backend.load(ModelSource::Graph(&net)).in_model(name)?;
        let inputs = session.inputs().iter().map(|p| p.name.clone()).collect();
        let batch = fixed_batch(session.inputs()).unwrap_or(batch).max(1);
        Ok(Teacher { session, name: name.to_owned(), inputs, batch, axes })
    }

    /// Its scores for the named arrays. Those that it has no input for take the inputs left, in order.
    pub(super) fn run(&mut self, arrays: &[(String, HostArray)]) -> Result<Vec<HostArray>> {
        let own: Vec<&str> = self.inputs.iter().map(String::as_str).collect();
        let named = renamed(arrays, &own, &own).in_model(&self.name)?;
        let results = self.session.run(&named).in_model(&self.name)?;
        results.into_iter().map(|r| Ok(r.into_f32()?.into())).collect()
    }

    /// Its scores for all samples, output by output; `None` where they take more than `memory`
    /// bytes, where samples do not fill its batches, or where an output has no row per sample.
    pub(super) fn run_all(
        &mut self,
        data: &Dataset,
        memory: u64,
        progress: &dyn Progress,
    ) -> Result<Option<Vec<HostArray>>> {
        let mut parts: Vec<Vec<HostArray>> = Vec::new();
        for range in data.batches(self.batch) {
            progress.check()?;
            let samples = range.len();
            if self.is_fixed() && samples < self.batch {
                return Ok(None);
            }
            let results = self.run(&data.batch(range)?)?;
            if results.iter().any(|result| result.rows() != Some(samples)) {
                return Ok(None);
            }
            let bytes: usize = results.iter().map(|r| 4 * r.len()).sum();
            if (bytes / samples.max(1) * data.len()) as u64 > memory {
                return Ok(None);
            }
            parts.resize_with(results.len(), Vec::new);
            for (part, result) in parts.iter_mut().zip(results) {
                part.push(result);
            }
            progress.step();
        }
        parts.iter().map(|p| HostArray::stack(p)).collect::<Result<_>>().map(Some)
    }

    /// Pieces of one length in which it runs about `most` of so many samples.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where samples do not fill its batch.
    pub(super) fn pieces(
        &self,
        samples: usize,
        most: usize,
    ) -> Result<impl Iterator<Item = Range<usize>> + use<>> {
        let size = if self.is_fixed() { self.batch } else { self.batch.min(samples).max(1) };
        if samples < size {
            return Err(unfilled(samples, size).in_model(&self.name));
        }
        let count = (most.min(samples) / size).max(1);
        Ok((0..count).map(move |piece| piece * size..(piece + 1) * size))
    }

    /// The axis of each result that counts samples.
    pub(super) fn axes(&self) -> &[usize] {
        &self.axes
    }

    fn is_fixed(&self) -> bool {
        fixed_batch(self.session.inputs()).is_some()
    }

    /// Number of runs for all samples.
    pub(super) fn runs(&self, samples: usize) -> u64 {
        samples.div_ceil(self.batch) as u64
    }
}

/// Arrays for a net whose inputs are called `own`, under the name that stands at the same place of `names`.
///
/// # Errors
/// [`ErrorKind::Calibration`] if the net has another number of inputs.
pub(super) fn renamed<'a>(
    arrays: &'a [(String, HostArray)],
    own: &[&str],
    names: &[&'a str],
) -> Result<Vec<(&'a str, &'a HostArray)>> {
    let given: Vec<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
    let places = counterparts(own, &given).ok_or_else(|| {
        let message = format!("{} inputs cannot be fed from {} arrays", own.len(), given.len());
        Error::new(ErrorKind::Calibration, message)
    })?;
    let fed = places.iter().zip(arrays);
    Ok(fed.filter_map(|(place, (_, array))| Some((*names.get(*place)?, array))).collect())
}

/// Labels as probabilities: 1 for the class, of `classes`, 0 for the others.
///
/// # Errors
/// [`ErrorKind::Calibration`] for a label that is not a class.
pub(super) fn one_hot(labels: &[i64], classes: usize) -> Result<HostArray> {
    let mut targets = ArrayD::<f32>::zeros(IxDyn(&[labels.len(), classes]));
    for (mut row, label) in targets.axis_iter_mut(Axis(0)).zip(labels) {
        let class = usize::try_from(*label).ok().filter(|c| *c < classes);
        let Some(class) = class else {
            return Err(Error::new(
                ErrorKind::Calibration,
                format!("label {label} is none of the model's {classes} classes"),
            ));
        };
        row[[class]] = 1.0;
    }
    Ok(targets.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn labels_become_probabilities_or_errors() {
        let targets = one_hot(&[2, 0], 3).unwrap();
        assert_eq!(targets, array![[0.0f32, 0.0, 1.0], [1.0, 0.0, 0.0]].into_dyn().into());
        assert_eq!(one_hot(&[3], 3).unwrap_err().kind(), ErrorKind::Calibration);
        assert!(one_hot(&[-1], 3).is_err());
    }
}

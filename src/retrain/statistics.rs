//! New statistics of `BatchNormalization`: sharing changes the activations, and so their means and
//! variances.

use ndarray::{Array1, Axis};

use crate::align::TaskId;
use crate::calib::stream::{Source, Stream};
use crate::error::{Context, Error, ErrorKind, Hint, Result};
use crate::ir::{DataType, Node, NodeId, Tensor, ValueId};
use crate::mtz::joint::JointModel;
use crate::progress::Progress;
use crate::runtime::HostArray;

/// Inputs of the operator that hold scale, shift, mean and variance.
const CONSTANTS: [usize; 4] = [1, 2, 3, 4];

/// Recomputes the mean and variance of every `BatchNormalization` of every task from its inputs in
/// the joint model, in order, so that later nodes see the new statistics of earlier ones. `sources`
/// are the tasks' samples. Returns the number of nodes.
///
/// # Errors
/// [`ErrorKind::Usage`] where the joint model has no such node; as the runtime.
pub(super) fn reset_statistics(
    joint: &mut JointModel,
    sources: Vec<Source<'_>>,
    progress: &dyn Progress,
) -> Result<usize> {
    let mut all = Vec::new();
    for task in 0..joint.tasks().len() {
        all.push(normalisations(joint, task)?);
    }
    if all.iter().all(Vec::is_empty) {
        return Err(without_statistics(false));
    }
    let runs = all.iter().zip(&sources).map(|(nodes, s)| (nodes.len() * s.batches()) as u64).sum();
    progress.begin("statistics of normalisations", runs);
    for (number, (source, nodes)) in sources.into_iter().zip(&all).enumerate() {
        reset_task(joint, number, nodes, source, progress)
            .in_model(joint.tasks()[number].name())?;
    }
    Ok(all.iter().map(Vec::len).sum())
}

/// Whether any task has a `BatchNormalization` whose statistics can be recomputed.
///
/// # Errors
/// Those of a graph that is no acyclic one.
pub(crate) fn has_statistics(joint: &JointModel) -> Result<bool> {
    let has = |task| Ok(!normalisations(joint, task)?.is_empty());
    (0..joint.tasks().len()).try_fold(false, |found, task| Ok(found || has(task)?))
}

/// The error of a joint model without statistics to recompute. `kept` says that the merge keeps those of the
/// models, which then have none.
pub(crate) fn without_statistics(kept: bool) -> Error {
    let none = |whose: &str| {
        let message = format!("{whose} no BatchNormalization with statistics to recompute");
        Error::new(ErrorKind::Usage, message)
    };
    match kept {
        true => none("the models themselves have").hint(
            Hint::from("export them without folding it into weights, or leave out ")
                .option("reset-bn"),
        ),
        false => none("the joint model has").hint(
            Hint::from("merge with ")
                .option_as("batchnorm", "per-task")
                .then(", which keeps that of the models where exporters have not folded it"),
        ),
    }
}

/// The nodes of a task with constant statistics, in topological order.
fn normalisations(joint: &JointModel, task: usize) -> Result<Vec<NodeId>> {
    let graph = joint.tasks()[task].graph();
    let is_constant = |v: ValueId| graph.initializer(v).is_some_and(|t| t.dtype == DataType::F32);
    let is_wanted = |node: &Node| {
        node.is("BatchNormalization")
            && CONSTANTS.iter().all(|i| node.input(*i).is_some_and(is_constant))
    };
    let order = graph.topological_order()?;
    Ok(order.into_iter().filter(|id| is_wanted(graph.node(*id))).collect())
}

fn reset_task(
    joint: &mut JointModel,
    task: usize,
    nodes: &[NodeId],
    source: Source<'_>,
    progress: &dyn Progress,
) -> Result<()> {
    let batches = source.batches();
    let model = joint.model_mut(TaskId(task));
    let mut stream = Stream::new(model, source)?;
    for id in nodes {
        let node = model.graph.node(*id);
        let (Some(input), Some(mean), Some(variance)) =
            (node.input(0), node.input(3), node.input(4))
        else {
            continue;
        };
        let mut step = stream.prepare(model, stream.position_of(*id), &[input])?;
        let mut sums = Sums::default();
        for batch in 0..batches {
            progress.check()?;
            for values in stream.run(model, &mut step, batch)? {
                sums.add(&values)?;
            }
            progress.step();
        }
        stream.finish(step);
        let (means, variances) = sums.finish();
        for (value, numbers) in [(mean, means), (variance, variances)] {
            let numbers = numbers.mapv(|v| v as f32).into_dyn();
            model.graph.set_initializer(value, Tensor::from_f32(&numbers));
        }
    }
    Ok(())
}

/// Sums per channel, which is axis 1.
#[derive(Default)]
struct Sums {
    count: f64,
    values: Array1<f64>,
    squares: Array1<f64>,
}

impl Sums {
    fn add(&mut self, values: &HostArray) -> Result<()> {
        let values = values.as_f32()?;
        let channels = values.shape().get(1).copied().unwrap_or(1);
        if self.values.is_empty() {
            (self.values, self.squares) = (Array1::zeros(channels), Array1::zeros(channels));
        }
        self.count += (values.len() / channels.max(1)) as f64;
        let sums = self.values.iter_mut().zip(&mut self.squares);
        for (own, (sum, square)) in values.axis_iter(Axis(1)).zip(sums) {
            *sum += own.iter().map(|v| f64::from(*v)).sum::<f64>();
            *square += own.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
        }
        Ok(())
    }

    /// Mean and variance per channel.
    fn finish(self) -> (Array1<f64>, Array1<f64>) {
        let mean = self.values / self.count.max(1.0);
        let variance = self.squares / self.count.max(1.0) - &mean * &mean;
        (mean, variance.mapv(|v| v.max(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::data::{DataOptions, Dataset};
    use crate::canon::BatchNorm;
    use crate::ir::Model;
    use crate::ir::builder::GraphBuilder;
    use crate::onnx;
    use crate::progress::Silent;
    use crate::runtime::{self, ModelSource, RuntimeOptions, feeds};
    use crate::zipper::{Input, Part, PrepareOptions, prepare_parts};
    use ndarray::array;

    /// A net with two normalisations; nets of different `skip` have different weights.
    fn net(skip: usize) -> Model {
        let mut b = GraphBuilder::new("net", 13);
        b.weights("unused", &[skip]);
        let mut h = b.input("x", "batch,2,6,6");
        for (name, out, inputs) in [("1", 5, 2), ("2", 4, 5)] {
            let weight = b.weights(&format!("w{name}"), &[out, inputs, 3, 3]);
            h = b.op("Conv", &format!("conv{name}"), &[h, weight], []);
            let scale = b.positive(&format!("scale{name}"), &[out]);
            let shift = b.weights(&format!("shift{name}"), &[out]);
            let mean = b.weights(&format!("mean{name}"), &[out]);
            let variance = b.positive(&format!("variance{name}"), &[out]);
            let inputs = [h, scale, shift, mean, variance];
            h = b.op("BatchNormalization", &format!("norm{name}"), &inputs, []);
            h = b.op("Relu", &format!("relu{name}"), &[h], []);
        }
        let h = b.op("Flatten", "flat", &[h], []);
        let weight = b.weights("w3", &[3, 16]);
        let y = b.op("Gemm", "y", &[h, weight], [("transB", 1.into())]);
        b.build(&[y])
    }

    fn joint(skips: [usize; 2], batchnorm: BatchNorm) -> JointModel {
        let input = |(name, skip): (&str, usize)| Input { name: name.to_owned(), model: net(skip) };
        let parts = ["a", "b"].into_iter().zip(skips).map(|n| Part::Net(Box::new(input(n))));
        let options = PrepareOptions { batchnorm, ..PrepareOptions::default() };
        prepare_parts(parts.collect(), options).unwrap().joint
    }

    #[test]
    fn normalised_activations_have_the_mean_and_variance_that_scale_and_shift_ask_for() {
        let backend = runtime::open(&RuntimeOptions::default()).unwrap();
        let load = |model: &Model| {
            backend.load(ModelSource::Bytes(&onnx::encode(model).unwrap())).unwrap()
        };
        let session = load(&net(1));
        let data = Dataset::synthetic(session.inputs(), 50, 1, &DataOptions::default()).unwrap();
        let source = Source { backend: backend.as_ref(), data: &data, batch: 16, memory: 1 << 20 };
        let reset = |joint: &mut JointModel| {
            reset_statistics(joint, vec![source.clone(), source.clone()], &Silent)
        };
        let mut apart = joint([1, 9], BatchNorm::PerTask);
        assert_eq!(reset(&mut apart).unwrap(), 4);
        for (task, name) in [0, 1].into_iter().flat_map(|t| [(t, "1"), (t, "2")]) {
            let mut model = apart.tasks()[task].model().clone();
            let value = |name: String| model.graph.value_named(&name).unwrap();
            let constant = |what: &str| {
                let tensor = model.graph.initializer(value(format!("{what}{name}"))).unwrap();
                tensor.to_f32().unwrap().mapv(f64::from)
            };
            let (scale, shift) = (constant("scale"), constant("shift"));
            model.graph.outputs = vec![value(format!("norm{name}"))];
            let normalised = load(&model).run(&feeds(&data.batch(0..50).unwrap())).unwrap();
            let mut sums = Sums::default();
            sums.add(&normalised[0]).unwrap();
            let (means, variances) = sums.finish();
            let off = |found: Array1<f64>, wanted: ndarray::ArrayD<f64>| {
                (found.into_dyn() - wanted)
                    .mapv(f64::abs)
                    .into_iter()
                    .max_by(f64::total_cmp)
                    .unwrap_or(0.0)
            };
            assert!(off(means, shift) < 1e-3 && off(variances, &scale * &scale) < 1e-2);
        }
        // Common statistics stay common if the nets see the same samples.
        let mut alike = joint([1, 1], BatchNorm::PerTask);
        reset(&mut alike).unwrap();
        let bytes = |task: usize| onnx::encode(alike.tasks()[task].model()).unwrap();
        assert!(bytes(0) == bytes(1));
        let mut folded = joint([1, 9], BatchNorm::Fold);
        assert!(has_statistics(&apart).unwrap() && !has_statistics(&folded).unwrap());
        let error = reset(&mut folded).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }

    #[test]
    fn means_and_variances_are_those_of_all_batches_and_positions() {
        let mut sums = Sums::default();
        sums.add(&array![[[1.0f32, 2.0], [5.0, 5.0]]].into_dyn().into()).unwrap();
        sums.add(&array![[[3.0f32, 6.0], [5.0, 5.0]]].into_dyn().into()).unwrap();
        assert_eq!(sums.finish(), (array![3.0, 5.0], array![3.5, 0.0]));
    }
}

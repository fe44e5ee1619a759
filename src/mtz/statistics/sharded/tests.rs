//! Compares shards with the whole.

use std::sync::Arc;

use super::*;
use crate::align::{TaskId, TaskLayer};
use crate::calib::data::{DataOptions, Dataset};
use crate::calib::kept::Statistics;
use crate::calib::taps::RowLimit;
use crate::couple::LayerId;
use crate::mtz::joint::Task;
use crate::mtz::statistics::source::{StatisticsSource, View, Wanted};
use crate::mtz::statistics::streamed::Streamed;
use crate::onnx;
use crate::progress::Silent;
use crate::runtime::{self, Backend, ModelSource, RuntimeChoice, RuntimeOptions};
use crate::zipper::fixtures;

fn backend() -> Arc<dyn Backend> {
    let choice = RuntimeOptions { choice: RuntimeChoice::Tract, ..RuntimeOptions::default() };
    runtime::open(&choice).unwrap()
}

/// Statistics of every layer of two nets from the streamed source, and from `count` shards.
fn both(count: usize, rows: usize, kept: usize) -> Vec<(Statistics, Statistics)> {
    let joint = fixtures(&["lenet5_mnist_a", "lenet5_mnist_b"]).joint;
    let backend = backend();
    let bytes = onnx::encode(joint.tasks()[0].model()).unwrap();
    let session = backend.load(ModelSource::Bytes(&bytes)).unwrap();
    let data = Dataset::synthetic(session.inputs(), 50, 3, &DataOptions::default()).unwrap();
    let nets: Vec<&Model> = joint.tasks().iter().map(Task::model).collect();
    let source = Source { backend: backend.as_ref(), data: &data, batch: 8, memory: 1 << 24 };
    let sources = [source.clone(), source];
    let sharding = Sharding::new(count, InProcess::new(backend.clone()));
    let mut sharded = sharding.source(&nets, &sources, &Silent).unwrap();
    let mut whole = Streamed::new(nets.into_iter().cloned().zip(sources)).unwrap();
    let mut found = Vec::new();
    for (task, layer) in [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)] {
        let own = TaskLayer { task: TaskId(task), layer: LayerId(layer) };
        let wanted = Wanted {
            own,
            layer: joint.layer(own),
            current: joint.task(own.task).model(),
            view: if layer == 0 { View::Original } else { View::WithTargets },
            limit: RowLimit { rows, kept, seed: 7, part: None },
            room: Some(1 << 22),
        };
        let a = whole.of_layer(&wanted, &Silent).unwrap();
        found.push((a, sharded.of_layer(&wanted, &Silent).unwrap()));
    }
    found
}

#[test]
fn shards_add_up_to_the_whole() {
    for (whole, sharded) in both(3, 1 << 10, 0) {
        let (Statistics::Moments(a), Statistics::Moments(b)) = (whole, sharded) else {
            panic!("not moments")
        };
        assert_eq!(a.count(), b.count());
        let ((x, targets), (y, others)) = (a.into_sums(), b.into_sums());
        let largest = x.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() <= 1e-6 * largest));
        assert_eq!(targets.is_some(), others.is_some());
    }
}

#[test]
fn rows_of_shards_are_those_of_the_whole_in_their_order() {
    // With fewer rows than samples, a shard may give none.
    for (whole, sharded) in both(5, 6, 1 << 10) {
        let (Statistics::Rows(a), Statistics::Rows(b)) = (whole, sharded) else {
            panic!("not rows")
        };
        let ((x, _), (y, _)) = (a.parts(), b.parts());
        assert_eq!(x.nrows(), 6);
        assert!(x.iter().zip(y).all(|(x, y)| (x - y).abs() <= 1e-5 * x.abs().max(1.0)));
    }
}

#[test]
fn more_shards_than_samples_are_refused() {
    let joint = fixtures(&["lenet5_mnist_a", "lenet5_mnist_b"]).joint;
    let backend = backend();
    let net = joint.tasks()[0].model();
    let bytes = onnx::encode(net).unwrap();
    let session = backend.load(ModelSource::Bytes(&bytes)).unwrap();
    let data = Dataset::synthetic(session.inputs(), 3, 3, &DataOptions::default()).unwrap();
    let source = Source { backend: backend.as_ref(), data: &data, batch: 8, memory: 1 << 24 };
    for count in [0, 4] {
        let sharding = Sharding::new(count, InProcess::new(backend.clone()));
        let error = sharding.source(&[net], std::slice::from_ref(&source), &Silent);
        assert_eq!(error.err().unwrap().kind(), ErrorKind::Usage);
    }
}

/// Keeps all messages.
#[derive(Default, Clone)]
struct Kept(Arc<Mutex<Messages>>);

#[derive(Default)]
struct Messages {
    nets: Vec<u8>,
    samples: Vec<u8>,
    requests: Vec<Vec<u8>>,
    replies: Vec<Vec<u8>>,
}

impl Shards for Kept {
    fn start(&mut self, job: &Job<'_>, _: &dyn Progress) -> Result<()> {
        let mut kept = self.0.lock().unwrap();
        (kept.nets, kept.samples) = (job.nets().to_vec(), job.shard(0)?);
        Ok(())
    }

    fn ask(
        &mut self,
        request: Vec<u8>,
        _: bool,
        take: &mut Take<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut kept = self.0.lock().unwrap();
        // A new worker for each request must give the same replies.
        let mut worker = ShardWorker::new(&kept.nets, &kept.samples, backend())?;
        for request in &kept.requests {
            worker.replay(request, progress)?;
        }
        kept.requests.push(request.clone());
        let reply = worker.answer(&request, progress)?;
        kept.replies.push(reply.clone());
        take(reply)
    }
}

#[test]
fn a_worker_that_takes_over_replies_with_the_same_bytes() {
    let joint = fixtures(&["lenet5_mnist_a", "lenet5_mnist_b"]).joint;
    let backend = backend();
    let net = joint.tasks()[0].model();
    let bytes = onnx::encode(net).unwrap();
    let session = backend.load(ModelSource::Bytes(&bytes)).unwrap();
    let data = Dataset::synthetic(session.inputs(), 30, 3, &DataOptions::default()).unwrap();
    let source = Source { backend: backend.as_ref(), data: &data, batch: 8, memory: 1 << 24 };
    let kept = Kept::default();
    let sharding = Sharding::new(1, kept.clone());
    let mut sharded = sharding.source(&[net], std::slice::from_ref(&source), &Silent).unwrap();
    let mut changed = fixtures(&["lenet5_mnist_a", "lenet5_mnist_b"]).joint;
    for layer in 0..3 {
        let own = TaskLayer { task: TaskId(0), layer: LayerId(layer) };
        let wanted = Wanted {
            own,
            layer: joint.layer(own),
            current: changed.task(own.task).model(),
            view: if layer == 0 { View::Original } else { View::WithTargets },
            limit: RowLimit { rows: 1 << 10, kept: 0, seed: 7, part: None },
            room: Some(1 << 22),
        };
        sharded.of_layer(&wanted, &Silent).unwrap();
        let weights = changed.weights(own).unwrap() * 0.5;
        changed.write(own, weights.view()).unwrap();
    }
    let kept = kept.0.lock().unwrap();
    let mut worker = ShardWorker::new(&kept.nets, &kept.samples, backend).unwrap();
    for (request, reply) in kept.requests.iter().zip(&kept.replies) {
        assert!(worker.answer(request, &Silent).unwrap() == *reply);
    }
    // A worker refuses a repeated request, and one from the middle of a walk.
    assert!(worker.answer(&kept.requests[2], &Silent).is_err());
}

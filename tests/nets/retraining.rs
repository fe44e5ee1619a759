//! Test errors of merged nets after light retraining, with all hidden layers fully shared, 10 000
//! unlabelled training images, and all 10 000 test images of each task. The bounds are those of
//! `docs/retraining.md`.

use onnx_zip::mtz::options::MergeOptions;
use onnx_zip::progress::Silent;
use onnx_zip::retrain::{Lesson, RetrainOptions, retrain};

use crate::support::{backend, error, images, merge, model};

/// Mean increase of the test error over both tasks, in percentage points, after the merge and after
/// retraining towards the original nets.
fn increases(nets: [(&str, &str); 2], samples: usize, iterations: usize) -> (f64, f64) {
    let loaded = nets.map(|(net, task)| {
        let net = model(net);
        let data = images(&net, &format!("{task}_train"), samples);
        (net, data)
    });
    let mean_error = |models: [&onnx_zip::ir::Model; 2]| {
        let errors = models
            .into_iter()
            .zip(nets)
            .map(|(net, (_, task))| error(net, &images(net, &format!("{task}_test"), 10_000)));
        errors.sum::<f64>() / 2.0
    };
    let before = mean_error([&loaded[0].0, &loaded[1].0]);
    let (teachers, data): (Vec<_>, Vec<_>) = loaded.iter().cloned().unzip();
    let (mut joint, _) = merge(loaded, &MergeOptions::default());
    let merged = mean_error([joint.tasks()[0].model(), joint.tasks()[1].model()]);
    let backend = backend();
    let lesson = Lesson {
        data: &data,
        teachers: &teachers,
        backend: backend.as_ref(),
        checkpoint: None,
        resume: false,
    };
    let options = RetrainOptions { iterations, ..RetrainOptions::default() };
    let outcome = retrain(&mut joint, &lesson, &options, &Silent).unwrap();
    let after = mean_error([joint.tasks()[0].model(), joint.tasks()[1].model()]);
    println!("{nets:?}: {before:.3}, merged {merged:.3}, {after:.3} at {}", outcome.best);
    (merged - before, after - before)
}

#[test]
fn fully_connected_nets_of_one_task_come_back() {
    let nets = [("lenet300_mnist_a", "mnist"), ("lenet300_mnist_b", "mnist")];
    let (_, after) = increases(nets, 10_000, 550);
    assert!(after <= 0.1, "{after}");
}

#[test]
fn fully_connected_nets_of_two_tasks_win_back_a_third() {
    let nets = [("lenet300_mnist_a", "mnist"), ("lenet300_fashion", "fashion")];
    let (merged, after) = increases(nets, 10_000, 1000);
    assert!(after <= 0.55 && after < 0.67 * merged, "{merged} -> {after}");
}

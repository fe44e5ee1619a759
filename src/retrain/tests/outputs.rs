//! Outputs that cannot be learnt, and training without samples for validation.

use super::*;

/// [`net`] that returns the indices of classes before their probabilities.
fn with_classes(skip: usize) -> Model {
    let mut model = net(skip);
    let scores = model.graph.outputs[0];
    let class = model.graph.add_op("ArgMax", "class", &[scores], [("axis", 1.into())]);
    model.graph.outputs.insert(0, class);
    model
}

#[test]
fn outputs_of_integers_are_left_out() {
    let nets = [1, 50].map(with_classes);
    let (backend, data) = (backend(), [samples(&net(1), 3)]);
    let options = RetrainOptions { iterations: 2, ..options() };
    let joint = prepared(&nets).joint;
    let (after, outcome) = trained(&joint, &lesson(&data, &nets, backend.as_ref()), &options);
    assert!(outcome.tasks.iter().all(|task| task.after.loss.is_finite()));
    assert!(after.tasks().iter().all(|task| task.graph().outputs.len() == 2));
}

#[test]
fn a_net_without_outputs_of_floats_is_refused() {
    let nets = [1, 50].map(|skip| {
        let mut model = with_classes(skip);
        model.graph.outputs.truncate(1);
        model
    });
    let (backend, data) = (backend(), [samples(&net(1), 3)]);
    let lesson = lesson(&data, &nets, backend.as_ref());
    let mut joint = prepared(&nets).joint;
    let error = retrain(&mut joint, &lesson, &options(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn without_samples_for_validation_there_is_no_loss() {
    let (joint, nets, data) = merged(1.0);
    let (backend, data) = (backend(), [data]);
    let options = RetrainOptions { iterations: 2, validation: 0.0, ..options() };
    let (_, outcome) = trained(&joint, &lesson(&data, &nets, backend.as_ref()), &options);
    assert_eq!(outcome.best, 2);
    assert!(outcome.tasks.iter().all(|t| t.before.loss.is_nan() && t.after.loss.is_nan()));
}

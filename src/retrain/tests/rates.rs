//! Learning rates.

use super::*;

#[test]
fn steps_are_in_parts_of_a_tensors_size() {
    let (joint, nets, data) = merged(1.0);
    let (backend, data) = (backend(), [data]);
    // Adam's first step has the length of the rate in every element.
    let rate = Rate::Relative(0.02);
    let once = RetrainOptions { iterations: 1, validation: 0.0, rate, ..options() };
    let (after, _) = trained(&joint, &lesson(&data, &nets, backend.as_ref()), &once);
    let values = |joint: &JointModel| -> Vec<ndarray::ArrayD<f32>> {
        let net = trainable(joint, InputMode::Auto).unwrap();
        let value = |parameter: &crate::emit::Parameter| {
            net.model.graph.initializer(parameter.value).unwrap().to_f32().unwrap()
        };
        net.parameters.iter().map(value).collect()
    };
    let before = values(&joint);
    assert!(before.len() > 2);
    for (before, after) in before.iter().zip(&values(&after)) {
        let size = (before.iter().map(|w| w * w).sum::<f32>() / before.len() as f32).sqrt();
        let step = (after - before).iter().fold(0.0, |most: f32, d| most.max(d.abs()));
        let wanted = 0.02 * size.max(0.01);
        assert!((step - wanted).abs() < 0.01 * wanted, "{step} in place of {wanted}");
    }
}

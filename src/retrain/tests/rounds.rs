//! Rounds of retraining between merged layers.

use super::*;

#[test]
fn rounds_hold_out_the_same_samples_and_take_the_others_in_other_orders() {
    let (joint, nets, data) = merged(0.5);
    let (backend, data) = (backend(), [data]);
    let lesson = lesson(&data, &nets, backend.as_ref());
    let (first, one) = trained(&joint, &lesson, &options());
    let (second, other) = trained(&joint, &lesson, &RetrainOptions { round: 1, ..options() });
    // Before the first step, the loss depends on the samples alone.
    assert_eq!(one.history[0].validation, other.history[0].validation);
    assert!(bytes(&first) != bytes(&second));
}

#[test]
fn rounds_name_the_layers_merged_last() {
    let (_, retrained, ..) = merged_by(Method::Mtz, 0.5, Some(1e-3));
    let retrained = retrained.unwrap();
    let layers: Vec<&[String]> = retrained.rounds.iter().map(|r| r.layers.as_slice()).collect();
    assert_eq!(layers, [["conv", "conv"], ["fc", "fc"]]);
    // There are no samples with labels.
    assert!(retrained.originals.is_empty() && retrained.rounds.iter().all(|r| r.errors.is_empty()));
}

//! For any input, the program gives a result or an error, within bounds of time and memory.
//!
//! Models are changed as by exporters, by hand or by malice; other files byte by byte. Seeds are the
//! fixtures. Every file of `fixtures/hostile` is replayed unchanged. `cargo test` tries a few hundred
//! changes, the same every time. With `ONNX_ZIP_FUZZ_MINUTES`, every target tries other changes for
//! that long (`make fuzz MINUTES=10`). `ONNX_ZIP_FUZZ_SEED` sets the first seed, to repeat a run. A
//! failing case is shrunk and printed, and its file stays in `target/tmp/fuzz`.

mod changes;
mod checkpoints;
mod files;
mod models;
mod watch;

use onnx_zip::ir::Model;
use onnx_zip::onnx;
use onnx_zip::runtime::{self, RuntimeChoice, RuntimeOptions};
use proptest::prelude::*;

use self::changes::{Change, change, changed};
use self::watch::{fuzz, within_bounds};

#[test]
fn files_of_the_corpus_are_answered() {
    for (name, bytes) in models::corpus() {
        within_bounds(&name, &bytes, || {
            let Ok(model) = onnx::decode(bytes.clone().into(), None, &name) else { return };
            models::plan(model.clone(), &models::seed(0));
            models::plan(model.clone(), &model);
            models::merge(model.clone(), &model, RuntimeChoice::Tract);
            models::restore(&model);
        });
    }
}

#[test]
fn changed_bytes_are_answered() {
    let edits = || proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    fuzz("bytes", (any::<prop::sample::Index>(), edits()), |(seed, edits)| {
        let mut bytes = onnx::encode(&models::any_seed(seed)).expect("seeds can be written");
        for (place, value) in edits {
            let place = place.index(bytes.len());
            bytes[place] = *value;
        }
        within_bounds("bytes", &bytes.clone(), move || {
            let Ok(model) = onnx::decode(bytes.into(), None, "m") else { return };
            models::plan(model.clone(), &model);
        });
    });
}

#[test]
fn changed_models_are_planned() {
    fuzz("plan", cases(), |(seed, changes)| {
        let original = models::any_seed(seed);
        let Some((bytes, model)) = written(&original, changes) else { return };
        within_bounds("plan", &bytes, || models::plan(model, &original));
    });
}

#[test]
fn changed_models_are_merged() {
    fuzz("merge", cases(), |(seed, changes)| merge("merge", RuntimeChoice::Tract, seed, changes));
}

#[test]
fn changed_models_are_merged_in_onnx_runtime() {
    let ort = RuntimeOptions { choice: RuntimeChoice::Ort, ..RuntimeOptions::default() };
    runtime::open(&ort).expect("ONNX Runtime is found: run `make setup`");
    fuzz("merge-ort", cases(), |(seed, changes)| {
        merge("merge-ort", RuntimeChoice::Ort, seed, changes);
    });
}

fn merge(target: &str, choice: RuntimeChoice, seed: &prop::sample::Index, changes: &[Change]) {
    let original = models::any_seed(seed);
    let Some((bytes, model)) = written(&original, changes) else { return };
    within_bounds(target, &bytes, || models::merge(model, &original, choice));
}

#[test]
fn changed_joint_models_are_taken_apart() {
    let edits = || proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    fuzz("recipe", (edits(), changes_of_models()), |(edits, changes)| {
        let mut model = changed(&models::joint(), changes);
        models::edit_recipe(&mut model, edits);
        let Ok(bytes) = onnx::encode(&model) else { return };
        within_bounds("recipe", &bytes, || models::restore(&model));
    });
}

#[test]
fn changed_statistics_and_samples_are_read() {
    let edits = || proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    let cut = any::<prop::sample::Index>();
    fuzz("files", (0..files::KINDS, edits(), cut), |(kind, edits, cut)| {
        let mut bytes = files::seed(*kind);
        for (place, value) in edits {
            let place = place.index(bytes.len());
            bytes[place] = *value;
        }
        // Every other file is cut off.
        let cut = cut.index(2 * bytes.len());
        bytes.truncate(cut.max(1));
        within_bounds("files", &bytes.clone(), || files::read(*kind, &bytes));
    });
}

#[test]
fn training_resumes_from_changed_checkpoints() {
    checkpoints::resume(checkpoints::seed());
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    // The header describes the rest of the file, so half of the edits change the header.
    fuzz("checkpoint", (edits, any::<bool>()), |(edits, is_header)| {
        let mut bytes = checkpoints::seed().to_vec();
        let reach = if *is_header { bytes.len().min(1024) } else { bytes.len() };
        for (place, value) in edits {
            let place = place.index(reach);
            let digit = bytes[place].is_ascii_digit();
            bytes[place] = if digit { b'0' + value % 10 } else { *value };
        }
        within_bounds("checkpoint", &bytes, || checkpoints::resume(&bytes));
    });
}

/// A seed, and its changes.
fn cases() -> impl Strategy<Value = (prop::sample::Index, Vec<Change>)> {
    (any::<prop::sample::Index>(), changes_of_models())
}

fn changes_of_models() -> impl Strategy<Value = Vec<Change>> {
    proptest::collection::vec(change(), 1..6)
}

/// The changed model as a file, and as read back; `None` if it cannot be written or read.
fn written(original: &Model, changes: &[Change]) -> Option<(Vec<u8>, Model)> {
    let bytes = onnx::encode(&changed(original, changes)).ok()?;
    let model = onnx::decode(bytes.clone().into(), None, "changed").ok()?;
    Some((bytes, model))
}

//! Canonical form changes how a model is written, never what it computes: every fixture and every
//! hand-made graph runs the same before and after, in every backend that can be had.

#[path = "canon/cases.rs"]
mod cases;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use onnx_zip::canon::{BatchNorm, CanonOptions, canonicalise};
use onnx_zip::ir::{Dim, Graph, Model};
use onnx_zip::onnx;
use onnx_zip::runtime::{
    self, Backend, Device, HostArray, ModelSource, RuntimeChoice, RuntimeOptions,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const TOLERANCE: f32 = 1e-5;

/// tract, and ONNX Runtime where its library is found.
fn backends() -> Vec<Arc<dyn Backend>> {
    [RuntimeChoice::Tract, RuntimeChoice::Ort]
        .into_iter()
        .filter_map(|choice| {
            runtime::open(&RuntimeOptions { choice, device: Device::Cpu, ..Default::default() })
                .ok()
        })
        .collect()
}

/// Seeded inputs; extents that the model leaves open are `batch`.
fn inputs(graph: &Graph, batch: usize) -> Vec<(String, HostArray)> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    graph
        .inputs
        .iter()
        .map(|id| {
            let value = graph.value(*id);
            let shape = value.ty.as_ref().and_then(|t| t.shape.as_ref()).unwrap();
            let dims: Vec<usize> =
                shape.iter().map(|d| if let Dim::Known(n) = d { *n } else { batch }).collect();
            let array =
                ArrayD::from_shape_simple_fn(IxDyn(&dims), || rng.random_range(-1.0f32..1.0));
            (value.name.clone(), array.into())
        })
        .collect()
}

fn run(backend: &dyn Backend, model: &Model, batch: usize) -> Result<Vec<ArrayD<f32>>, String> {
    let bytes = onnx::encode(model).map_err(|e| e.to_string())?;
    let mut session =
        backend.load(ModelSource::Bytes(&bytes)).map_err(|e| format!("{}: {e}", backend.name()))?;
    let inputs = inputs(&model.graph, batch);
    let outputs = session.run(&runtime::feeds(&inputs)).map_err(|e| e.to_string())?;
    let float = |output| match output {
        HostArray::F32(array) => array,
        other => panic!("an output is {:?}", other.dtype()),
    };
    Ok(outputs.into_iter().map(float).collect())
}

/// Runs both models and compares; a backend that cannot run the original is passed over.
fn assert_same(name: &str, original: &Model, canonical: &Model, batch: usize) {
    let mut compared = 0;
    for backend in backends() {
        let Ok(before) = run(backend.as_ref(), original, batch) else { continue };
        let after = run(backend.as_ref(), canonical, batch).unwrap();
        assert_eq!(before.len(), after.len(), "{name}");
        for (a, b) in before.iter().zip(&after) {
            assert_eq!(a.shape(), b.shape(), "{name} in {}", backend.name());
            let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs() / a.abs().max(1.0));
            let worst = worst.fold(0.0, f32::max);
            assert!(worst <= TOLERANCE, "{name} in {}: deviates by {worst}", backend.name());
        }
        compared += 1;
    }
    assert!(compared > 0, "{name}: no backend runs the original");
}

fn operators(graph: &Graph) -> Vec<String> {
    let order = graph.topological_order().unwrap();
    order.into_iter().map(|id| graph.node(id).op.clone()).collect()
}

#[test]
fn hand_made_graphs_compute_the_same_in_the_form_expected() {
    for case in cases::all() {
        let original = case.model.clone();
        let canonical = canonicalise(case.model, &CanonOptions::default()).unwrap();
        assert_eq!(operators(&canonical.graph), case.operators, "{}", case.name);
        for batch in [1, 3] {
            assert_same(case.name, &original, &canonical, batch);
        }
    }
}

#[test]
fn hand_made_graphs_compute_the_same_in_newer_operator_sets() {
    for case in cases::all() {
        for opset in [15, 18, 21] {
            let options = CanonOptions { target_opset: Some(opset), ..CanonOptions::default() };
            let canonical = canonicalise(case.model.clone(), &options).unwrap();
            assert_eq!(canonical.opset(), opset);
            assert_same(&format!("{} at {opset}", case.name), &case.model, &canonical, 2);
        }
    }
}

#[test]
fn canonical_form_is_reached_in_one_go() {
    for case in cases::all() {
        let once = canonicalise(case.model, &CanonOptions::default()).unwrap().into_inner();
        let again = canonicalise(once.clone(), &CanonOptions::default()).unwrap();
        assert_eq!(
            onnx::encode(&again).unwrap(),
            onnx::encode(&once).unwrap(),
            "{} changes again",
            case.name
        );
    }
}

#[test]
fn fixtures_compute_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models");
    let paths = models_below(&folder);
    assert!(!paths.is_empty());
    for path in paths {
        let original = onnx::load(&path).unwrap();
        for batchnorm in [BatchNorm::Fold, BatchNorm::PerTask] {
            let options = CanonOptions { batchnorm, ..CanonOptions::default() };
            let canonical = canonicalise(original.clone(), &options).unwrap();
            let left = operators(&canonical.graph).contains(&"BatchNormalization".to_owned());
            let had = operators(&original.graph).contains(&"BatchNormalization".to_owned());
            assert_eq!(left, had && batchnorm == BatchNorm::PerTask, "{}", path.display());
            assert_same(&path.display().to_string(), &original, &canonical, 2);
        }
    }
}

fn models_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(models_below(&path));
        } else if path.extension().is_some_and(|e| e == "onnx") {
            found.push(path);
        }
    }
    found.sort();
    found
}

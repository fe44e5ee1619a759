//! Canonical form never changes what a model computes: every fixture and every hand-made graph gives the
//! same outputs before and after, in every available backend.

#[path = "canon/cases.rs"]
mod cases;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use onnx_zip::canon::{BatchNorm, CanonOptions, canonicalise};
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{DataType, Dim, Graph, Model, TensorType, ValueId};
use onnx_zip::onnx;
use onnx_zip::runtime::{
    self, Backend, Device, HostArray, ModelSource, RuntimeChoice, RuntimeOptions,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const TOLERANCE: f32 = 1e-5;

/// tract, and ONNX Runtime if its library is found.
fn backends() -> Vec<Arc<dyn Backend>> {
    [RuntimeChoice::Ort, RuntimeChoice::Tract]
        .into_iter()
        .filter_map(|choice| {
            runtime::open(&RuntimeOptions { choice, device: Device::Cpu, ..Default::default() })
                .ok()
        })
        .collect()
}

/// Seeded inputs. An open first extent is `batch`; other open extents are 32.
fn inputs(graph: &Graph, batch: usize) -> Vec<(String, HostArray)> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let ty = |id: &ValueId| graph.value(*id).ty.clone().unwrap();
    let first = graph.inputs.first().and_then(|id| ty(id).shape?.first().cloned());
    let size = |dim: &Dim| match dim {
        Dim::Known(n) => *n,
        Dim::Symbol(_) if Some(dim) != first.as_ref() => 32,
        _ => batch,
    };
    let array = |id: &ValueId| {
        let TensorType { dtype, shape } = ty(id);
        let dims = IxDyn(&shape.unwrap().iter().map(size).collect::<Vec<usize>>());
        let array = match dtype {
            DataType::I64 => {
                ArrayD::from_shape_simple_fn(dims, || rng.random_range(0i64..2)).into()
            }
            _ => ArrayD::from_shape_simple_fn(dims, || rng.random_range(-1.0f32..1.0)).into(),
        };
        (graph.value(*id).name.clone(), array)
    };
    graph.inputs.iter().map(array).collect()
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

/// Runs the original in the first backend that supports it, and the canonical form in all backends. The
/// original is not run in all, because backends interpret old operator sets differently.
fn assert_same(name: &str, original: &Model, canonical: &Model, batch: usize) {
    let backends = backends();
    let before = backends.iter().find_map(|b| run(b.as_ref(), original, batch).ok());
    let Some(before) = before else { panic!("{name}: no backend runs the original") };
    let mut compared = 0;
    for backend in backends {
        let Ok(after) = run(backend.as_ref(), canonical, batch) else { continue };
        compared += 1;
        assert_eq!(before.len(), after.len(), "{name}");
        for (a, b) in before.iter().zip(&after) {
            assert_eq!(a.shape(), b.shape(), "{name} in {}", backend.name());
            let off = |(a, b): (&f32, &f32)| ((a - b) / a.abs().max(1.0)).abs();
            let apart = a.iter().zip(b).filter(|(a, b)| a != b).map(off);
            // NaN is the largest in total order.
            let worst = apart.max_by(f32::total_cmp).unwrap_or(0.0);
            assert!(worst <= TOLERANCE, "{name} in {}: deviates by {worst}", backend.name());
        }
    }
    assert!(compared > 0, "{name}: no backend runs the canonical form");
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
fn layers_on_integers_compute_the_same_on_floats() {
    for (name, model) in cases::quantised::all().into_iter().chain(cases::contrib::all()) {
        let canonical = canonicalise(model.clone(), &CanonOptions::default()).unwrap();
        let left = operators(&canonical.graph);
        let floats = ["Conv", "Gemm", "MatMul"];
        assert!(left.iter().any(|op| floats.contains(&op.as_str())), "{name}: {left:?}");
        assert!(!left.iter().any(|op| op == name), "{name}: {left:?}");
        let mut constants = canonical.graph.values();
        let keeps_codes = constants.any(|(id, _)| canonical.graph.codes(id).is_some());
        assert!(keeps_codes, "{name}: the weights are integers no more");
        assert_same(name, &model, &canonical, 3);
    }
}

#[test]
fn recurrent_layers_that_leave_out_steps_compute_the_same() {
    for (name, model, left) in cases::masked::all() {
        let canonical = canonicalise(model.clone(), &CanonOptions::default()).unwrap();
        let operators = operators(&canonical.graph);
        assert!(operators.iter().any(|op| op == left), "{name}: {operators:?}");
        assert!(!operators.iter().any(|op| op == "Loop"), "{name}: {operators:?}");
        let mut nodes = canonical.graph.nodes();
        assert!(nodes.all(|(_, node)| node.str("direction") != Some("reverse")), "{name}");
        for batch in [1, 3, 7] {
            assert_same(name, &model, &canonical, batch);
        }
    }
}

#[test]
fn attention_computes_the_same_with_every_mask() {
    for (name, model) in cases::masks::all() {
        let canonical = canonicalise(model.clone(), &CanonOptions::default()).unwrap();
        let left = operators(&canonical.graph);
        let is_whole = |op: &String| op.ends_with("Attention") || op.starts_with("Embed");
        assert!(!left.iter().any(is_whole), "{name}: {left:?}");
        for batch in [1, 3] {
            assert_same(name, &model, &canonical, batch);
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

/// Where ONNX Runtime makes a `Gemm` of a product and a sum, it makes shapes, too. It refused nets with shapes of
/// its making.
#[test]
fn nets_that_the_runtime_has_optimised_load_again() {
    for name in ["gemm_input_shape", "gemm_output_shape", "gemm_input_shape_token_0"] {
        let mut b = GraphBuilder::new(name, 17);
        let mut y = b.input("x", "2,4,8");
        for layer in ["first", "second"] {
            let weights = b.weights(&format!("{layer}.weight"), &[8, 8]);
            let bias = b.weights(&format!("{layer}.bias"), &[8]);
            y = b.op("MatMul", layer, &[y, weights], []);
            y = b.op("Add", &format!("{layer}.sum"), &[y, bias], []);
            y = b.op("Relu", &format!("{layer}.relu"), &[y], []);
        }
        let shape = b.ints(name, &[4, 16]);
        let y = b.op("Reshape", "y", &[y, shape], []);
        let canonical = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        assert!(operators(&canonical.graph).contains(&"Reshape".to_owned()));
        for backend in backends() {
            run(backend.as_ref(), &canonical, 2).unwrap();
        }
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

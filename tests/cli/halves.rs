//! Models in half precision, and with weights in few bits.

use std::fs;

use onnx_zip::ir::{DataType, Model, Tensor, TensorType, ValueKind};
use onnx_zip::onnx;
use onnx_zip::report::{ModelReport, Plan, Report};

use crate::tool::{Tool, fashion, fashion_images, images, mnist, stderr};

/// The model with all its floats in half precision, as converters write it.
fn halved(path: &str) -> Model {
    let mut model = onnx::load(path.as_ref()).unwrap();
    let graph = &mut model.graph;
    let values: Vec<_> = graph.values().map(|(id, _)| id).collect();
    for id in values {
        if let ValueKind::Initializer(tensor) = &graph.value(id).kind
            && tensor.dtype == DataType::F32
        {
            let half = Tensor::from_f64(DataType::F16, &tensor.to_f64().unwrap()).unwrap();
            graph.set_initializer(id, half);
        }
        if let Some(ty) = graph.value(id).ty.clone().filter(|ty| ty.dtype == DataType::F32) {
            graph.set_type(id, Some(TensorType { dtype: DataType::F16, ..ty }));
        }
    }
    model
}

#[test]
fn models_of_halves_are_measured_and_merged_like_those_of_floats() {
    let tool = Tool::new();
    let errors = |a: &str, b: &str| -> Vec<f64> {
        let (digits, clothes) = (images(), fashion_images());
        let data = ["--data", &digits, "--data", &clothes, "--scale", "1/255"];
        let few = ["--share", "1", "--samples", "300", "--no-verify", "--no-compare", "--json"];
        let args = [&["merge", a, b, "-o", "joint.onnx"], &data[..], &few].concat();
        let report: Report = serde_json::from_slice(&tool.run(0, &args).stdout).unwrap();
        assert!(report.tasks.iter().all(|t| t.without_sensitivity.is_none()), "{:?}", report.tasks);
        report.layers.iter().flat_map(|layer| layer.relative_errors.clone()).collect()
    };
    let singles = errors(&mnist(), &fashion());
    for (name, path) in [("a.onnx", mnist()), ("b.onnx", fashion())] {
        tool.write(name, &onnx::encode(&halved(&path)).unwrap());
    }
    let halves = errors("a.onnx", "b.onnx");
    assert_eq!(singles.len(), halves.len());
    for (single, half) in singles.iter().zip(&halves) {
        assert!((single - half).abs() < 0.1 * single.max(0.01), "{singles:?} and {halves:?}");
    }
}

#[test]
fn that_halves_do_not_train_is_said_before_the_work_begins() {
    let tool = Tool::new();
    for (name, path) in [("a.onnx", mnist()), ("b.onnx", fashion())] {
        tool.write(name, &onnx::encode(&halved(&path)).unwrap());
    }
    let images = images();
    let data = ["--data", &images, "--scale", "1/255"];
    let few = ["--samples", "50", "--no-verify", "--no-compare", "-o", "joint.onnx"];
    let merge = [&["merge", "a.onnx", "b.onnx"], &data[..], &few].concat();
    for when in ["end", "per-layer"] {
        let error = stderr(&tool.run(2, &[&merge[..], &["--retrain", when]].concat()));
        let sentence = "the models' weights are F16, and only F32 is trained; convert the models \
                        to F32, or merge without --retrain";
        assert!(error.contains(sentence) && !error.contains("zipping"), "{error}");
    }
    tool.run(0, &merge);
    let retrain = ["retrain", "joint.onnx", "-o", "joint2.onnx", "--teacher", "a.onnx"];
    let retrain = [&retrain[..], &["--teacher", "b.onnx"], &data].concat();
    let error = stderr(&tool.run(2, &retrain));
    let sentence = "only F32 is trained; convert the original models to F32, and merge those";
    assert!(error.contains(sentence), "{error}");
}

/// The model with its matrices in eight bits behind `DequantizeLinear`.
fn in_few_bits(path: &str) -> Model {
    let mut model = onnx::load(path.as_ref()).unwrap();
    let graph = &mut model.graph;
    let matrices = graph.values().filter_map(|(id, _)| {
        let tensor = graph.initializer(id).filter(|tensor| tensor.dims.len() == 2)?;
        Some((id, tensor.to_f32().unwrap()))
    });
    for (id, weights) in matrices.collect::<Vec<_>>() {
        let step = weights.iter().fold(0.0f32, |most, w| most.max(w.abs())) / 127.0;
        let codes = weights.mapv(|w| (w / step).round() as i64);
        let codes =
            graph.add_initializer("codes", Tensor::from_ints(DataType::I8, &codes).unwrap());
        let step = Tensor::from_f32(&ndarray::arr0(step).into_dyn());
        let step = graph.add_initializer("step", step);
        let floats = graph.add_op("DequantizeLinear", "floats", &[codes, step], []);
        graph.replace_uses(id, floats);
    }
    model
}

/// Weights that a merge changes are rounded again.
#[test]
fn a_plan_tells_the_bytes_of_models_in_few_bits() {
    let tool = Tool::new();
    for (name, path) in [("a.onnx", mnist()), ("b.onnx", fashion())] {
        tool.write(name, &onnx::encode(&in_few_bits(&path)).unwrap());
    }
    let report: ModelReport =
        serde_json::from_slice(&tool.run(0, &["inspect", "a.onnx", "--json"]).stdout).unwrap();
    assert_eq!(report.parameters, 266_610);
    for (pair, share) in
        [(["a.onnx", "b.onnx"], "0"), (["a.onnx", "b.onnx"], "1"), (["a.onnx"; 2], "1")]
    {
        let common = [pair[0], pair[1], "--share", share, "--name", "one", "--name", "two"];
        let output = tool.run(0, &[&["plan", "--json"], &common[..]].concat());
        let plan: Plan = serde_json::from_slice(&output.stdout).unwrap();
        let few = ["--samples", "50", "--no-verify", "--no-compare", "--quiet", "-o", "joint.onnx"];
        tool.run(0, &[&["merge"], &common[..], &few].concat());
        let file = fs::metadata(tool.path("joint.onnx")).unwrap().len() as f64;
        let off = plan.file as f64 / file - 1.0;
        assert!(off.abs() < 0.05, "{pair:?} at {share}: {} planned, {file} written", plan.file);
    }
}

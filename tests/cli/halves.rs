//! Models in half precision.

use onnx_zip::ir::{DataType, Model, Tensor, TensorType, ValueKind};
use onnx_zip::onnx;
use onnx_zip::report::Report;

use crate::tool::{Tool, fashion, fashion_images, images, mnist};

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
        assert!((single - half).abs() < 0.05 * single.max(0.01), "{singles:?} and {halves:?}");
    }
}

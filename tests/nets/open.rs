//! Nets with open sizes, as exporters write them: every product with a constant is a layer, and every
//! parameter outside layers has a reason.

use std::path::Path;

use onnx_zip::canon::{CanonOptions, canonicalise};
use onnx_zip::couple::{Coupling, outside};
use onnx_zip::onnx::load;

/// Number of a net's layers, and the reasons why parameters belong to no layer.
fn seen(name: &str) -> (usize, Vec<String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/open");
    let model = load(&folder.join(format!("{name}.onnx"))).unwrap();
    let model = canonicalise(model, &CanonOptions::default()).unwrap();
    let coupling = Coupling::of(&model.graph).unwrap();
    let reasons = outside(&model.graph, &coupling).into_iter().map(|o| o.reason);
    (coupling.layers.len(), reasons.collect())
}

#[test]
fn products_are_layers_whatever_is_open() {
    // Each block has four projections of attention and two layers of the perceptron.
    for (name, layers) in [
        // Encoders also have tables of tokens and positions.
        ("encoder_14", 2 + 2 * 6 + 1),
        ("encoder_17", 2 + 2 * 6 + 1),
        ("vision_14", 1 + 2 * 6 + 1),
        ("vision_17", 1 + 2 * 6 + 1),
        // One product computes queries, keys and values, which count as three layers.
        ("recogniser_14", 3 + 2 * (2 + 2) + 1),
        ("stem_13", 3),
    ] {
        let (found, reasons) = seen(name);
        assert_eq!(found, layers, "{name}: {reasons:#?}");
        let products: Vec<&String> = reasons
            .iter()
            .filter(|reason| reason.contains("MatMul") || reason.contains("Conv"))
            .collect();
        assert!(products.is_empty(), "{name}: {products:#?}");
    }
}

#[test]
fn normalisations_have_their_reasons_and_tables_are_layers() {
    let (_, reasons) = seen("encoder_17");
    assert!(!reasons.iter().any(|reason| reason.contains("Gather")), "{reasons:#?}");
    assert!(reasons.iter().any(|reason| reason.contains("LayerNormalization")), "{reasons:#?}");
}

//! Models that are handed over as graphs.

use prost::Message;
use tract_onnx::pb;

use super::*;

/// Whether two arrays are equal up to rounding.
fn near(a: &HostArray, b: &HostArray) -> bool {
    let (HostArray::F32(a), HostArray::F32(b)) = (a, b) else { return false };
    let largest = b.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    a.shape() == b.shape() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * largest)
}

#[test]
fn a_graph_computes_what_its_bytes_compute() {
    // The first weight is large enough to be handed over by itself; of the second width, a session holds
    // no copy of it.
    for width in [200, 120_000] {
        let mut b = crate::ir::builder::GraphBuilder::new("layers", 13);
        let (x, w) = (b.input("x", "n,150"), b.weights("w", &[150, width]));
        let (hidden, v) = (b.op("MatMul", "first", &[x, w], []), b.weights("v", &[width, 3]));
        let y = b.op("MatMul", "second", &[hidden, v], []);
        let model = b.build(&[y]);
        let x = ramp(&[4, 150]);
        let bytes = crate::onnx::encode(&model).unwrap();
        let slices = crate::onnx::decode(bytes.clone().into(), None, "slices").unwrap();
        each_backend(|backend| {
            let wanted = load(backend, &bytes).run(&[("x", &x)]).unwrap();
            for model in [&model, &slices] {
                let mut session = backend.load(ModelSource::Graph(model)).unwrap();
                assert_eq!(session.inputs().len(), 1);
                let found = session.run(&[("x", &x)]).unwrap();
                // Other kernels add in another order.
                let is_near = near(&found[0], &wanted[0]);
                assert!(is_near, "{}, {width}: {found:?}, {wanted:?}", backend.name());
            }
        });
    }
}

/// ONNX Runtime ended the process at a normalisation with an empty name for its shift.
#[test]
fn empty_names_behind_the_last_input_are_no_inputs() {
    let mut b = crate::ir::builder::GraphBuilder::new("normal", 17);
    let (x, scale) = (b.input("x", "n,4"), b.positive("scale", &[4]));
    let y = b.op("LayerNormalization", "y", &[x, scale], []);
    let plain = crate::onnx::encode(&b.build(&[y])).unwrap();
    let mut proto = pb::ModelProto::decode(plain.as_slice()).unwrap();
    let nodes = proto.graph.iter_mut().flat_map(|graph| &mut graph.node);
    nodes.for_each(|node| node.input.push(String::new()));
    let padded = proto.encode_to_vec();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &padded).unwrap();
    let x = ramp(&[2, 4]);
    each_backend(|backend| {
        // tract does not have the operator in all its versions.
        if backend.name() != "ort" {
            return;
        }
        let wanted = load(backend, &plain).run(&[("x", &x)]).unwrap();
        for source in [ModelSource::Bytes(&padded), ModelSource::File(file.path())] {
            let found = backend.load(source).unwrap().run(&[("x", &x)]).unwrap();
            assert_eq!(found, wanted);
        }
    });
}

/// Sequences of maps, as exporters of classifiers write them, are no tensors.
#[test]
fn scores_are_returned_in_place_of_maps_of_them() {
    let mut b = crate::ir::builder::GraphBuilder::new("classifier", 17);
    let x = b.input("x", "n,3");
    let scores = b.op("Softmax", "scores", &[x], []);
    let maps = b.op("ZipMap", "maps", &[scores], [("classlabels_int64s", [4, 5, 6].into())]);
    let node = b.graph().producer(maps).unwrap();
    b.graph().edit_node(node, |node| node.domain = "ai.onnx.ml".to_owned());
    let mut model = b.build(&[scores, maps]);
    model.opsets.insert("ai.onnx.ml".to_owned(), 1);
    let bytes = crate::onnx::encode(&model).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let x = ramp(&[2, 3]);
    each_backend(|backend| {
        // tract does not have the operator.
        if backend.name() != "ort" {
            return;
        }
        let sources = [
            ModelSource::Bytes(&bytes),
            ModelSource::File(file.path()),
            ModelSource::Graph(&model),
        ];
        for source in sources {
            let mut session = backend.load(source).unwrap();
            assert_eq!(session.outputs()[1].name, "maps");
            let found = session.run(&[("x", &x)]).unwrap();
            assert_eq!(found[0], found[1]);
        }
    });
}

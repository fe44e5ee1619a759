//! Whatever the bytes, reading a model ends in a model or an error, and a model that was read can be
//! written.

use std::sync::OnceLock;

use onnx_zip::ir::{
    Attribute, DataType, Dim, Graph, Model, Node, Tensor, TensorType, ValueKind, text,
};
use onnx_zip::onnx;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A small model that uses most of the format.
fn valid() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut g = Graph::new("g");
        let shape = Some(vec![Dim::Symbol("n".into()), Dim::Known(2), Dim::Unknown]);
        let x = g.add_input("x", TensorType { dtype: DataType::F32, shape });
        let c = g.add_input("c", TensorType { dtype: DataType::Bool, shape: Some(Vec::new()) });
        let w = g.add_initializer("w", Tensor::from_i64(vec![2, 1], &[3, -1]));
        let mut branch = Graph::new("branch");
        let seen = branch.add_value("x", ValueKind::Captured(x), None);
        let z = branch.add_op("Neg", "z", &[seen], [("alpha", Attribute::Float(0.5))]);
        branch.outputs.push(z);
        let y = g.add_value("y", ValueKind::Detached, None);
        let branch = || Attribute::Graph(Box::new(branch.clone()));
        g.add_node(Node {
            name: "choice".into(),
            op: "If".into(),
            inputs: vec![Some(c)],
            outputs: vec![Some(y)],
            attributes: [("then_branch".into(), branch()), ("else_branch".into(), branch())].into(),
            ..Node::default()
        });
        let r = g.add_op("Reshape", "r", &[y, w], [("axes", Attribute::Ints(vec![0, 1]))]);
        g.set_type(y, Some(TensorType { dtype: DataType::F32, shape: None }));
        g.outputs = vec![r, y];
        let opsets = [(String::new(), 21)].into();
        let metadata = [("task".to_owned(), "a".to_owned())].into();
        let model = Model { ir_version: 10, opsets, metadata, graph: g, ..Model::default() };
        onnx::encode(&model).unwrap()
    })
}

/// Reads, and if that succeeds, uses everything that was read.
fn exercise(bytes: Vec<u8>) {
    let Ok(model) = onnx::decode(bytes.into(), None, "m") else { return };
    let _ = text::dump(&model.graph);
    let _ = onnx::check_finite(&model);
    let written = onnx::encode(&model).unwrap();
    let again = onnx::decode(written.clone().into(), None, "m").unwrap();
    assert_eq!(onnx::encode(&again).unwrap(), written);
}

#[test]
fn the_valid_model_is_valid() {
    assert!(onnx::decode(valid().into(), None, "m").is_ok());
    exercise(valid().to_vec());
}

#[test]
fn every_truncation_is_read_without_panic() {
    for length in 0..valid().len() {
        exercise(valid()[..length].to_vec());
    }
}

#[test]
fn every_change_of_one_byte_is_read_without_panic() {
    for position in 0..valid().len() {
        for change in [0x01, 0x07, 0x80, 0xff] {
            let mut bytes = valid().to_vec();
            bytes[position] ^= change;
            exercise(bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..300)) {
        exercise(bytes);
    }

    #[test]
    fn mutated_models_are_read_without_panic(
        edits in vec((any::<Index>(), any::<u8>()), 1..8),
        cut in any::<Index>(),
        insert in vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = valid().to_vec();
        for (position, value) in edits {
            let position = position.index(bytes.len());
            bytes[position] = value;
        }
        let at = cut.index(bytes.len());
        bytes.splice(at..at, insert);
        exercise(bytes);
    }

    #[test]
    fn models_with_parts_moved_are_read_without_panic(
        from in any::<Index>(), to in any::<Index>(), length in 0usize..64,
    ) {
        let mut bytes = valid().to_vec();
        let from = from.index(bytes.len());
        let part: Vec<u8> = bytes.iter().skip(from).take(length).copied().collect();
        let to = to.index(bytes.len());
        bytes.splice(to..to, part);
        exercise(bytes);
    }
}

use super::*;
use crate::ir::Graph;
use crate::ir::builder::GraphBuilder;
use crate::onnx;

/// A net of `depth` equal layers with names of some length.
fn net(depth: usize) -> Model {
    let mut b = GraphBuilder::new("net", 13);
    let mut value = b.input("x", "n,4");
    for layer in 0..depth {
        let path = format!("/encoder/layer.{layer}/attention/output/dense");
        let weight = b.input(&format!("{path}.weight"), "4,4");
        let bias = b.weights(&format!("{path}.bias"), &[4]);
        let h = b.op("MatMul", &format!("{path}/MatMul"), &[value, weight], []);
        value = b.op("Add", &format!("{path}/Add"), &[bias, h], []);
    }
    b.build(&[value])
}

#[test]
fn nets_come_back_as_they_were() {
    let mut old = net(2);
    old.ir_version = 3;
    for model in [net(0), net(1), net(20), old, Model { graph: Graph::new("net"), ..net(1) }] {
        let read = decode_net(&encode_net(&model).unwrap(), "net").unwrap();
        assert_eq!(onnx::encode(&read).unwrap(), onnx::encode(&model).unwrap());
    }
}

#[test]
fn equal_layers_are_equal_bytes() {
    let message = |depth| {
        let bytes = encode_net(&net(depth)).unwrap();
        let mut rest = bytes.as_slice();
        let names = read_table(&mut rest, &mut usize::MAX.clone()).unwrap();
        assert_eq!(names.len(), 1 + 6 * depth);
        ModelProto::decode(rest).unwrap().graph.unwrap().node
    };
    let nodes = message(4);
    assert_eq!(nodes[2..4], nodes[4..6]);
    assert_eq!((nodes[4].input[0].as_str(), nodes[4].input[1].as_str()), ("1", "i0"));
}

#[test]
fn names_read_very_often_stay_in_the_message() {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input(&"x".repeat(1 << 15), "n,4");
    let y = b.op("Sum", "y", &vec![x; 200], []);
    let model = b.build(&[y]);
    let bytes = encode_net(&model).unwrap();
    assert_eq!(bytes[0], 0, "no table");
    assert_eq!(
        onnx::encode(&decode_net(&bytes, "net").unwrap()).unwrap(),
        onnx::encode(&model).unwrap()
    );
}

/// A table and a message with a node that reads `reads`.
fn hostile(names: &[&str], reads: &[String]) -> Vec<u8> {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "n,4");
    let y = b.op("Sum", "y", &[x], []);
    let mut proto = to_proto(&b.build(&[y])).unwrap();
    let graph = proto.graph.as_mut().unwrap();
    graph.node[0].input = reads.to_vec();
    graph.output[0].name = Some("1".into());
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    [table(&names), proto.encode_to_vec()].concat()
}

#[test]
fn hostile_names_are_refused() {
    let reads = |text: &str| vec![text.to_owned()];
    assert!(decode_net(&hostile(&["x", "y", "y"], &reads("i0")), "net").is_ok());
    for text in ["i1", "i-1", "c0", "0", "1", "-1", "i", "i9223372036854775807", "é", "x"] {
        let bytes = hostile(&["x", "y", "y"], &reads(text));
        assert_eq!(decode_net(&bytes, "net").unwrap_err().kind(), ErrorKind::Format, "{text}");
    }
    let long = "x".repeat(1 << 20);
    let again: Vec<String> = ["i0".to_owned()].into_iter().chain(vec!["i-1".into(); 99]).collect();
    let tables: [&[&str]; 4] =
        [&["x", "y"], &["x", "y", "y", "z"], &["x", "y", "x"], &["", "", ""]];
    let bytes = tables.iter().map(|names| hostile(names, &reads("i0")));
    let mut all: Vec<Vec<u8>> = bytes.collect();
    all.push(hostile(&[&long, "y", "y"], &again));
    // A name of 2⁶³ bytes, and one that begins as none before it.
    all.push([vec![1, 0], vec![255; 9], vec![1]].concat());
    all.push(vec![1, 5, 0]);
    all.push(vec![255; 9]);
    for bytes in all {
        assert_eq!(decode_net(&bytes, "net").unwrap_err().kind(), ErrorKind::Format);
    }
}

#[test]
fn front_coding_cannot_make_names_of_any_size() {
    let mut bytes = Vec::new();
    encode_varint(5000, &mut bytes);
    bytes.extend([0, 128, 128, 4]);
    bytes.extend(vec![b'x'; 1 << 16]);
    for _ in 1..5000 {
        bytes.extend([128, 128, 4, 0]);
    }
    assert_eq!(decode_net(&bytes, "net").unwrap_err().kind(), ErrorKind::Format);
}

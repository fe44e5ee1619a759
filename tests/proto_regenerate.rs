//! `src/onnx/proto.rs` is generated from `proto/onnx.proto` and checked in, so that building needs
//! no protobuf compiler. This test generates it again and compares. With `ONNX_ZIP_BLESS=1` in the
//! environment, it replaces the file instead.

use std::path::Path;

#[test]
fn the_generated_code_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let descriptors = protox::compile(["onnx.proto"], [root.join("proto")]).unwrap();
    prost_build::Config::new()
        .bytes([".onnx.TensorProto.raw_data"])
        .out_dir(folder.path())
        .compile_fds(descriptors)
        .unwrap();
    let fresh = std::fs::read_to_string(folder.path().join("onnx.rs")).unwrap();
    let checked_in = root.join("src/onnx/proto.rs");
    if std::env::var_os("ONNX_ZIP_BLESS").is_some() {
        std::fs::write(&checked_in, &fresh).unwrap();
    }
    assert!(
        std::fs::read_to_string(&checked_in).unwrap_or_default() == fresh,
        "src/onnx/proto.rs does not match proto/onnx.proto; run this test with ONNX_ZIP_BLESS=1"
    );
}

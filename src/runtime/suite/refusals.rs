//! Faults that every backend must refuse with an error, not a panic.

use super::*;

fn refusal(backend: &dyn Backend, source: ModelSource<'_>) -> Error {
    match backend.load(source) {
        Ok(_) => panic!("{} takes a broken model", backend.name()),
        Err(error) => told(error),
    }
}

/// An error of a runtime, which says what to do next.
fn told(error: Error) -> Error {
    assert!(
        error.kind() != ErrorKind::Backend || error.to_string() != error.fault().to_string(),
        "{error}"
    );
    error
}

#[test]
fn inputs_that_do_not_fit_are_refused_alike() {
    let (x, wide) = (ramp(&[1, 3]), ramp(&[1, 4]));
    let doubles = HostArray::from(ArrayD::<f64>::zeros(IxDyn(&[1, 3])));
    let cases: [(&[(&str, &HostArray)], &str); 5] = [
        (&[], "input 'x' is not fed"),
        (&[("q", &x)], "there is no input 'q' to feed"),
        (&[("x", &x), ("x", &x)], "input 'x' is fed twice"),
        (&[("x", &wide)], "input 'x' takes F32 batch×3 with batch = 1 but is fed F32 1×4"),
        (&[("x", &doubles)], "is fed F64 1×3"),
    ];
    each_backend(|backend| {
        let mut session = load(backend, &gemm_relu(n()));
        for (inputs, expected) in cases {
            let error = told(session.run(inputs).unwrap_err());
            assert_eq!(error.kind(), ErrorKind::Backend);
            assert!(error.to_string().contains(expected), "{}: {error}", backend.name());
        }
        assert!(session.run(&[("x", &x)]).is_ok(), "a refusal must not spoil the session");
    });
}

#[test]
fn bytes_that_are_no_model_are_refused() {
    let whole = gemm_relu(n());
    each_backend(|backend| {
        let noise: Vec<u8> = (0..400u32).map(|i| (i * 7919 % 251) as u8).collect();
        for bytes in [&b""[..], b"not a model", &noise] {
            let error = refusal(backend, ModelSource::Bytes(bytes));
            assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
        }
        for end in (1..whole.len()).step_by(3) {
            if let Err(error) = backend.load(ModelSource::Bytes(&whole[..end])) {
                assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
            }
        }
    });
}

#[test]
fn flipped_bits_never_panic() {
    let whole = gemm_relu(n());
    each_backend(|backend| {
        for position in (0..whole.len()).step_by(2) {
            let mut bytes = whole.clone();
            bytes[position] ^= 1 << (position % 8);
            if let Ok(mut session) = backend.load(ModelSource::Bytes(&bytes)) {
                // Any result or error is right; a panic or crash is not.
                let _ = session.run(&[("x", &ramp(&[2, 3]))]);
            }
        }
    });
}

#[test]
fn an_unknown_operator_is_named() {
    let model = Onnx::default()
        .input("x", DataType::F32, &[n()])
        .node("Frobnicate", &["x"], &["y"], &[])
        .output("y")
        .bytes();
    each_backend(|backend| {
        let error = refusal(backend, ModelSource::Bytes(&model));
        assert!(error.to_string().contains("Frobnicate"), "{}: {error}", backend.name());
    });
}

#[test]
fn a_value_that_nothing_computes_is_named() {
    let missing_input = Onnx::default()
        .input("x", DataType::F32, &[n()])
        .node("Add", &["x", "ghost"], &["y"], &[])
        .output("y");
    let missing_output =
        Onnx::default().input("x", DataType::F32, &[n()]).node("Relu", &["x"], &["y"], &[]);
    let missing_output = missing_output.output("ghost");
    for model in [missing_input, missing_output].map(Onnx::bytes) {
        each_backend(|backend| {
            let error = refusal(backend, ModelSource::Bytes(&model));
            assert_eq!(error.kind(), ErrorKind::Backend);
            assert!(error.to_string().contains("ghost"), "{}: {error}", backend.name());
        });
    }
}

#[test]
fn layers_that_do_not_fit_together_name_the_node() {
    let model = Onnx::default()
        .input("x", DataType::F32, &[n(), Dim::Known(3)])
        .floats("w", &[5, 2], &[0.0; 10])
        .node("MatMul", &["x", "w"], &["product"], &[])
        .output("product")
        .bytes();
    each_backend(|backend| {
        // With open sizes, only a run may show the fault.
        let outcome = backend.load(ModelSource::Bytes(&model));
        let outcome = outcome.and_then(|mut session| session.run(&[("x", &ramp(&[1, 3]))]));
        let error = told(outcome.unwrap_err());
        assert!(error.to_string().contains("MatMul"), "{}: {error}", backend.name());
        assert!(error.to_string().contains("product"), "{}: {error}", backend.name());
    });
}

#[test]
fn an_index_beyond_the_table_is_an_error() {
    if device() != Device::Cpu {
        // A GPU's kernel cannot report the fault, and returns zeros.
        return;
    }
    let model = Onnx::default()
        .input("ids", DataType::I64, &[n()])
        .floats("table", &[3, 1], &[0.0, 1.0, 2.0])
        .node("Gather", &["table", "ids"], &["y"], &[("axis", &[0])])
        .output("y")
        .bytes();
    each_backend(|backend| {
        let ids: HostArray = array![7i64].into_dyn().into();
        let error = told(load(backend, &model).run(&[("ids", &ids)]).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
    });
}

#[test]
fn a_file_that_is_not_there_is_an_io_error() {
    each_backend(|backend| {
        let error = refusal(backend, ModelSource::File(Path::new("/not/there.onnx")));
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().starts_with("/not/there.onnx"), "{error}");
    });
}

#[test]
fn external_weights_that_are_not_there_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = Onnx::default()
        .input("x", DataType::F32, &[n(), Dim::Known(2)])
        .external("w", &[2, 1], "weights.bin")
        .node("MatMul", &["x", "w"], &["y"], &[])
        .output("y")
        .bytes();
    let path = dir.path().join("model.onnx");
    std::fs::write(&path, &model).unwrap();
    each_backend(|backend| {
        let error = refusal(backend, ModelSource::File(&path));
        assert_eq!(error.kind(), ErrorKind::Backend);
        assert!(error.to_string().contains("weights.bin"), "{}: {error}", backend.name());
    });
}

//! The same tests for every backend.
//!
//! ONNX Runtime is left out where its library is not found, unless `ONNX_ZIP_REQUIRE_ORT` is set.
//! `ONNX_ZIP_TEST_DEVICE` names a device other than the CPU, where the backends that have it are tested.

mod build;
mod graphs;
mod refusals;

use half::f16;
use ndarray::{ArrayD, IxDyn, array};

use self::build::Onnx;
use super::*;
use crate::ir::{DataType, Dim};

/// The device to test on.
fn device() -> Device {
    let named = std::env::var("ONNX_ZIP_TEST_DEVICE").ok().filter(|name| !name.is_empty());
    named.map_or(Device::Cpu, |name| name.parse().unwrap())
}

/// Runs `test` on every available backend.
fn each_backend(test: impl Fn(&dyn Backend)) {
    let mut tested = 0;
    let device = device();
    for entry in BACKENDS {
        if device != Device::Cpu && entry.choice == RuntimeChoice::Tract {
            continue;
        }
        let options = RuntimeOptions { choice: entry.choice, device, ..Default::default() };
        match open(&options) {
            Ok(backend) => {
                assert_eq!(backend.name(), entry.name);
                test(backend.as_ref());
                tested += 1;
            }
            Err(error) => {
                assert!(std::env::var_os("ONNX_ZIP_REQUIRE_ORT").is_none(), "{error}");
                assert_eq!(device, Device::Cpu, "{error}");
                assert_eq!(entry.choice, RuntimeChoice::Ort, "{error}");
            }
        }
    }
    assert!(tested > 0);
}

fn load(backend: &dyn Backend, model: &[u8]) -> Box<dyn Session> {
    backend
        .load(ModelSource::Bytes(model))
        .unwrap_or_else(|error| panic!("{}: {error}", backend.name()))
}

fn n() -> Dim {
    Dim::Symbol("batch".into())
}

fn floats(shape: &[usize], values: &[f32]) -> HostArray {
    ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap().into()
}

fn ramp(shape: &[usize]) -> HostArray {
    let len: usize = shape.iter().product();
    floats(shape, &(0..len).map(|i| i as f32 - 3.0).collect::<Vec<_>>())
}

/// `y = relu(x Wᵀ + b)` from 3 to 2 features.
fn gemm_relu(batch: Dim) -> Vec<u8> {
    Onnx::default()
        .input("x", DataType::F32, &[batch.clone(), Dim::Known(3)])
        .floats("w", &[2, 3], &[1.0, 0.0, 1.0, 0.0, -2.0, 0.0])
        .floats("b", &[2], &[0.5, 1.0])
        .node("Gemm", &["x", "w", "b"], &["z"], &[("transB", &[1])])
        .value_info("z", &[batch.clone(), Dim::Known(2)])
        .node("Relu", &["z"], &["y"], &[])
        .typed_output("y", DataType::F32, &[batch, Dim::Known(2)])
        .bytes()
}

#[test]
fn state_is_passed_on_from_run_to_run() {
    each_backend(|backend| {
        let mut b = crate::ir::builder::GraphBuilder::new("sums", 13);
        let (x, old) = (b.input("x", "2"), b.input("old", "2"));
        let new = b.op("Add", "new", &[old, x], []);
        let twice = b.op("Add", "twice", &[new, new], []);
        let model = crate::onnx::encode(&b.build(&[twice, new])).unwrap();
        let state = |output: &str| State {
            input: "old".into(),
            output: output.into(),
            value: floats(&[2], &[10.0, 20.0]),
        };
        let source = ModelSource::Bytes(&model);
        let mut sums = backend.recur(source, vec![state("new")]).unwrap();
        for run in 1..4 {
            let results = sums.step(&[("x", &floats(&[2], &[1.0, 2.0]))]).unwrap();
            let sum = [10.0 + run as f32, 20.0 + 2.0 * run as f32];
            assert_eq!(results, [floats(&[2], &sum.map(|v| 2.0 * v))], "{}", backend.name());
            assert_eq!(sums.state().unwrap(), [floats(&[2], &sum)]);
        }
        assert!(sums.step(&[("y", &floats(&[2], &[0.0, 0.0]))]).is_err());
        assert!(backend.recur(source, vec![state("lost")]).is_err());
    });
}

#[test]
fn a_bias_may_be_fed_and_called_after_its_node() {
    each_backend(|backend| {
        let mut b = crate::ir::builder::GraphBuilder::new("biased", 13);
        let (x, bias) = (b.input("x", "n,1,2,2"), b.input("conv.bias", "1"));
        let w =
            b.constant("conv.weight", crate::ir::Tensor::from_f32(&ArrayD::ones(vec![1, 1, 2, 2])));
        let y = b.op("Conv", "conv", &[x, w, bias], []);
        let mut session = load(backend, &crate::onnx::encode(&b.build(&[y])).unwrap());
        let fed = [("x", &ramp(&[1, 1, 2, 2])), ("conv.bias", &floats(&[1], &[0.5]))];
        let sum: f32 = ramp(&[1, 1, 2, 2]).as_f32().unwrap().sum();
        assert_eq!(session.run(&fed).unwrap(), [floats(&[1, 1, 1, 1], &[sum + 0.5])]);
    });
}

#[test]
fn one_session_runs_batches_of_different_size() {
    for batch in [n(), Dim::Unknown] {
        each_backend(|backend| {
            let mut session = load(backend, &gemm_relu(batch.clone()));
            let two = floats(&[2, 3], &[1.0, 2.0, 3.0, -9.0, -1.0, 0.0]);
            let outputs = session.run(&[("x", &two)]).unwrap();
            assert_eq!(outputs, [floats(&[2, 2], &[4.5, 0.0, 0.0, 3.0])]);

            let one = floats(&[1, 3], &[0.0, 0.0, 1.0]);
            let outputs = session.run(&[("x", &one)]).unwrap();
            assert_eq!(outputs, [floats(&[1, 2], &[1.5, 1.0])]);
        });
    }
}

#[test]
fn a_fixed_batch_and_its_value_info_are_kept() {
    each_backend(|backend| {
        let mut session = load(backend, &gemm_relu(Dim::Known(1)));
        assert_eq!(fixed_batch(session.inputs()), Some(1));
        let outputs = session.run(&[("x", &floats(&[1, 3], &[0.0, 0.0, 1.0]))]).unwrap();
        assert_eq!(outputs, [floats(&[1, 2], &[1.5, 1.0])]);
    });
}

#[test]
fn ports_tell_names_types_and_shapes_without_initializers() {
    // Old files list initializers among the inputs.
    let model = Onnx::default()
        .input("x", DataType::F32, &[n(), Dim::Known(2)])
        .input("w", DataType::F32, &[Dim::Known(2), Dim::Known(2)])
        .floats("w", &[2, 2], &[1.0, 0.0, 0.0, 1.0])
        .node("MatMul", &["x", "w"], &["y"], &[])
        .typed_output("y", DataType::F32, &[n(), Dim::Known(2)])
        .bytes();
    each_backend(|backend| {
        let session = load(backend, &model);
        let port = |name: &str| Port {
            name: name.into(),
            dtype: DataType::F32,
            shape: Some(vec![n(), Dim::Known(2)]),
        };
        assert_eq!(session.inputs(), [port("x")]);
        assert_eq!(session.outputs(), [port("y")]);
    });
}

#[test]
fn convolution_and_pooling() {
    let model = Onnx::default()
        .input("x", DataType::F32, &[n(), Dim::Known(1), Dim::Known(3), Dim::Known(3)])
        .floats("w", &[2, 1, 2, 2], &[1.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0])
        .floats("b", &[2], &[0.0, 10.0])
        .node("Conv", &["x", "w", "b"], &["z"], &[("kernel_shape", &[2, 2])])
        .node("MaxPool", &["z"], &["y"], &[("kernel_shape", &[2, 2])])
        .output("y")
        .bytes();
    each_backend(|backend| {
        let mut session = load(backend, &model);
        // Rows 0 1 2 / 3 4 5 / 6 7 8 less 3; the second sample continues at 9.
        let outputs = session.run(&[("x", &ramp(&[2, 1, 3, 3]))]).unwrap();
        assert_eq!(outputs, [floats(&[2, 2, 1, 1], &[6.0, 12.0, 24.0, 3.0])]);
        assert_eq!(session.outputs()[0].dtype, DataType::F32);
    });
}

#[test]
fn outputs_come_in_graph_order_and_may_be_inputs_or_inner_values() {
    let model = Onnx::default()
        .input("x", DataType::F32, &[n(), Dim::Known(2)])
        .node("Relu", &["x"], &["r"], &[])
        .node("Neg", &["r"], &["m"], &[])
        .output("m")
        .output("x")
        .output("r")
        .bytes();
    each_backend(|backend| {
        let mut session = load(backend, &model);
        let x = floats(&[1, 2], &[-1.0, 2.0]);
        let outputs = session.run(&[("x", &x)]).unwrap();
        assert_eq!(outputs, [floats(&[1, 2], &[0.0, -2.0]), x, floats(&[1, 2], &[0.0, 2.0])]);
        let names: Vec<&str> = session.outputs().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["m", "x", "r"]);
    });
}

#[test]
fn two_inputs_in_any_order_and_any_memory_layout() {
    let model = Onnx::default()
        .input("a", DataType::F32, &[n(), Dim::Known(2)])
        .input("b", DataType::F32, &[n(), Dim::Known(2)])
        .node("Sub", &["a", "b"], &["y"], &[])
        .output("y")
        .bytes();
    each_backend(|backend| {
        let mut session = load(backend, &model);
        let a = floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let transposed: HostArray =
            array![[1.0f32, 3.0], [2.0, 4.0]].t().into_owned().into_dyn().into();
        let outputs = session.run(&[("b", &transposed), ("a", &a)]).unwrap();
        assert_eq!(outputs, [floats(&[2, 2], &[0.0; 4])]);
    });
}

#[test]
fn integer_ids_pick_embeddings() {
    let model = Onnx::default()
        .input("ids", DataType::I64, &[n(), Dim::Symbol("length".into())])
        .floats("table", &[3, 2], &[0.0, 1.0, 10.0, 11.0, 20.0, 21.0])
        .node("Gather", &["table", "ids"], &["y"], &[("axis", &[0])])
        .output("y")
        .bytes();
    each_backend(|backend| {
        let mut session = load(backend, &model);
        let ids: HostArray = array![[2i64, 0], [1, 1]].into_dyn().into();
        let outputs = session.run(&[("ids", &ids)]).unwrap();
        let expected = floats(&[2, 2, 2], &[20.0, 21.0, 0.0, 1.0, 10.0, 11.0, 10.0, 11.0]);
        assert_eq!(outputs, [expected]);
    });
}

#[test]
fn every_element_type_passes_through() {
    let arrays: [HostArray; 8] = [
        array![[1.5f32, -2.0]].into_dyn().into(),
        array![[1.5f64, -2.0]].into_dyn().into(),
        array![[f16::from_f32(1.5), f16::from_f32(-2.0)]].into_dyn().into(),
        array![[i64::MAX, -2]].into_dyn().into(),
        array![[i32::MAX, -2]].into_dyn().into(),
        array![[255u8, 2]].into_dyn().into(),
        array![[-128i8, 2]].into_dyn().into(),
        array![[true, false]].into_dyn().into(),
    ];
    for array in arrays {
        let model = Onnx::default()
            .input("x", array.dtype(), &[n(), Dim::Known(2)])
            .node("Identity", &["x"], &["y"], &[])
            .output("y")
            .bytes();
        each_backend(|backend| {
            let mut session = load(backend, &model);
            assert_eq!(session.inputs()[0].dtype, array.dtype());
            assert_eq!(session.run(&[("x", &array)]).unwrap(), std::slice::from_ref(&array));
            assert_eq!(session.outputs()[0].dtype, array.dtype());
        });
    }
}

#[test]
fn sizes_computed_in_the_graph_come_out_as_int64() {
    let model = Onnx::default()
        .input("x", DataType::F32, &[n(), Dim::Known(3)])
        .node("Shape", &["x"], &["y"], &[])
        .output("y")
        .bytes();
    each_backend(|backend| {
        let outputs = load(backend, &model).run(&[("x", &ramp(&[5, 3]))]).unwrap();
        assert_eq!(outputs, [HostArray::from(array![5i64, 3].into_dyn())]);
    });
}

#[test]
fn shapes_that_need_the_actual_batch_size_work() {
    // Half of the batch times three columns has no symbolic form.
    let model = Onnx::default()
        .input("x", DataType::F32, &[n(), Dim::Known(3)])
        .ints("halves", &[2, -1])
        .node("Reshape", &["x", "halves"], &["y"], &[])
        .output("y")
        .bytes();
    each_backend(|backend| {
        let mut session = load(backend, &model);
        for rows in [2, 4, 2] {
            let outputs = session.run(&[("x", &ramp(&[rows, 3]))]).unwrap();
            assert_eq!(outputs, [ramp(&[2, rows * 3 / 2])], "{}", backend.name());
        }
    });
}

#[test]
fn placeholders_for_sizes_do_not_tie_axes_together() {
    let open = Dim::Symbol("?".into());
    let model = Onnx::default()
        .input("x", DataType::F32, &[open.clone(), open])
        .node("Relu", &["x"], &["y"], &[])
        .output("y")
        .bytes();
    each_backend(|backend| {
        let mut session = load(backend, &model);
        for shape in [[2, 3], [3, 1]] {
            assert_eq!(session.run(&[("x", &ramp(&shape))]).unwrap()[0].shape(), shape);
        }
    });
}

#[test]
fn an_input_of_unknown_rank_takes_what_comes() {
    let model =
        Onnx::default().unranked_input("x").node("Relu", &["x"], &["y"], &[]).output("y").bytes();
    each_backend(|backend| {
        let mut session = load(backend, &model);
        for shape in [&[1, 2][..], &[3, 1, 2]] {
            let outputs = session.run(&[("x", &ramp(shape))]).unwrap();
            assert_eq!(outputs[0].shape(), shape);
        }
    });
}

#[test]
fn external_weights_are_found_beside_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let model = Onnx::default()
        .input("x", DataType::F32, &[n(), Dim::Known(2)])
        .external("w", &[2, 1], "weights.bin")
        .node("MatMul", &["x", "w"], &["y"], &[])
        .output("y")
        .bytes();
    let path = dir.path().join("model.onnx");
    std::fs::write(&path, model).unwrap();
    let weights: Vec<u8> = [2.0f32, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(dir.path().join("weights.bin"), weights).unwrap();
    each_backend(|backend| {
        let mut session = backend.load(ModelSource::File(&path)).unwrap();
        let outputs = session.run(&[("x", &floats(&[1, 2], &[1.0, 10.0]))]).unwrap();
        assert_eq!(outputs, [floats(&[1, 1], &[32.0])]);
    });
}

#[test]
fn repeated_runs_give_the_same_bits_on_any_number_of_threads() {
    let weights: Vec<f32> = (0..64 * 64).map(|i| ((i * 37 % 101) as f32 - 50.0) / 70.0).collect();
    let model = Onnx::default()
        .input("x", DataType::F32, &[n(), Dim::Known(64)])
        .floats("w", &[64, 64], &weights)
        .node("MatMul", &["x", "w"], &["h"], &[])
        .node("Tanh", &["h"], &["y"], &[])
        .output("y")
        .bytes();
    let x = floats(&[32, 64], &weights[..32 * 64]);
    each_backend(|backend| {
        let outputs = |threads| {
            let choice = backend.name().parse().unwrap();
            let device = device();
            let options = RuntimeOptions { choice, device, threads, ..Default::default() };
            let backend = open(&options).unwrap();
            load(backend.as_ref(), &model).run(&[("x", &x)]).unwrap()
        };
        let single = outputs(Some(1));
        assert_eq!(single, outputs(Some(3)));
        assert_eq!(single, outputs(None));
    });
}

#[test]
fn backends_describe_themselves() {
    each_backend(|backend| {
        let text = backend.describe();
        let device = device().to_string().to_uppercase();
        assert!(text.ends_with(&format!("({device})")), "{text}");
        assert!(text.starts_with("ONNX Runtime") || text.starts_with("tract 0."), "{text}");
    });
}

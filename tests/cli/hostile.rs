//! Small files that ask for more memory or time than there is end in one sentence, at once.

use std::time::{Duration, Instant};

use crate::tool::{Tool, fixture};

fn file(name: &str) -> String {
    fixture(&format!("hostile/{name}"))
}

#[test]
fn models_that_ask_for_too_much() {
    let cases = [
        ("dim_2e63", "input 'x' has 9223372036854775807 elements"),
        ("alloc_dim", "input 'x' has 9223372036854775807 elements"),
        ("alloc_pads_inspect", "Conv has 2147483647 in 'pads'"),
        ("alloc_pool", "AveragePool has 1000000000 in 'kernel_shape'"),
        ("concat_const26", "the result of Concat has"),
        ("concat_doubling30", "the result of Concat has"),
        ("conv_group_pads", "Conv has 2147483647 in 'pads'"),
        ("conv_pads_2e31", "Conv has 2147483647 in 'pads'"),
        ("opset_huge", "operator set 9223372036854775807 is newer than"),
        ("pad_overflow", "Pad has 9223372036854775807 in 'pads'"),
        ("pad_widths", "Pad reads 9223372036854775807 as input 1"),
        ("function_doubling14", "local functions expand to more than"),
    ];
    for (name, what) in cases {
        let model = file(&format!("{name}.onnx"));
        for args in [vec!["inspect", &model], vec!["plan", &model, &model]] {
            let start = Instant::now();
            let error = Tool::new().refused(&args);
            assert!(error.contains(name) && error.contains(what), "{name}: {error}");
            assert!(start.elapsed() < Duration::from_secs(5), "{name}");
        }
    }
}

#[test]
fn models_that_a_runtime_does_not_survive() {
    let cases = [
        ("gather_nd_batch_dims", "GatherND has -2147483648 in 'batch_dims'"),
        ("mod_overflow", "Mod divides -9223372036854775808 by -1"),
        ("scan_axis", "Scan has 9223372036854775807 in 'scan_input_axes'"),
        ("one_hot_axis", "OneHot has -9 in 'axis'"),
    ];
    for (name, what) in cases {
        let model = file(&format!("{name}.onnx"));
        let merge = ["merge", &model, &model, "--name", "a", "--name", "b", "-o", "o.onnx"];
        let more = ["--share", "1", "--runtime", "tract", "--samples", "3", "--no-compare"];
        for args in [vec!["inspect", &model], [&merge[..], &more].concat()] {
            let error = Tool::new().refused(&args);
            assert!(error.contains(name) && error.contains(what), "{name}: {error}");
        }
    }
}

#[test]
fn formulas_of_sizes_that_double() {
    for name in ["sizes_summed", "sizes_divided"] {
        let (model, start) = (file(&format!("{name}.onnx")), Instant::now());
        let merge = ["merge", &model, &model, "--name", "a", "--name", "b", "-o", "o.onnx"];
        let more = ["--share", "1", "--runtime", "tract", "--samples", "3", "--no-compare"];
        Tool::new().run(0, &[&merge[..], &more].concat());
        assert!(start.elapsed() < Duration::from_secs(10), "{name}");
    }
}

#[test]
fn sizes_whose_products_exceed_64_bits() {
    let model = file("sizes_squared.onnx");
    let merge = ["merge", &model, &model, "--name", "a", "--name", "b", "-o", "o.onnx"];
    let more = ["--share", "1", "--runtime", "tract", "--samples", "3", "--no-compare"];
    let error = Tool::new().refused(&[&merge[..], &more].concat());
    assert!(error.contains("the model computes sizes that may exceed 64 bits"), "{error}");
}

#[test]
fn models_that_runtimes_read_in_different_ways() {
    let cases = [
        ("constant_kind", "node 'axes': Constant has something else than a tensor in 'value'"),
        ("squeeze_no_axes", "node 'squeeze': Squeeze has an empty list of axes"),
        ("output_twice", "the output 'y' is listed twice"),
    ];
    for (name, what) in cases {
        let model = file(&format!("{name}.onnx"));
        for args in [vec!["inspect", &model], vec!["plan", &model, &model]] {
            let error = Tool::new().refused(&args);
            assert!(error.contains(name) && error.contains(what), "{name}: {error}");
            assert!(error.ends_with("; the model is damaged; export it again"), "{error}");
        }
    }
}

#[test]
fn models_whose_constants_do_not_fit() {
    let (good, data) = (file("t_cnn1.onnx"), file("cnn.npz"));
    let cases = [
        ("block72_batchnorm", "BatchNormalization lacks inputs: it needs 5"),
        ("output_left_after_rc2", "Flatten has 2 inputs, more than 1"),
    ];
    for (name, what) in cases {
        let bad = file(&format!("{name}.onnx"));
        let args = ["merge", &good, &bad, "--name", "a", "--name", "b", "-o", "o.onnx"];
        let more = ["--share", ".5", "--runtime", "tract", "--samples", "3", "--data", &data];
        let error = Tool::new().refused(&[args.as_slice(), &more].concat());
        assert!(error.contains(name) && error.contains(what), "{error}");
    }
}

#[test]
fn a_checkpoint_from_beyond_the_end() {
    let [old, a, b] = ["j_mlp", "t_mlp0", "t_mlp1"].map(|n| file(&format!("{n}.onnx")));
    let (data, checkpoint) = (file("mlp.npz"), file("iteration_2e31.ckpt"));
    let tool = Tool::new();
    let merge = ["merge", &a, &b, "-o", "joint.onnx", "--runtime", "tract", "--samples", "4"];
    tool.run(0, &[&merge[..], &["--no-verify", "--no-compare", "--share", "1"]].concat());
    let args = ["retrain", "joint.onnx", "--teacher", &a, "--teacher", &b, "--data", &data];
    let more = ["--iterations", "7", "--batch", "8", "--resume", "--checkpoint", &checkpoint];
    let error = tool.refused(&[args.as_slice(), &more, &["-o", "o.onnx"]].concat());
    assert!(error.contains("the checkpoint"), "{error}");
    let error = tool.refused(&["split", &old, "-o", "tasks"]);
    assert!(error.contains("recipe has version 1"), "{error}");
}

#[cfg(unix)]
#[test]
fn devices_and_holes_in_place_of_files() {
    let tool = Tool::new();
    let hole = tool.path("hole.onnx");
    std::fs::File::create(&hole).unwrap().set_len(1 << 40).unwrap();
    for path in ["/dev/zero", hole.to_str().unwrap()] {
        let error = tool.refused(&["calibrate", "--merge", path, "-o", "o.gram"]);
        assert!(error.contains(path), "{error}");
        assert!(tool.refused(&["inspect", path]).contains(path));
    }
}

//! Any fault of models, outputs and arguments ends in one sentence and no file.

use std::fs;

use onnx_zip::ir::{DataType, Dim, Graph, Model, Tensor, TensorType};
use onnx_zip::onnx::{self, External, SaveOptions};

use crate::tool::{Tool, fashion, files, mnist, refused};

/// The error of merging `a` with a good model.
fn merging(tool: &Tool, a: &str) -> String {
    tool.refused(&["merge", a, &fashion(), "-o", "joint.onnx", "--runtime", "tract"])
}

/// The error of merging two good models with additional arguments.
fn arguments(more: &[&str]) -> String {
    let (a, b) = (mnist(), fashion());
    let mut args = vec!["merge", &a, &b, "-o", "joint.onnx", "--runtime", "tract"];
    args.extend(more);
    Tool::new().refused(&args)
}

#[test]
fn files_that_are_no_models() {
    let tool = Tool::new();
    let whole = fs::read(mnist()).unwrap();
    let random: Vec<u8> =
        (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let cases: [(&str, &[u8], &str); 4] = [
        ("empty.onnx", b"", "the file is empty"),
        ("random.onnx", &random, "not an ONNX model"),
        ("half.onnx", &whole[..whole.len() / 2], "damaged"),
        ("readme.onnx", b"# A model\n\nDownload it.\n", "this is a text file"),
    ];
    for (name, bytes, what) in cases {
        let error = merging(&tool, tool.write(name, bytes));
        assert!(error.contains(name) && error.contains(what), "{error}");
    }
    assert!(merging(&tool, "missing.onnx").contains("missing.onnx"));
    fs::create_dir(tool.path("folder.onnx")).unwrap();
    assert!(merging(&tool, "folder.onnx").contains("this is a folder"));
}

#[test]
fn weights_that_are_not_finite() {
    let tool = Tool::new();
    let mut model = onnx::load(mnist().as_ref()).unwrap();
    let weights = |model: &Model| -> Vec<_> {
        let all = model.graph.values().filter(|(id, _)| model.graph.initializer(*id).is_some());
        all.map(|(id, _)| id).collect()
    };
    let first = weights(&model)[0];
    let mut array = model.graph.initializer(first).unwrap().to_f32().unwrap();
    *array.first_mut().unwrap() = f32::NAN;
    model.graph.set_initializer(first, Tensor::from_f32(&array));
    onnx::save(&model, &tool.path("nan.onnx"), &Default::default()).unwrap();
    let error = merging(&tool, "nan.onnx");
    assert!(error.contains("NaN") && error.contains("nan"), "{error}");
}

#[test]
fn the_output_is_an_input() {
    let tool = Tool::new();
    fs::copy(mnist(), tool.path("a.onnx")).unwrap();
    fs::create_dir(tool.path("sub")).unwrap();
    fs::hard_link(tool.path("a.onnx"), tool.path("hard.onnx")).unwrap();
    for output in ["a.onnx", "./sub/../a.onnx", "hard.onnx"] {
        let error = tool.refused(&["merge", "a.onnx", &fashion(), "-o", output]);
        assert!(error.contains("is the input"), "{error}");
    }
    let report = ["merge", "a.onnx", &fashion(), "-o", "j.onnx", "--report", "a.json"];
    fs::hard_link(tool.path("a.onnx"), tool.path("a.json")).unwrap();
    assert!(tool.refused(&report).contains("is the input"));
}

/// Samples, statistics, preprocessing and plans, too, and the weights beside a model.
#[test]
fn the_output_is_an_input_that_is_no_model() {
    let tool = Tool::new();
    for name in ["x.npz", "x.gram", "x.json"] {
        tool.write(name, name.as_bytes());
    }
    tool.write("x.toml", b"version = 1\n");
    let apart = SaveOptions { external: External::Always, ..SaveOptions::default() };
    let model = onnx::load(mnist().as_ref()).unwrap();
    onnx::save(&model, &tool.path("apart.onnx"), &apart).unwrap();
    let all = files(&tool.path("."));
    let weights = all.iter().find(|(name, _)| name.ends_with(".data")).unwrap().0.as_str();
    let (a, b) = (mnist(), fashion());
    let merge = ["merge", &a, &b];
    let data = ["--data", "x.npz"];
    let cases: [&[&str]; 14] = [
        &[&merge[..], &data, &["-o", "x.npz"]].concat(),
        &[&merge[..], &data, &["-o", "j.onnx", "--save-plan", "x.npz"]].concat(),
        &[&merge[..], &["--gram", "x.gram", "--gram", "x.gram", "-o", "x.gram"]].concat(),
        &[&merge[..], &["--plan", "x.toml", "-o", "x.toml"]].concat(),
        &[&merge[..], &["--preprocess", "x.json", "-o", "j.onnx", "--report", "x.json"]].concat(),
        &["merge", &a, "apart.onnx", "-o", weights],
        &[&["frontier", &a, &b], &data[..], &["--preprocess", "x.json", "--report", "x.json"]]
            .concat(),
        &[&["calibrate", &a, "-o", "x.npz"], &data[..]].concat(),
        &[&["prune", &a, "--sparsity", "0.5", "-o", "x.npz"], &data[..]].concat(),
        &["prune", "apart.onnx", "--sparsity", "0.5", "-o", weights],
        &[&["retrain", &a, "-o", "j.onnx", "--checkpoint", "x.npz"], &data[..]].concat(),
        &["fix", "apart.onnx", "--input", "x=1", "-o", weights],
        &["strip", "apart.onnx", "-o", weights],
        &["extract", "apart.onnx", "--task", "a", "-o", weights],
    ];
    for case in cases {
        let error = tool.refused(case);
        assert!(error.contains("' is the input '"), "{case:?}: {error}");
    }
    assert_eq!(files(&tool.path(".")), all);
}

#[test]
fn outputs_that_cannot_be_written() {
    let tool = Tool::new();
    tool.write("file", b"");
    for output in ["missing/joint.onnx", "file/joint.onnx", "."] {
        let error = tool.refused(&["merge", &mnist(), &fashion(), "-o", output]);
        assert!(error.contains("write") || error.contains("is a folder"), "{error}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_folder_that_is_read_only_is_noticed_before_the_work() {
    let error = Tool::new().refused(&["merge", &mnist(), &fashion(), "-o", "/proc/joint.onnx"]);
    assert!(error.contains("cannot write into the folder '/proc'"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let (a, b) = (mnist(), fashion());
    let args = ["merge", &a, &b, "-o", "/dev/full", "--share", "0", "--samples", "8", "--quiet"];
    let error = Tool::new().refused(&[&args[..], &["--runtime", "tract"]].concat());
    assert!(error.contains("cannot write '/dev/full'"), "{error}");
}

#[test]
fn runtimes_that_are_not_there() {
    let tool = Tool::new();
    let merge = ["merge", &mnist(), &fashion(), "-o", "joint.onnx"].map(str::to_owned);
    let with = |more: &[&str]| {
        let mut command = tool.command(&merge.iter().map(String::as_str).collect::<Vec<_>>());
        command.args(more).env("CUDA_VISIBLE_DEVICES", "");
        command.env("ORT_DYLIB_PATH", tool.path("nonsense.so"));
        refused(&mut command, &tool.path("."))
    };
    assert!(with(&["--runtime", "ort"]).contains("ONNX Runtime"));
    let error = with(&["--runtime", "tract", "--device", "cuda"]);
    assert!(error.contains("CPU only"), "{error}");
    let mut command = tool.command(&merge.iter().map(String::as_str).collect::<Vec<_>>());
    command.args(["--runtime", "ort", "--device", "cuda"]).env("CUDA_VISIBLE_DEVICES", "");
    refused(&mut command, &tool.path("."));
}

#[test]
fn arguments_that_make_no_sense() {
    let cases: &[(&[&str], &str)] = &[
        (&["--matcher", "best"], "'best'"),
        (&["--method", "magic"], "'magic'"),
        (&["--form", "tree"], "'tree'"),
        (&["--share", "1.5"], "between 0 and 1"),
        (&["--share", "x"], "between 0 and 1"),
        (&["--share", "0.5", "--max-cost", "0.1"], "cannot be used with"),
        (&["--keep-shared", "fc[=3"], "is not a layer pattern"),
        (&["--keep-shared", "fc1"], "gives no share"),
        (&["--keep-shared", "conv*=0.5"], "matches no layer"),
        (&["--keep-shared", "fc1=5000"], "5000 neurons cannot be shared"),
        (&["--alpha", "0.5,0.6"], "sum to 1"),
        (&["--damping", "-1"], "damping"),
        (&["--memory", "much"], "500MB"),
        (&["--samples", "0"], "'0'"),
        (&["--scale", "1/0"], "is no scale"),
        (&["--name", "only"], "2 tasks need as many names, but 1 were given"),
        (&["--name", "a", "--name", "a"], "two tasks are called 'a'"),
        (&["--name", "a/b", "--name", "c"], "cannot name a task"),
        (&["--report", "report.txt"], ".html, .json or .md"),
        (&["--frobnicate"], "--frobnicate"),
    ];
    for (more, expected) in cases {
        let error = arguments(more);
        assert!(error.contains(expected), "{more:?}: {error}");
    }
}

#[test]
fn one_model_is_too_few_to_merge() {
    let (tool, a, b) = (Tool::new(), mnist(), fashion());
    let error = tool.refused(&["merge", &a, "-o", "joint.onnx"]);
    assert!(error.contains("1 model was given"), "{error}");
    tool.refused(&["merge", &a, &b]);
}

#[test]
fn a_plan_refuses_inputs_of_strings_as_a_merge_does() {
    let tool = Tool::new();
    let mut model = onnx::load(mnist().as_ref()).unwrap();
    let shape = Some(vec![Dim::Symbol("n".into()), Dim::Known(1)]);
    let strings = TensorType { dtype: DataType::STRING, shape };
    let text = model.graph.add_input("text", strings.clone());
    let echo = model.graph.add_op("Identity", "echo", &[text], []);
    model.graph.set_type(echo, Some(strings));
    model.graph.outputs.push(echo);
    onnx::save(&model, &tool.path("text.onnx"), &SaveOptions::default()).unwrap();
    let planned = tool.refused(&["plan", "text.onnx", &fashion()]);
    assert!(planned.contains("input 'text' takes strings, which cannot be fed"), "{planned}");
    assert_eq!(merging(&tool, "text.onnx"), planned);
}

/// One layer between input and output: there are no hidden neurons to share.
fn one_layer(weight: f32) -> Model {
    let mut graph = Graph::new("g");
    let ty = TensorType {
        dtype: DataType::F32,
        shape: Some(vec![Dim::Symbol("n".into()), Dim::Known(4)]),
    };
    let x = graph.add_input("x", ty);
    let weights = (ndarray::Array2::<f32>::eye(4) * weight).into_dyn();
    let w = graph.add_initializer("w", Tensor::from_f32(&weights));
    let y = graph.add_op("Gemm", "y", &[x, w], []);
    graph.outputs = vec![y];
    Model { ir_version: 8, opsets: [(String::new(), 17)].into(), graph, ..Model::default() }
}

#[test]
fn models_that_have_nothing_in_common() {
    let tool = Tool::new();
    for (name, weight) in [("a.onnx", 1.0), ("b.onnx", 2.0)] {
        onnx::save(&one_layer(weight), &tool.path(name), &Default::default()).unwrap();
    }
    let error = tool.refused(&["merge", "a.onnx", "b.onnx", "-o", "j.onnx", "--runtime", "tract"]);
    assert!(error.contains("a and b have no"), "{error}");
}

use std::fs;

use super::*;
use crate::ir::{DataType, Dim, Graph, Tensor, TensorType};
use crate::onnx::{encode, load};

/// A chain of additions of constants, each `size` bytes of one value.
fn model(name: &str, constants: &[(u8, usize)]) -> Model {
    let mut graph = Graph::new("g");
    let shape = Some(vec![Dim::Unknown]);
    let mut at = graph.add_input("x", TensorType { dtype: DataType::U8, shape });
    for (i, (value, size)) in constants.iter().enumerate() {
        let data = vec![*value; *size].into();
        let tensor = Tensor { dtype: DataType::U8, dims: vec![*size], data };
        let w = graph.add_initializer(&format!("w{i}"), tensor);
        at = graph.add_op("Add", &format!("y{i}"), &[at, w], []);
    }
    graph.outputs.push(at);
    Model { name: name.into(), ir_version: 8, graph, ..Model::default() }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a model says once it went through a file: values keep their order from then on.
fn normal(model: &Model) -> Model {
    crate::onnx::decode(encode(model).unwrap().into(), None, &model.name).unwrap()
}

fn options(external: External, threshold: usize) -> SaveOptions {
    SaveOptions { external, threshold }
}

#[test]
fn a_saved_model_is_the_encoded_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    let model = model("a", &[(1, 10), (2, 5000)]);
    let size = save(&model, &path, &SaveOptions::default()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), encode(&model).unwrap());
    assert_eq!(size, fs::metadata(&path).unwrap().len());
    assert_eq!(names(folder.path()), ["a.onnx"]);
    assert_eq!(load(&path).unwrap(), normal(&model));
}

#[test]
fn large_tensors_move_out_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    let model = model("a", &[(1, 10), (2, 5000), (3, 2000), (2, 5000)]);
    let always = options(External::Always("weights.bin".into()), 1024);
    let size = save(&model, &path, &always).unwrap();
    let data = folder.path().join("weights.bin");
    assert_eq!(fs::metadata(&data).unwrap().len(), 7056, "two tensors, on page and line");
    assert_eq!(size, 7056 + fs::metadata(&path).unwrap().len());
    assert_eq!(load(&path).unwrap(), normal(&model));
    save(&load(&path).unwrap(), &path, &always).unwrap();
    assert_eq!(load(&path).unwrap(), normal(&model), "a model may be saved over its own data");
    assert_eq!(names(folder.path()), ["a.onnx", "weights.bin"]);
}

#[test]
fn large_tensors_move_out_when_the_model_is_too_large() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    let model = model("a", &[(1, 10), (2, 5000)]);
    save_within(&model, &path, &SaveOptions::default(), 1000).unwrap();
    assert_eq!(names(folder.path()), ["a.onnx", "a.onnx.data"]);
    assert_eq!(load(&path).unwrap(), normal(&model));
}

#[test]
fn a_model_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    let model = model("a", &[(1, 5000)]);
    let never = options(External::Never, 0);
    let error = save_within(&model, &path, &never, 1000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let few = save_within(&model, &path, &options(External::Auto, 6000), 1000).unwrap_err();
    assert_eq!(few.kind(), ErrorKind::Unsupported);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn without_large_tensors_there_is_no_data_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    let always = options(External::Always("a.data".into()), 1024);
    save(&model("a", &[(1, 10)]), &path, &always).unwrap();
    assert_eq!(names(folder.path()), ["a.onnx"]);
}

#[test]
fn split_models_share_equal_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("data");
    fs::create_dir(&deep).unwrap();
    let a = model("a", &[(1, 5000), (2, 10), (3, 100)]);
    let b = model("b", &[(4, 5000), (1, 5000), (2, 10)]);
    let (a_path, b_path) = (folder.path().join("a.onnx"), folder.path().join("b.onnx"));
    let shared = deep.join("shared.data");
    let size = save_split(&[(&a, &a_path), (&b, &b_path)], &shared).unwrap();
    let lengths = [&a_path, &b_path, &shared].map(|p| fs::metadata(p).unwrap().len());
    assert_eq!(lengths[2], 8192 + 5000, "5000 bytes, 100 on the next line, 5000 on the next page");
    assert_eq!(size, lengths.iter().sum::<u64>());
    assert_eq!(load(&a_path).unwrap(), normal(&a));
    assert_eq!(load(&b_path).unwrap(), normal(&b));
}

#[test]
fn shared_data_must_lie_below_the_models() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("models");
    fs::create_dir(&deep).unwrap();
    let model = model("a", &[(1, 100)]);
    let path = deep.join("a.onnx");
    for shared in [folder.path().join("shared.data"), path.clone()] {
        let error = save_split(&[(&model, &path)], &shared).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
    assert!(names(&deep).is_empty());
}

#[test]
fn data_files_are_siblings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    for name in ["", ".", "..", "/tmp/a", "b/a", "b/", "a.onnx"] {
        let always = options(External::Always(name.into()), 0);
        let error = save(&model("a", &[(1, 100)]), &path, &always).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{name}");
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn failures_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("a", &[(1, 5000)]);
    fs::write(folder.path().join("file"), "").unwrap();
    fs::create_dir(folder.path().join("dir")).unwrap();
    for (name, cause) in [
        ("dir", "is a directory"),
        ("missing/a.onnx", "No such file or directory"),
        ("file/a.onnx", "Not a directory"),
    ] {
        let path = folder.path().join(name);
        let error = save(&model, &path, &SaveOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        let start = format!("a: cannot write '{}' (", path.display());
        assert!(
            error.to_string().starts_with(&start) && error.to_string().contains(cause),
            "{error}"
        );
    }
    // The data file could be written, the model cannot.
    let always = options(External::Always("a.data".into()), 0);
    save(&model, &folder.path().join("dir"), &always).unwrap_err();
    assert_eq!(names(folder.path()), ["dir", "file"]);
}

#[test]
fn a_failed_save_keeps_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    save(&model("a", &[(1, 10)]), &path, &SaveOptions::default()).unwrap();
    let before = fs::read(&path).unwrap();
    let never = options(External::Never, 0);
    save_within(&model("a", &[(1, 5000)]), &path, &never, 1000).unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[cfg(target_os = "linux")]
#[test]
fn devices_are_written_directly() {
    let model = model("a", &[(1, 5000)]);
    let full = Path::new("/dev/full");
    let error = save(&model, full, &SaveOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("No space left on device"), "{error}");
    save(&model, Path::new("/dev/null"), &SaveOptions::default()).unwrap();
    let always = options(External::Always("a.data".into()), 0);
    let error = save(&model, Path::new("/dev/null"), &always).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(is_device(full) && is_device(Path::new("/dev/null")));
}

#[cfg(unix)]
#[test]
fn saved_files_have_ordinary_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    save(&model("a", &[(1, 10)]), &path, &SaveOptions::default()).unwrap();
    fs::write(folder.path().join("plain"), "").unwrap();
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    assert_eq!(mode("a.onnx"), mode("plain"));
}

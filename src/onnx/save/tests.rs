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

/// The model after one round trip, which fixes the order of its values.
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

/// The data files in a folder.
fn data_files(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name.ends_with(".data")).collect()
}

fn save_within(model: &Model, path: &Path, options: &SaveOptions, limit: u64) -> Result<u64> {
    stage_within(model, path, options, limit, &Silent)?.commit()
}

#[test]
fn large_tensors_move_out_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    let model = model("a", &[(1, 10), (2, 5000), (3, 2000), (2, 5000)]);
    let always = options(External::Always, 1024);
    let size = save(&model, &path, &always).unwrap();
    let data = data_files(folder.path());
    assert_eq!(data.len(), 1);
    let length = fs::metadata(folder.path().join(&data[0])).unwrap().len();
    assert_eq!(length, 7056, "two tensors, on page and line");
    assert_eq!(size, 7056 + fs::metadata(&path).unwrap().len());
    assert_eq!(load(&path).unwrap(), normal(&model));
    save(&load(&path).unwrap(), &path, &always).unwrap();
    assert_eq!(load(&path).unwrap(), normal(&model), "a model may be saved over its own data");
    assert_eq!(names(folder.path()).len(), 2);
}

#[test]
fn data_files_are_called_after_their_contents_and_old_ones_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    let always = options(External::Always, 1024);
    let mine = ["a.onnx.mine.data", "b.onnx.0123456789abcdef.data"];
    mine.iter().for_each(|name| fs::write(folder.path().join(name), "x").unwrap());
    let mut seen = Vec::new();
    for value in [1, 2, 1] {
        let draft = stage(&model("a", &[(value, 5000)]), &path, &always, &Silent).unwrap();
        assert_eq!(load(draft.path()).unwrap(), normal(&model("a", &[(value, 5000)])));
        draft.commit().unwrap();
        let data = data_files(folder.path());
        let ours: Vec<String> = data.into_iter().filter(|d| !mine.contains(&&**d)).collect();
        assert_eq!(ours.len(), 1, "{ours:?}");
        seen.extend(ours);
        assert_eq!(load(&path).unwrap(), normal(&model("a", &[(value, 5000)])));
    }
    assert!(seen[0] == seen[2] && seen[0] != seen[1]);
    save(&model("a", &[(1, 5000)]), &path, &SaveOptions::default()).unwrap();
    assert_eq!(data_files(folder.path()), mine);
}

#[test]
fn large_tensors_move_out_when_the_model_is_too_large() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    let model = model("a", &[(1, 10), (2, 5000)]);
    save_within(&model, &path, &SaveOptions::default(), 1000).unwrap();
    assert_eq!(data_files(folder.path()).len(), 1);
    assert_eq!(load(&path).unwrap(), normal(&model));
}

#[test]
fn a_model_under_another_name_keeps_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("a.onnx"), folder.path().join("a.rejected.onnx"));
    let always = options(External::Always, 1024);
    let staged = |value| stage(&model("a", &[(value, 5000)]), &path, &always, &Silent).unwrap();
    for value in [1, 2] {
        let mut draft = staged(value);
        draft.add_metadata("key", "value").unwrap();
        draft.commit_as(&other).unwrap();
        let data = data_files(folder.path());
        assert!(data.len() == 1 && data[0].starts_with("a.rejected.onnx."), "{data:?}");
    }
    staged(3).commit().unwrap();
    staged(4).commit().unwrap();
    let kept = load(&other).unwrap();
    assert_eq!(kept.graph, normal(&model("a", &[(2, 5000)])).graph);
    assert_eq!(kept.metadata.get("key").map(String::as_str), Some("value"));
    assert_eq!(load(&path).unwrap().graph, normal(&model("a", &[(4, 5000)])).graph);
    assert_eq!(names(folder.path()).len(), 4);
}

#[test]
fn a_draft_is_in_no_place_until_it_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    save(&model("a", &[(1, 10)]), &path, &SaveOptions::default()).unwrap();
    let before = fs::read(&path).unwrap();
    let new = model("a", &[(2, 10)]);
    let draft = || stage(&new, &path, &SaveOptions::default(), &Silent).unwrap();
    assert_eq!(load(draft().path()).unwrap(), normal(&new));
    assert_eq!(fs::read(&path).unwrap(), before);
    draft().commit_as(&folder.path().join("a.rejected.onnx")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(names(folder.path()), ["a.onnx", "a.rejected.onnx"]);
    let mut last = draft();
    last.add_metadata("key", "value").unwrap();
    last.add_text(&folder.path().join("a.json"), "{}").unwrap();
    let bytes = last.bytes().unwrap();
    assert_eq!(last.commit().unwrap(), bytes);
    let found = load(&path).unwrap();
    assert_eq!(found.metadata.get("key").map(String::as_str), Some("value"));
    assert_eq!(found.graph, normal(&new).graph);
    assert_eq!(names(folder.path()), ["a.json", "a.onnx", "a.rejected.onnx"]);
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
    let always = options(External::Always, 1024);
    save(&model("a", &[(1, 10)]), &path, &always).unwrap();
    assert_eq!(names(folder.path()), ["a.onnx"]);
}

#[test]
fn split_models_share_equal_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("deep/tasks");
    let a = model("a", &[(1, 5000), (2, 10), (3, 100)]);
    let b = model("b", &[(4, 5000), (1, 5000), (2, 10)]);
    let size = save_split(&[(&a, "a"), (&b, "b")], &target).unwrap();
    let files = names(&target);
    assert!(files.len() == 3 && files[2].starts_with("weights-"), "{files:?}");
    let lengths: Vec<u64> =
        files.iter().map(|f| fs::metadata(target.join(f)).unwrap().len()).collect();
    assert_eq!(lengths[2], 8192 + 5000, "5000 bytes, 100 on the next line, 5000 on the next page");
    assert_eq!(size, lengths.iter().sum::<u64>());
    assert_eq!(load(&target.join("a.onnx")).unwrap(), normal(&a));
    assert_eq!(load(&target.join("b.onnx")).unwrap(), normal(&b));
    assert_eq!(names(folder.path()), ["deep"]);
}

#[test]
fn a_split_replaces_its_models_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("tasks");
    let net = |value| model("net", &[(value, 5000)]);
    save_split(&[(&net(1), "a"), (&net(1), "old")], &target).unwrap();
    fs::write(target.join("notes.txt"), "mine").unwrap();
    fs::write(target.join("weights-mine.bin"), "mine").unwrap();
    let count = |folder: &Path| names(folder).len();
    save_split(&[(&net(2), "a")], &target).unwrap();
    assert_eq!(load(&target.join("a.onnx")).unwrap().graph, normal(&net(2)).graph);
    assert_eq!(
        load(&target.join("old.onnx")).unwrap().graph,
        normal(&net(1)).graph,
        "still reads its weights"
    );
    assert_eq!(count(&target), 6);
    // A folder inside cannot be linked, so files are replaced one by one.
    fs::create_dir(target.join("sub")).unwrap();
    save_split(&[(&net(3), "a"), (&net(3), "old")], &target).unwrap();
    assert_eq!(load(&target.join("a.onnx")).unwrap().graph, normal(&net(3)).graph);
    assert_eq!(count(&target), 6, "{:?}", names(&target));
    assert_eq!(names(folder.path()), ["tasks"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_split_through_a_link_leaves_the_link() {
    let folder = tempfile::tempdir().unwrap();
    let [target, link] = ["tasks", "link"].map(|name| folder.path().join(name));
    fs::create_dir(&target).unwrap();
    std::os::unix::fs::symlink("tasks", &link).unwrap();
    for value in [1, 2] {
        save_split(&[(&model("net", &[(value, 5000)]), "a")], &link).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(&target).len(), 2);
    }
}

#[test]
fn split_files_stay_in_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let net = model("net", &[(1, 5000)]);
    for name in ["../evil", "/tmp/evil", "..", "", "a\nb", &"x".repeat(300)] {
        let error = save_split(&[(&net, name)], &folder.path().join("tasks")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{name}");
    }
    let twice = save_split(&[(&net, "a"), (&net, "a")], &folder.path().join("tasks"));
    assert_eq!(twice.unwrap_err().kind(), ErrorKind::Usage);
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
fn devices_get_the_whole_model() {
    let model = model("a", &[(1, 5000)]);
    let full = Path::new("/dev/full");
    let error = save(&model, full, &SaveOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("No space left on device"), "{error}");
    save(&model, Path::new("/dev/null"), &SaveOptions::default()).unwrap();
    let always = options(External::Always, 0);
    let error = save(&model, Path::new("/dev/null"), &always).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
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

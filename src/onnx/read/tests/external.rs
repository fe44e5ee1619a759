//! Tensors outside the model file.

use std::path::PathBuf;

use super::*;

/// `y = x + w`, with the one float of `w` kept outside the file.
fn adding(entries: &[(&str, &str)]) -> GraphProto {
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some((*key).into()),
        value: Some((*value).into()),
    };
    let tensor = TensorProto {
        data_location: Some(1),
        external_data: entries.iter().map(entry).collect(),
        float_data: vec![],
        ..constant("w")
    };
    GraphProto { initializer: vec![tensor], ..graph(vec![node("Add", &["x", "w"], &["y"])]) }
}

/// A model in `models/m.onnx` and, beside it, an eight-byte data file; a secret file further up.
fn folder(entries: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    fs::create_dir(&models).unwrap();
    fs::write(folder.path().join("secret"), [0; 8]).unwrap();
    fs::write(models.join("w.data"), [0, 0, 0, 0, 0, 0, 0x80, 0x3f]).unwrap();
    fs::write(models.join("m.onnx"), bytes(adding(entries))).unwrap();
    let path = models.join("m.onnx");
    (folder, path)
}

fn weight(model: &Model) -> Bytes {
    let id = model.graph.value_named("w").unwrap();
    model.graph.initializer(id).unwrap().data.clone()
}

#[test]
fn a_range_of_the_file_is_read() {
    for entries in [
        &[("location", "w.data"), ("offset", "4"), ("length", "4")][..],
        &[("location", "./w.data"), ("offset", "4"), ("checksum", "unused")],
    ] {
        let (_folder, path) = folder(entries);
        assert_eq!(weight(&load(&path).unwrap())[..], 1.0f32.to_le_bytes());
    }
}

#[test]
fn tensors_may_overlap_in_the_file() {
    let (_folder, path) = folder(&[]);
    let mut graph = adding(&[("location", "w.data")]);
    for (name, offset) in [("v", "4"), ("u", "4"), ("t", "0")] {
        let entries = [("location", "./w.data"), ("offset", offset)];
        let mut more = adding(&entries).initializer.remove(0);
        more.name = Some(name.into());
        graph.initializer.push(more);
    }
    let model = decode(bytes(graph), path.parent(), "m").unwrap();
    let data = |name: &str| {
        let id = model.graph.value_named(name).unwrap();
        model.graph.initializer(id).unwrap().data.clone()
    };
    assert_eq!(data("t"), weight(&model));
    assert_eq!(data("u"), data("v"));
    assert_ne!(data("u"), data("t"));
}

#[test]
fn attributes_that_stay_encoded_are_made_whole() {
    let (_folder, path) = folder(&[]);
    let tensor = adding(&[("location", "w.data"), ("offset", "4")]).initializer.remove(0);
    let list = AttributeProto {
        name: Some("list".into()),
        r#type: Some(AttributeType::Tensors as i32),
        tensors: vec![tensor],
        ..AttributeProto::default()
    };
    let listing = NodeProto { attribute: vec![list], ..node("A", &["x"], &["y"]) };
    let model = decode(bytes(graph(vec![listing])), path.parent(), "m").unwrap();
    let (_, node) = model.graph.nodes().next().unwrap();
    let Attribute::Encoded(encoded) = &node.attributes["list"] else { panic!("{node:?}") };
    let list = AttributeProto::decode(encoded.as_slice()).unwrap();
    assert_eq!(list.tensors[0].raw_data.as_deref(), Some(&1.0f32.to_le_bytes()[..]));
    assert!(list.tensors[0].external_data.is_empty());
}

#[test]
fn references_out_of_the_folder_or_the_file_are_refused() {
    let outside = |l: &str| {
        format!(
            "the external data file '{l}' lies outside the model's folder; put it beside the model, and name it there"
        )
    };
    let beyond = "a tensor reaches beyond the end of the external data file 'w.data' (8 bytes); \
                  download the model and its data file again";
    let secret = tempfile::NamedTempFile::new().unwrap();
    let absolute = secret.path().to_str().unwrap();
    for (entries, message) in [
        (&[("location", "../secret")][..], outside("../secret")),
        (&[("location", "a/../../secret")], outside("a/../../secret")),
        (&[("location", absolute)], outside(absolute)),
        (&[("location", "")], outside("")),
        (&[], outside("")),
        (
            &[("location", ".")],
            "the external data '.' is not a file; download the model and its data file again"
                .into(),
        ),
        (&[("location", "w.data"), ("offset", "8")], beyond.into()),
        (&[("location", "w.data"), ("length", "9")], beyond.into()),
        (&[("location", "w.data"), ("offset", "18446744073709551615")], beyond.into()),
        (
            &[("location", "w.data"), ("length", "8")],
            "tensor 'w' of type f32 and shape [1] needs 4 bytes, but has 8".into(),
        ),
        (
            &[("location", "w.data"), ("offset", "-4")],
            "external data has the offset '-4' (invalid digit found in string)".into(),
        ),
        (
            &[("location", "w.data"), ("offset", "+4")],
            "external data has the offset '+4' (invalid digit found in string)".into(),
        ),
        (
            &[("location", "w.data"), ("length", "+4")],
            "external data has the length '+4' (invalid digit found in string)".into(),
        ),
    ] {
        let (_folder, path) = folder(entries);
        let message = format!("{}: {}", path.display(), with_hint(&message));
        assert_error(load(&path), ErrorKind::Format, &message);
    }
}

#[test]
fn a_missing_data_file_is_named() {
    let (_folder, path) = folder(&[("location", "gone.data")]);
    let error = load(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("cannot read the external data file 'gone.data' (No such"));
}

#[test]
fn a_model_in_memory_has_no_data_files() {
    assert_malformed(
        adding(&[("location", "w.data")]),
        "tensors are kept in an external data file, but the model has no folder; \
         load the model from its file",
    );
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_out_of_the_folder() {
    use std::os::unix::fs::symlink;
    let (_folder, path) = folder(&[("location", "link"), ("offset", "4")]);
    let link = path.with_file_name("link");
    symlink("w.data", &link).unwrap();
    assert_eq!(weight(&load(&path).unwrap())[..], 1.0f32.to_le_bytes());
    fs::remove_file(&link).unwrap();
    symlink("../secret", &link).unwrap();
    let error = load(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format);
    assert!(error.to_string().contains("'link' lies outside the model's folder"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_download_cache_links_model_and_data_into_its_blobs() {
    use std::os::unix::fs::symlink;
    let (folder, path) = folder(&[("location", "w.data"), ("offset", "4")]);
    let snapshot = folder.path().join("snapshot");
    fs::create_dir(&snapshot).unwrap();
    symlink(&path, snapshot.join("m.onnx")).unwrap();
    symlink(path.with_file_name("w.data"), snapshot.join("w.data")).unwrap();
    let model = load(&snapshot.join("m.onnx")).unwrap();
    assert_eq!(weight(&model)[..], 1.0f32.to_le_bytes());
    assert_eq!(model.name, "m");
}

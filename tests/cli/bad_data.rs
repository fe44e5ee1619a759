//! Unsuitable data ends in an error that names it, before any work is done.

use ndarray::{Array2, Array4, ArrayD};
use ndarray_npy::{NpzWriter, WritableElement, write_npy};

use crate::tool::{Tool, fashion, images, mnist};

/// The error of a merge with additional arguments.
fn merging(tool: &Tool, more: &[&str]) -> String {
    let (a, b) = (mnist(), fashion());
    let mut args = vec!["merge", &a, &b, "-o", "joint.onnx", "--runtime", "tract"];
    args.extend(more);
    tool.refused(&args)
}

fn save<'n, T: WritableElement>(
    tool: &Tool,
    name: &'n str,
    arrays: &[(&str, ArrayD<T>)],
) -> &'n str {
    let mut archive = NpzWriter::new(std::fs::File::create(tool.path(name)).unwrap());
    for (key, array) in arrays {
        archive.add_array(*key, array).unwrap();
    }
    archive.finish().unwrap();
    name
}

#[test]
fn files_that_are_no_data() {
    let tool = Tool::new();
    tool.write("text.npz", b"not a zip archive");
    tool.write("empty.npy", b"");
    tool.write("samples.csv", b"1,2,3\n");
    for data in ["missing.npz", "text.npz", "empty.npy", "samples.csv", "."] {
        merging(&tool, &["--data", data]);
    }
}

#[test]
fn arrays_that_do_not_fit() {
    let tool = Tool::new();
    let image = |shape: &[usize]| ArrayD::<f32>::zeros(shape);
    let wrong = save(&tool, "shape.npz", &[("image", image(&[10, 3, 5]))]);
    assert!(merging(&tool, &["--data", wrong]).contains("image"));
    let two = [("left", image(&[10, 784])), ("right", image(&[10, 784]))];
    merging(&tool, &["--data", save(&tool, "names.npz", &two)]);
    let none = save(&tool, "none.npz", &[("image", image(&[0, 28, 28]))]);
    merging(&tool, &["--data", none]);
}

#[test]
fn arrays_of_words() {
    let tool = Tool::new();
    let header = "{'descr': '<U1', 'fortran_order': False, 'shape': (1, 784), }\n";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.resize(bytes.len() + 4 * 784, b'a');
    std::fs::write(tool.path("words.npy"), bytes).unwrap();
    merging(&tool, &["--data", "words.npy"]);
}

#[test]
fn as_many_files_as_models_or_one() {
    let (tool, images) = (Tool::new(), images());
    let error = merging(&tool, &["--data", &images, "--data", &images, "--data", &images]);
    assert!(error.contains("samples were given 3 times for 2 models"), "{error}");
}

#[test]
fn numbers_that_are_not_finite() {
    let tool = Tool::new();
    let mut rows = Array4::<f32>::zeros((20, 1, 28, 28));
    rows[(7, 0, 3, 3)] = f32::NAN;
    write_npy(tool.path("nan.npy"), &rows).unwrap();
    let error = merging(&tool, &["--data", "nan.npy"]);
    assert!(error.contains("NaN") || error.contains("finite"), "{error}");
}

#[test]
fn normalisation_that_does_not_fit() {
    let tool = Tool::new();
    write_npy(tool.path("x.npy"), &Array2::<f32>::zeros((20, 784))).unwrap();
    merging(&tool, &["--data", "x.npy", "--mean", "1,2,3,4,5"]);
    merging(&tool, &["--data", "x.npy", "--std", "0"]);
}

#[test]
fn columns_that_feed_nothing() {
    let (tool, images) = (Tool::new(), images());
    let error = merging(&tool, &["--data", &images, "--column", "lables=labels"]);
    assert!(error.contains("'lables' is no input of the models, nor 'labels'"), "{error}");
}

#[test]
fn labels_that_are_no_classes() {
    let tool = Tool::new();
    let path = tool.path("stray.npz");
    let mut archive = NpzWriter::new(std::fs::File::create(&path).unwrap());
    archive.add_array("image", &Array2::<f32>::ones((20, 784))).unwrap();
    archive.add_array("labels", &ndarray::Array1::from_iter(100..120i64)).unwrap();
    archive.finish().unwrap();
    let error = merging(&tool, &["--data", "stray.npz", "--max-drop", "1"]);
    assert!(error.contains("label 100 of sample 0 is none of the model's 10 classes"), "{error}");
}

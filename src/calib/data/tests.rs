//! Datasets from files, as a model's inputs get them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use image::{GrayImage, Luma};
use ndarray::{Array1, Array2, Array3, Array4, array};
use ndarray_npy::{NpzWriter, WritableElement, WriteNpyExt, write_npy};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::ir::{DataType, Dim};

mod formats;
mod prepared;

fn port(name: &str, dtype: DataType, sample: &[usize]) -> Port {
    let batch = Dim::Symbol("batch".into());
    let shape = std::iter::once(batch).chain(sample.iter().map(|size| Dim::Known(*size)));
    Port { name: name.into(), dtype, shape: Some(shape.collect()) }
}

fn image_port() -> Port {
    port("image", DataType::F32, &[1, 2, 3])
}

/// A `.npz` file under construction.
struct Npz {
    dir: TempDir,
    writer: NpzWriter<File>,
}

impl Npz {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let writer = NpzWriter::new_compressed(File::create(dir.path().join("data.npz")).unwrap());
        Npz { dir, writer }
    }

    fn with<T: WriteNpyExt>(mut self, name: &str, array: &T) -> Self {
        self.writer.add_array(name, array).unwrap();
        self
    }

    fn finish(self) -> (TempDir, PathBuf) {
        self.writer.finish().unwrap();
        let path = self.dir.path().join("data.npz");
        (self.dir, path)
    }

    fn open(self, ports: &[Port], options: &DataOptions) -> Result<Dataset> {
        let (_dir, path) = self.finish();
        Dataset::open(&path, ports, options)
    }
}

fn bytes(samples: usize) -> Array3<u8> {
    Array3::from_shape_fn((samples, 2, 3), |(n, h, w)| (10 * n + 3 * h + w) as u8)
}

fn only(batch: Vec<(String, HostArray)>) -> ndarray::ArrayD<f32> {
    assert_eq!(batch.len(), 1);
    batch.into_iter().next().unwrap().1.into_f32().unwrap()
}

fn fails(outcome: Result<Dataset>, expected: &str) {
    let error = outcome.map(|_| "a dataset").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Calibration, "{error}");
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn bytes_are_scaled_and_get_their_channel_axis_batch_by_batch() {
    let options = DataOptions { scale: Some("1/2".parse().unwrap()), ..Default::default() };
    let data = Npz::new()
        .with("pictures", &bytes(5))
        .with("labels", &array![4u8, 3, 2, 1, 0])
        .open(&[image_port()], &options)
        .unwrap();
    assert_eq!((data.len(), data.notes().len()), (5, 0));
    let batch = data.batch(1..3).unwrap();
    assert_eq!(batch[0].0, "image");
    let batch = only(batch);
    assert_eq!(batch.shape(), [2, 1, 2, 3]);
    assert_eq!((batch[[0, 0, 0, 0]], batch[[1, 0, 1, 2]]), (5.0, 12.5));
    assert_eq!(data.labels(1..3), Some(vec![3, 2]));
    assert_eq!(data.labels(3..6), None);
    assert!(data.batch(3..6).is_err());
}

#[test]
fn unscaled_bytes_are_remarked_upon() {
    let data = Npz::new().with("image", &bytes(1)).open(&[image_port()], &DataOptions::default());
    let data = data.unwrap();
    assert!(data.notes()[0].in_flags().contains("'image' unscaled"), "{:?}", data.notes());
    assert_eq!(only(data.batch(0..1).unwrap())[[0, 0, 1, 2]], 5.0);
}

#[test]
fn several_inputs_of_several_types_are_fed_by_name() {
    let ports = [port("ids", DataType::I64, &[2]), port("mask", DataType::Bool, &[2])];
    let data = Npz::new()
        .with("mask", &array![[1u8, 0], [0, 1]])
        .with("ids", &array![[7i32, 8], [9, 10]])
        .open(&ports, &DataOptions::default())
        .unwrap();
    let expected: Vec<(String, HostArray)> = vec![
        ("ids".into(), array![[9i64, 10]].into_dyn().into()),
        ("mask".into(), array![[false, true]].into_dyn().into()),
    ];
    assert_eq!(data.batch(1..2).unwrap(), expected);
}

#[test]
fn channels_last_data_is_transposed_and_normalised_per_channel() {
    let stored = Array4::from_shape_fn((1, 4, 5, 3), |(_, h, w, c)| (100 * c + 10 * h + w) as f64);
    let options =
        DataOptions { mean: vec![0.0, 100.0, 200.0], std: vec![2.0], ..Default::default() };
    let data = Npz::new().with("x", &stored);
    let data = data.open(&[port("x", DataType::F32, &[3, 4, 5])], &options).unwrap();
    let batch = only(data.batch(0..1).unwrap());
    assert_eq!(batch.shape(), [1, 3, 4, 5]);
    assert!((0..3).all(|channel| batch[[0, channel, 2, 4]] == 12.0), "{batch}");
}

#[test]
fn a_split_of_the_data_is_chosen_by_name() {
    let npz = Npz::new()
        .with("train_images", &bytes(4))
        .with("train_labels", &array![0u8, 0, 0, 0])
        .with("test_images", &bytes(2))
        .with("test_labels", &array![1u8, 2]);
    let (_dir, path) = npz.finish();
    let open = |split: Option<&str>| {
        let options = DataOptions { split: split.map(str::to_string), ..Default::default() };
        Dataset::open(&path, &[image_port()], &options)
    };
    assert_eq!(open(Some("test")).unwrap().labels(0..2), Some(vec![1, 2]));
    assert_eq!(open(Some("train")).unwrap().len(), 4);
    fails(open(None), "choose a part of the data with part=train or part=test");
}

#[test]
fn samples_are_chosen_by_number_position_and_seed() {
    let data = Npz::new()
        .with("image", &bytes(20))
        .with("y", &Array1::from_iter(0..20i64))
        .open(&[image_port()], &DataOptions::default())
        .unwrap();
    let labels = |data: &Dataset| data.labels(0..data.len()).unwrap();
    assert_eq!(labels(&data.take(3)), [0, 1, 2]);
    assert_eq!(data.take(99).len(), 20);
    let chosen = data.select(&[7, 3]).unwrap();
    assert_eq!(labels(&chosen), [7, 3]);
    assert_eq!(only(chosen.batch(0..1).unwrap()), only(data.batch(7..8).unwrap()));
    assert!(data.select(&[20]).is_err());

    let subset = data.subset(8, 1);
    assert_eq!(labels(&subset), labels(&data.subset(8, 1)));
    assert_ne!(labels(&subset), labels(&data.subset(8, 2)));
    assert!(labels(&subset).is_sorted());
    assert_eq!(labels(&subset.take(2)), labels(&subset)[..2]);
    assert_eq!(data.subset(99, 1).len(), 20);
    assert_eq!(data.take(5).batches(2).collect::<Vec<_>>(), [0..2, 2..4, 4..5]);
}

#[test]
fn a_single_array_may_be_a_npy_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    write_npy(&path, &array![[1.0f32, 2.0], [3.0, 4.0]]).unwrap();
    let ports = [port("x", DataType::F64, &[2])];
    let data = Dataset::open(&path, &ports, &DataOptions::default()).unwrap();
    let expected: HostArray = array![[3.0f64, 4.0]].into_dyn().into();
    assert_eq!(data.batch(1..2).unwrap(), [("x".to_string(), expected)]);
    let two = [ports[0].clone(), image_port()];
    fails(Dataset::open(&path, &two, &DataOptions::default()), "has no array for input 'image'");
}

#[test]
fn labels_may_be_columns_or_whole_floats_and_are_else_left_out() {
    fn labels<A: WritableElement, D: ndarray::Dimension>(
        array: ndarray::Array<A, D>,
    ) -> Option<Vec<i64>> {
        let npz = Npz::new().with("image", &bytes(2)).with("label", &array);
        let data = npz.open(&[image_port()], &DataOptions::default()).unwrap();
        let left_out = data.notes().iter().any(|note| note.in_flags().contains("'label'"));
        assert_eq!(left_out, !data.has_labels());
        data.labels(0..2)
    }
    assert_eq!(labels(array![[1i32], [2]]), Some(vec![1, 2]));
    assert_eq!(labels(array![1.0f32, 2.0]), Some(vec![1, 2]));
    assert_eq!(labels(array![1.5f32, 2.0]), None);
    assert_eq!(labels(array![[1i64, 0], [0, 1]]), None);
}

#[test]
fn what_does_not_fit_is_told_with_file_array_and_both_sides() {
    let plain = DataOptions::default();
    let npz = |array: &Array2<f32>| Npz::new().with("image", array);
    fails(
        npz(&Array2::zeros((4, 7))).open(&[image_port()], &plain),
        "data.npz: array 'image' has 4 samples of shape 7, but input 'image' is batch×1×2×3",
    );
    fails(npz(&Array2::zeros((0, 6))).open(&[image_port()], &plain), "is empty: its shape is 0×6");
    let mut spoilt = Array2::zeros((4, 6));
    spoilt[[2, 1]] = f32::NAN;
    fails(npz(&spoilt).open(&[image_port()], &plain), "value in sample 2 that is NaN or infinite");
    fails(
        npz(&Array2::zeros((4, 6))).open(&[port("image", DataType::I64, &[6])], &plain),
        "array 'image' is F32, but input 'image' is I64",
    );
    fails(
        npz(&Array2::zeros((4, 6))).with("y", &array![1, 2]).open(&[image_port()], &plain),
        "array 'y' has 2 samples, but array 'image' has 4",
    );
    fails(
        Npz::new().with("image", &ndarray::arr0(1.0f32)).open(&[image_port()], &plain),
        "array 'image' is a single number",
    );
    let scalar = Port { shape: Some(vec![]), ..image_port() };
    let two = npz(&ndarray::arr2(&[[0.0, 1.0]])).open(&[scalar], &plain);
    fails(two, "has several values, but input 'image' is one for all samples");
    fails(npz(&Array2::zeros((4, 6))).open(&[], &plain), "no inputs to feed");
}

#[test]
fn a_scalar_input_is_fed_its_value_for_any_number_of_samples() {
    let scalar = Port { shape: Some(vec![]), ..port("threshold", DataType::F32, &[]) };
    let ports = [scalar, port("image", DataType::F32, &[6])];
    let plain = DataOptions::default();
    let images = || Npz::new().with("image", &Array2::<f32>::zeros((4, 6)));
    for stored in [ndarray::arr0(0.5f32).into_dyn(), ndarray::arr1(&[0.5f32; 4]).into_dyn()] {
        let data = images().with("threshold", &stored).open(&ports, &plain).unwrap();
        assert_eq!(data.len(), 4);
        let batch = data.batch(1..4).unwrap();
        assert_eq!(batch[0].1, HostArray::from(ndarray::arr0(0.5f32).into_dyn()));
        assert_eq!(batch[1].1.shape(), [3, 6]);
    }
    let made_up = Dataset::synthetic(&ports, 5, 1, &plain).unwrap();
    assert_eq!(made_up.batch(2..4).unwrap()[0].1, made_up.batch(0..1).unwrap()[0].1);
}

#[test]
fn whole_batches_stay_whole_in_parts() {
    let data = Dataset::synthetic(&[image_port()], 16, 1, &DataOptions::default()).unwrap();
    let whole = data.filling(6);
    let (some, others) = whole.split(8, 3);
    assert_eq!([whole.len(), some.len(), others.len(), whole.take(1).len()], [12, 6, 6, 6]);
    assert_eq!([data.filling(20).len(), data.take(0).len()], [20, 0]);
}

#[test]
fn integers_out_of_range_are_an_error_of_their_batch() {
    let data = Npz::new().with("ids", &array![[1i64], [300]]);
    let data = data.open(&[port("ids", DataType::U8, &[1])], &DataOptions::default()).unwrap();
    assert!(data.batch(0..1).is_ok());
    let error = data.batch(0..2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Calibration);
    assert!(error.to_string().contains("I64 values do not fit into U8"), "{error}");
}

#[test]
fn unknown_and_missing_files_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        Dataset::open(&dir.path().join(name), &[image_port()], &DataOptions::default())
    };
    for name in ["gone.npz", "gone.npy", "gone", "gone.csv", "gone.tar", "gone.parquet"] {
        assert_eq!(open(name).unwrap_err().kind(), ErrorKind::Io, "{name}");
    }
    std::fs::write(dir.path().join("table.doc"), b"1,2").unwrap();
    fails(open("table.doc"), "table.doc is no kind of data that is known; give a .npz");
    std::fs::write(dir.path().join("images.tar.gz"), b"").unwrap();
    fails(open("images.tar.gz"), "unpack it first");
    std::fs::write(dir.path().join("page.npz"), b"<html>").unwrap();
    fails(open("page.npz"), "page.npz is not a whole .npz archive");
}

#[test]
fn options_that_make_no_sense_are_usage_errors() {
    let options = DataOptions { std: vec![0.0], ..Default::default() };
    let outcome = Npz::new().with("image", &bytes(1)).open(&[image_port()], &options);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn made_up_samples_fill_the_inputs() {
    let symbol = |name: &str| Dim::Symbol(name.into());
    let ports = [
        Port {
            shape: Some(vec![symbol("n"), symbol("length")]),
            ..port("ids", DataType::I64, &[])
        },
        Port { shape: Some(vec![Dim::Unknown, Dim::Unknown, Dim::Known(2)]), ..image_port() },
    ];
    let sized = |names: &[(&str, usize)]| DataOptions {
        dims: names.iter().map(|(name, size)| (name.to_string(), *size)).collect(),
        ..Default::default()
    };
    let made = |options: &DataOptions| Dataset::synthetic(&ports, 4, 9, options);
    fails(made(&sized(&[])), "input 'ids' is I64 n×length");
    fails(made(&sized(&[])), "pass dim=length=N");
    fails(made(&sized(&[("length", 5)])), "pass dim=image:1=N");

    let data = made(&sized(&[("length", 5), ("image:1", 3)])).unwrap();
    assert!(data.notes()[0].in_flags().contains("made up"), "{:?}", data.notes());
    let batch = data.batch(1..4).unwrap();
    assert_eq!((batch[0].1.shape(), batch[0].1.dtype()), (&[3, 5][..], DataType::I64));
    assert_eq!(batch[1].1.shape(), [3, 3, 2]);
    let alone = data.batch(2..3).unwrap();
    assert_eq!(alone[1].1, batch[1].1.slice_rows(1..2).unwrap());
    let unranked = Port { shape: None, ..image_port() };
    fails(Dataset::synthetic(&[unranked], 1, 0, &sized(&[])), "of unknown rank");
    assert_eq!(sized(&[]).dims, BTreeMap::new());
}

#[test]
fn folders_of_images_feed_pixels_and_labels() {
    let dir = tempfile::tempdir().unwrap();
    for (class, shade) in [("b", 200u8), ("a", 100)] {
        std::fs::create_dir(dir.path().join(class)).unwrap();
        let picture = GrayImage::from_pixel(6, 4, Luma([shade]));
        picture.save(dir.path().join(class).join("1.png")).unwrap();
    }
    let options = DataOptions { scale: Some(Scale(0.01)), ..Default::default() };
    let ports = [port("image", DataType::F32, &[3, 2, 3])];
    let data = Dataset::open(dir.path(), &ports, &options).unwrap();
    assert_eq!(data.labels(0..2), Some(vec![0, 1]));
    assert!(data.notes()[0].in_flags().contains("a, b"), "{:?}", data.notes());
    let batch = only(data.batch(0..2).unwrap());
    assert_eq!(batch.shape(), [2, 3, 2, 3]);
    assert_eq!((batch[[0, 2, 1, 2]], batch[[1, 0, 0, 0]]), (1.0, 2.0));
    let two = [ports[0].clone(), image_port()];
    fails(Dataset::open(dir.path(), &two, &options), "has no array for input");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_archives_never_panic(
        cut in 0usize..2000,
        position in 0usize..2000,
        flip in 1u8..,
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let (dir, path) = Npz::new().with("image", &bytes(3)).with("y", &array![1, 2, 3]).finish();
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[position % whole.len()] ^= flip;
        let truncated = whole[..cut % whole.len()].to_vec();
        for damaged in [flipped, truncated, noise] {
            for suffix in ["npz", "npy"] {
                let path = dir.path().join("damaged").with_extension(suffix);
                std::fs::write(&path, &damaged).unwrap();
                if let Ok(data) = Dataset::open(&path, &[image_port()], &DataOptions::default()) {
                    let _ = data.batch(0..data.len());
                }
            }
        }
    }
}

#[test]
fn ids_that_are_no_row_of_the_models_table_are_refused_by_name() {
    let ids = |numbers: Array2<i64>| Npz::new().with("ids", &numbers);
    let tables = [("ids".to_owned(), 5)].into();
    let options = DataOptions { tables, ..DataOptions::default() };
    let ports = [port("ids", DataType::I64, &[2])];
    assert!(ids(array![[0, 4], [-1, 2]]).open(&ports, &options).is_ok());
    for wrong in [7, 5, -6] {
        let error = ids(array![[0, 4], [1, wrong]]).open(&ports, &options);
        fails(error, &format!("has {wrong} in sample 1, but input 'ids' picks rows of a table"));
    }
    let made_up = Dataset::synthetic(&ports, 200, 1, &options).unwrap();
    let numbers = made_up.batch(0..200).unwrap().remove(0).1.integers().unwrap();
    assert!((0..5).all(|id| numbers.iter().any(|n| *n == id)));
    assert!(numbers.iter().all(|n| (0..5).contains(n)));
}

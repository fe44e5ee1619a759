//! Preprocessing against Hugging Face's own processors: `fixtures/data/prepared`, written by
//! `fixtures/prepared.py`.

use std::path::{Path, PathBuf};

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/data").join(name)
}

/// Our results and the expected results of a processor for some samples.
fn prepared(name: &str, samples: &str) -> (ndarray::ArrayD<f32>, ndarray::ArrayD<f32>) {
    let mut archive =
        ndarray_npy::NpzReader::new(File::open(fixture("prepared/expected.npz")).unwrap()).unwrap();
    let expected: ndarray::ArrayD<f32> = archive.by_name(name).unwrap();
    let mut options = DataOptions::default();
    options.preprocess(&fixture(&format!("prepared/{name}.json"))).unwrap();
    let ports = [port("pixel_values", DataType::F32, &expected.shape()[1..])];
    let data = Dataset::open(&fixture(samples), &ports, &options).unwrap();
    let found = only(data.batch(0..data.len()).unwrap());
    assert_eq!(found.shape(), expected.shape(), "{name}");
    (found, expected)
}

fn apart(a: &ndarray::ArrayD<f32>, b: &ndarray::ArrayD<f32>) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).collect()
}

fn furthest(distances: &[f32]) -> f32 {
    distances.iter().copied().max_by(f32::total_cmp).unwrap_or(0.0)
}

#[test]
fn pictures_are_prepared_as_by_their_processors() {
    for name in ["vit", "clip", "convnext", "plain"] {
        let (found, expected) = prepared(name, "prepared/pictures");
        let distances = apart(&found, &expected);
        // Pillow 13 resizes some pictures along their columns first, which rounds some values to the
        // other one of two neighbouring levels. The bound is one level, divided by the smallest
        // deviation.
        assert!(furthest(&distances) < 1.01 / 255.0 / 0.26, "{name}: {}", furthest(&distances));
        let others = distances.iter().filter(|distance| **distance > 1e-5).count();
        assert!(others * 50 < distances.len(), "{name}: {others} of {}", distances.len());
    }
}

#[test]
fn sounds_are_prepared_as_by_their_extractors() {
    for name in ["masked", "whole"] {
        let (found, expected) = prepared(name, "formats/tones");
        let distance = furthest(&apart(&found, &expected));
        assert!(distance < 1e-4, "{name}: {distance}");
    }
}

#[test]
fn a_model_of_another_size_is_told() {
    let mut options = DataOptions::default();
    options.preprocess(&fixture("prepared/vit.json")).unwrap();
    let ports = [port("x", DataType::F32, &[3, 32, 32])];
    fails(
        Dataset::open(&fixture("prepared/pictures"), &ports, &options),
        "input 'x' takes images of 32x32, but the preprocessing makes 20x24",
    );
    // Given options have priority over the file.
    options.resize = Some("40x40".parse().unwrap());
    let data = Dataset::open(&fixture("prepared/pictures"), &ports, &options).unwrap();
    assert_eq!(only(data.batch(0..2).unwrap()).shape(), [2, 3, 32, 32]);
}

#[test]
fn states_of_recurrent_layers_count_samples_along_their_second_axis() {
    let shape = vec![Dim::Known(2), Dim::Symbol("batch".into()), Dim::Known(3)];
    let state = Port { name: "h".into(), dtype: DataType::F32, shape: Some(shape) };
    let ports = [state, port("sound", DataType::F32, &[6])];
    let plain = DataOptions::default();
    let samples = Array3::from_shape_fn((5, 2, 3), |(n, l, h)| (100 * n + 10 * l + h) as f32);
    let as_input = samples.clone().permuted_axes([1, 0, 2]).as_standard_layout().into_owned();
    for stored in [samples, as_input.clone()] {
        let sounds = Npz::new().with("sound", &Array2::<f32>::zeros((5, 6)));
        let data = sounds.with("h", &stored).open(&ports, &plain).unwrap();
        let batch = data.batch(1..4).unwrap();
        let wanted = as_input.slice(ndarray::s![.., 1..4, ..]).to_owned();
        assert_eq!(batch[0].1, HostArray::from(wanted.into_dyn()));
        assert_eq!(batch[1].1.shape(), [3, 6]);
    }
    let made = Dataset::synthetic(&ports, 4, 1, &plain).unwrap();
    assert_eq!(made.batch(0..4).unwrap()[0].1.shape(), [2, 4, 3]);
    let one = made.batch(2..3).unwrap();
    assert_eq!(one[0].1.shape(), [2, 1, 3]);
}

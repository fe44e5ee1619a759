//! Files beside models: statistics and samples.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat};
use ndarray::{Array1, Array2, Array4};
use ndarray_npy::{NpzWriter, WriteNpyExt};
use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::calib::gram::Moments;
use onnx_zip::calib::net::{LayerInputs, NetStatistics, Spread};
use onnx_zip::calib::sensitivity::Sensitivity;
use onnx_zip::calib::store::{self, Meta};
use onnx_zip::ir::{DataType, Dim};
use onnx_zip::progress::Silent;
use onnx_zip::runtime::Port;

/// Number of kinds of files.
pub const KINDS: usize = NAMES.len();

const NAMES: &[&str] = &["a.gram", "a.npz", "a.npy", "images/a.png", "images/a.jpg"];

/// A valid file of a kind.
pub fn seed(kind: usize) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let array = Array4::from_shape_fn((2, 1, 6, 5), |(n, _, y, x)| (n + y * x) as f32);
    let picture = || DynamicImage::new_rgb8(5, 6);
    let mut bytes = Cursor::new(Vec::new());
    match kind {
        0 => {
            let path = folder.path().join("a.gram");
            store::save(&path, &statistics(), &meta(), &Silent).expect("statistics");
            return fs::read(path).expect("statistics");
        }
        1 => {
            let mut writer = NpzWriter::new_compressed(&mut bytes);
            writer.add_array("x", &array).expect("an array");
            writer.finish().expect("an archive");
        }
        2 => array.write_npy(&mut bytes).expect("an array"),
        3 => picture().write_to(&mut bytes, ImageFormat::Png).expect("a picture"),
        _ => picture().write_to(&mut bytes, ImageFormat::Jpeg).expect("a picture"),
    }
    bytes.into_inner()
}

/// Statistics with every part.
fn statistics() -> NetStatistics {
    let mut moments = Moments::new(3);
    let rows = Array2::from_shape_fn((4, 3), |(i, j)| (i + j) as f32);
    moments.push(rows.view()).expect("moments");
    let spread = Spread::new(moments.clone(), Some(moments));
    let (channels, metric) = (Array1::ones(2), Some(Array2::eye(2)));
    let sensitivity = Sensitivity { channels, metric, coherence: 2.0 };
    NetStatistics {
        layers: [
            ("conv".to_owned(), spread.clone().into()),
            ("depthwise".to_owned(), LayerInputs::Channels(vec![spread; 2])),
            ("table".to_owned(), LayerInputs::Counts(Array1::ones(5))),
        ]
        .into(),
        sensitivities: [("conv".to_owned(), sensitivity)].into(),
    }
}

fn meta() -> Meta {
    Meta { model_sha256: "ab".into(), samples: 4, sensitivity_samples: 4, ..Meta::default() }
}

/// Reads a file of a kind.
pub fn read(kind: usize, bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(NAMES[kind]);
    fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).expect("a folder");
    fs::write(&path, bytes).expect("a file");
    if kind == 0 {
        let Ok((moments, meta)) = store::load(&path) else { return };
        let _ = store::merge(vec![(moments.clone(), meta.clone()), (moments, meta)]);
        return;
    }
    let data = if kind > 2 { folder.path().join("images") } else { path };
    let channels = if kind > 2 { 3 } else { 1 };
    let shape = [Dim::Symbol("n".into()), Dim::Known(channels), Dim::Known(6), Dim::Known(5)];
    let port = Port { name: "x".into(), dtype: DataType::F32, shape: Some(shape.into()) };
    let Ok(samples) = Dataset::open(&data, &[port], &DataOptions::default()) else { return };
    let _ = samples.batch(0..samples.len().min(8));
}

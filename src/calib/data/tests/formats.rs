//! The same samples in every format: `fixtures/data/formats`, written by `fixtures/formats.py` with the
//! usual libraries.

use std::path::{Path, PathBuf};

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/data/formats").join(name)
}

fn opened(name: &str, port: &Port, options: &DataOptions) -> Dataset {
    Dataset::open(&fixture(name), std::slice::from_ref(port), options).unwrap()
}

/// Samples and labels of a file.
fn content(data: &Dataset) -> (ndarray::ArrayD<f32>, Option<Vec<i64>>) {
    (only(data.batch(0..data.len()).unwrap()), data.labels(0..data.len()))
}

fn with_part(part: &str) -> DataOptions {
    DataOptions { split: Some(part.into()), ..Default::default() }
}

fn digits() -> Port {
    port("pixels", DataType::F32, &[1, 28, 28])
}

#[test]
fn every_format_gives_the_samples_and_labels_of_the_archive() {
    let plain = DataOptions::default();
    let expected = content(&opened("digits.npz", &digits(), &plain));
    assert_eq!(expected.0.shape(), [40, 1, 28, 28]);
    let names =
        ["digits.safetensors", "digits", "digits.csv", "bare.tsv", "shards", "flat.parquet"];
    for name in names {
        assert_eq!(content(&opened(name, &digits(), &plain)), expected, "{name}");
    }
    assert_eq!(content(&opened("hub", &digits(), &with_part("train"))), expected);
    let (samples, labels) = content(&opened("digits.npy", &digits(), &plain));
    assert_eq!((&samples, labels), (&expected.0, None));
}

#[test]
fn samples_are_read_in_any_order_and_more_than_once() {
    let plain = DataOptions::default();
    let (expected, _) = content(&opened("digits.npz", &digits(), &plain));
    let order = [39, 3, 3, 20, 0, 21, 19, 7, 38];
    for (name, options) in
        [("hub", with_part("train")), ("flat.parquet", plain.clone()), ("shards", plain.clone())]
    {
        let data = opened(name, &digits(), &options);
        for _ in 0..2 {
            let chosen = data.select(&order).unwrap();
            let found = only(chosen.batch(0..order.len()).unwrap());
            assert_eq!(found, expected.select(ndarray::Axis(0), &order), "{name}");
        }
    }
}

#[test]
fn one_shard_is_a_part_of_the_samples() {
    let plain = DataOptions::default();
    let (expected, labels) = content(&opened("digits.npz", &digits(), &plain));
    let first = |rows: usize| expected.slice_axis(ndarray::Axis(0), (0..rows).into()).to_owned();
    let (samples, own) = content(&opened("shards/digits-0.tar", &digits(), &plain));
    assert_eq!((samples, own), (first(20), labels.clone().map(|all| all[..20].to_vec())));
    let (samples, own) = content(&opened("hub", &digits(), &with_part("test")));
    assert_eq!((samples, own), (first(3), labels.map(|all| all[..3].to_vec())));
    let open = |options: &DataOptions| Dataset::open(&fixture("hub"), &[digits()], options);
    fails(open(&plain), "several parts of a dataset: test, train; choose a part");
    fails(open(&with_part("dev")), "no files of its part 'dev'");
}

#[test]
fn labels_and_inputs_come_from_the_columns_that_are_named() {
    let columns = |pairs: &[(&str, &str)]| DataOptions {
        columns: pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect(),
        ..with_part("train")
    };
    let (_, expected) = content(&opened("digits.npz", &digits(), &DataOptions::default()));
    let words = opened("hub", &digits(), &columns(&[("labels", "word")]));
    assert_eq!(words.labels(0..40), expected);
    assert!(words.notes().iter().any(|note| note.in_flags().contains("'word' in order: c0, c1")));
    let ids = opened("hub", &digits(), &columns(&[("labels", "id")]));
    assert_eq!(ids.labels(0..40), Some((0..40).collect()));
    let two = [digits(), port("id", DataType::F32, &[1])];
    let data = Dataset::open(&fixture("hub"), &two, &columns(&[("pixels", "image")])).unwrap();
    let batch = data.batch(5..7).unwrap();
    assert_eq!(batch[1].1, array![[5.0f32], [6.0]].into_dyn().into());
    let text = columns(&[("pixels", "word")]);
    fails(Dataset::open(&fixture("hub"), &[digits()], &text), "'word' holds words");
}

#[test]
fn sounds_are_cut_and_padded_to_the_length_of_the_input() {
    let plain = DataOptions::default();
    let tones = port("sound", DataType::F32, &[320]);
    let expected = content(&opened("tones.npz", &tones, &plain));
    let data = opened("tones", &tones, &plain);
    assert_eq!(content(&data), expected);
    assert!(
        data.notes()
            .iter()
            .any(|note| note.in_flags().contains("cut or padded at their end to 320"))
    );
    let with_channel = opened("tones", &port("sound", DataType::F32, &[1, 320]), &plain);
    assert_eq!(only(with_channel.batch(2..3).unwrap()).shape(), [1, 1, 320]);
    let open =
        |port: Port, options: &DataOptions| Dataset::open(&fixture("tones"), &[port], options);
    let symbol = vec![Dim::Symbol("n".into()), Dim::Symbol("time".into())];
    let any = Port { shape: Some(symbol), ..tones.clone() };
    fails(open(any.clone(), &plain), "leaves the length of sounds open; give it with dim");
    let sized = DataOptions { dims: [("time".into(), 320)].into(), ..plain.clone() };
    assert_eq!(content(&open(any, &sized).unwrap()), expected);
    fails(open(port("sound", DataType::F32, &[80, 100]), &plain), "no sounds of one channel");
    let steps = SoundSteps { rate: Some(16_000), ..Default::default() };
    let other = open(tones, &DataOptions { sound: steps, ..plain }).unwrap();
    let error = other.batch(0..1).unwrap_err().to_string();
    assert!(error.contains("has 8000 samples a second, but the preprocessing asks for 16000"));
}

#[test]
fn arrays_in_files_are_looked_at_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let mut rows = Array2::<f32>::zeros((9, 3));
    rows[[7, 1]] = f32::INFINITY;
    write_npy(&path, &rows).unwrap();
    let port = port("x", DataType::F32, &[3]);
    fails(
        Dataset::open(&path, &[port], &DataOptions::default()),
        "array 'x' has a value in sample 7 that is NaN or infinite",
    );
}

/// An archive of members.
fn archive(folder: &TempDir, members: &[(&str, &[u8])]) -> PathBuf {
    let path = folder.path().join("d.tar");
    let mut archive = ::tar::Builder::new(File::create(&path).unwrap());
    for (name, content) in members {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.finish().unwrap();
    path
}

#[test]
fn members_that_are_arrays_are_stacked_and_those_that_lack_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let npy = |values: &[f32]| {
        let mut bytes = Vec::new();
        Array1::from_vec(values.to_vec()).write_npy(&mut bytes).unwrap();
        bytes
    };
    let (one, two, long) = (npy(&[1.0, 2.0]), npy(&[3.0, 4.0]), npy(&[5.0, 6.0, 7.0]));
    let ports = [port("x", DataType::F32, &[2])];
    let open = |members: &[(&str, &[u8])]| {
        Dataset::open(&archive(&dir, members), &ports, &DataOptions::default())
    };
    let all: [(&str, &[u8]); 4] =
        [("a.npy", &one), ("a.cls", b"1"), ("b.npy", &two), ("b.cls", b"0")];
    let data = open(&all).unwrap();
    assert_eq!(only(data.batch(0..2).unwrap()), array![[1.0f32, 2.0], [3.0, 4.0]].into_dyn());
    assert_eq!(data.labels(0..2), Some(vec![1, 0]));
    fails(open(&all[..3]), "has no 'b.cls', which other samples have");
    fails(open(&[all[0], all[0]]), "has 'a.npy' twice");
    let error = open(&[("a.npy", &one), ("b.npy", &long)]).unwrap().batch(0..2).unwrap_err();
    assert!(format!("{error}").contains("b.npy is of another shape or type than a.npy"), "{error}");
    fails(open(&[]), "holds no samples");
}

#[test]
fn archives_that_are_cut_between_members_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixture("shards/digits-0.tar")).unwrap();
    let path = dir.path().join("cut.tar");
    let open = |length: usize| {
        std::fs::write(&path, &whole[..length]).unwrap();
        Dataset::open(&path, &[digits()], &DataOptions::default())
    };
    let marks = whole.len() - whole.iter().rev().take_while(|byte| **byte == 0).count();
    let end = marks.next_multiple_of(512);
    assert_eq!(open(whole.len()).unwrap().len(), 20);
    assert_eq!(open(end + 512).unwrap().len(), 20);
    for length in (0..=end).step_by(512).skip(1) {
        fails(open(length), "is not a whole .tar archive");
    }
    fails(open(20_000), "is not a whole .tar archive");
}

#[test]
fn files_of_other_kinds_in_a_folder_are_noted() {
    let dir = tempfile::tempdir().unwrap();
    let put = |from: &str, to: &str| {
        std::fs::copy(fixture(from), dir.path().join(to)).unwrap();
    };
    let open = || Dataset::open(dir.path(), &[digits()], &DataOptions::default());
    put("digits.npz", "digits.npz");
    let error = open().unwrap_err().to_string();
    assert!(error.contains("holds no images and no sounds"), "{error}");
    assert!(error.contains("name the file: data=") && error.ends_with("digits.npz"), "{error}");
    put("shards/digits-0.tar", "digits-0.tar");
    put("flat.parquet", "notes.txt");
    let data = open().unwrap();
    assert_eq!(data.len(), 20);
    let note = data.notes().first().map(|note| note.in_flags()).unwrap_or_default();
    assert!(note.ends_with("unused files of other kinds: 1 (.npz)"), "{note}");
}

#[cfg(feature = "parquet")]
#[test]
fn a_compression_that_is_not_read_is_named() {
    let opened = Dataset::open(&fixture("gzip.parquet"), &[digits()], &DataOptions::default());
    let error = opened.and_then(|data| data.batch(0..1)).map(|_| "samples").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Calibration);
    let error = error.to_string();
    assert!(
        error.contains("compressed by GZIP") && error.contains("compression='zstd'"),
        "{error}"
    );
}

#[test]
fn inputs_of_strings_cannot_be_fed() {
    let strings = port("text", DataType::STRING, &[1]);
    let plain = DataOptions::default();
    let open = Dataset::open(&fixture("digits.npz"), std::slice::from_ref(&strings), &plain);
    let made = Dataset::synthetic(&[strings], 3, 0, &plain);
    for outcome in [open, made] {
        let error = outcome.map(|_| "a dataset").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(text.contains("input 'text' takes strings, which cannot be fed"), "{text}");
    }
}

#[test]
fn options_are_named_only_where_they_help() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let shown = |sample: &[usize], port: Port, options: &DataOptions| {
        let shape: Vec<usize> = std::iter::once(2).chain(sample.iter().copied()).collect();
        write_npy(&path, &ndarray::ArrayD::<f32>::zeros(shape)).unwrap();
        Dataset::open(&path, &[port], options).map(|_| "a dataset").unwrap_err().to_string()
    };
    let plain = DataOptions::default();
    let open = |port: Port| {
        let named = |name: &str| Dim::Symbol(name.into());
        Port { shape: Some(vec![named("batch"), Dim::Known(1), named("h"), named("w")]), ..port }
    };
    let unhelped = [
        shown(&[20, 28], digits(), &plain),
        shown(&[28, 28, 3], digits(), &plain),
        shown(&[28, 28, 3], open(digits()), &plain),
    ];
    for text in unhelped {
        assert!(text.contains("but input 'pixels' is"), "{text}");
        assert!(!text.contains("layout") && !text.contains("with dim"), "{text}");
    }
    let nchw = DataOptions { layout: Some(Layout::Nchw), ..plain.clone() };
    let turned = shown(&[28, 28, 3], port("pixels", DataType::F32, &[3, 28, 28]), &nchw);
    assert!(turned.contains("change or leave out layout"), "{turned}");
    let flat = shown(&[784], open(digits()), &plain);
    assert!(flat.contains("leaves open with dim"), "{flat}");
    let sized = DataOptions { dims: [("h".into(), 20)].into(), ..plain };
    let other = shown(&[1, 28, 28], open(digits()), &sized);
    assert!(other.contains("leaves open with dim"), "{other}");
}

/// An array whose file claims a shape, but holds no elements.
struct Hollow([usize; 3]);

impl WriteNpyExt for Hollow {
    fn write_npy<W: std::io::Write>(
        &self,
        mut writer: W,
    ) -> std::result::Result<(), ndarray_npy::WriteNpyError> {
        let [a, b, c] = self.0;
        let header =
            format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({a}, {b}, {c})}}\n");
        writer.write_all(b"\x93NUMPY\x01\x00")?;
        writer.write_all(&(header.len() as u16).to_le_bytes())?;
        Ok(writer.write_all(header.as_bytes())?)
    }
}

#[test]
fn masks_under_the_name_of_labels_are_not_unpacked() {
    let npz =
        |masks: [usize; 3]| Npz::new().with("image", &bytes(5)).with("labels", &Hollow(masks));
    let data = npz([5, 2, 3]).open(&[image_port()], &DataOptions::default()).unwrap();
    assert!(!data.has_labels());
    let notes: Vec<String> = data.notes().iter().map(|note| note.in_flags()).collect();
    assert!(notes.iter().any(|note| note.contains("not one integer per sample")), "{notes:?}");
    let error = npz([5, 1, 1]).open(&[image_port()], &DataOptions::default());
    fails(error, "has 0 bytes of data where its shape [5, 1, 1] takes 5");
}

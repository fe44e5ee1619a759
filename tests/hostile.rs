//! Reading any bytes as a model ends in a model or an error, and such a model can be written again.
//! Reading any bytes as samples ends in samples or an error.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::canon::{CanonOptions, canonicalise};
use onnx_zip::ir::{
    Attribute, DataType, Dim, Graph, Model, Node, Tensor, TensorType, ValueKind, text,
};
use onnx_zip::onnx;
use onnx_zip::runtime::Port;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A small model that uses most of the format.
fn valid() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut g = Graph::new("g");
        let shape = Some(vec![Dim::Symbol("n".into()), Dim::Known(2), Dim::Unknown]);
        let x = g.add_input("x", TensorType { dtype: DataType::F32, shape });
        let c = g.add_input("c", TensorType { dtype: DataType::Bool, shape: Some(Vec::new()) });
        let w = g.add_initializer("w", Tensor::from_i64(vec![2, 1], &[3, -1]));
        let mut branch = Graph::new("branch");
        let seen = branch.add_value("x", ValueKind::Captured(x), None);
        let z = branch.add_op("Neg", "z", &[seen], [("alpha", Attribute::Float(0.5))]);
        branch.outputs.push(z);
        let y = g.add_value("y", ValueKind::Detached, None);
        let branch = || Attribute::Graph(Box::new(branch.clone()));
        g.add_node(Node {
            name: "choice".into(),
            op: "If".into(),
            inputs: vec![Some(c)],
            outputs: vec![Some(y)],
            attributes: [("then_branch".into(), branch()), ("else_branch".into(), branch())].into(),
            ..Node::default()
        });
        let r = g.add_op("Reshape", "r", &[y, w], [("axes", Attribute::Ints(vec![0, 1]))]);
        g.set_type(y, Some(TensorType { dtype: DataType::F32, shape: None }));
        g.outputs = vec![r, y];
        let opsets = [(String::new(), 21)].into();
        let metadata = [("task".to_owned(), "a".to_owned())].into();
        let model = Model { ir_version: 10, opsets, metadata, graph: g, ..Model::default() };
        onnx::encode(&model).unwrap()
    })
}

/// Reads a model, and uses all parts of it if that succeeds.
fn exercise(bytes: Vec<u8>) {
    let Ok(model) = onnx::decode(bytes.into(), None, "m") else { return };
    let _ = text::dump(&model.graph);
    let _ = canonicalise(model.clone(), &CanonOptions::default());
    let written = onnx::encode(&model).unwrap();
    let again = onnx::decode(written.clone().into(), None, "m").unwrap();
    assert_eq!(onnx::encode(&again).unwrap(), written);
}

#[test]
fn the_valid_model_is_valid() {
    assert!(onnx::decode(valid().into(), None, "m").is_ok());
    exercise(valid().to_vec());
}

#[test]
fn every_truncation_is_read_without_panic() {
    for length in 0..valid().len() {
        exercise(valid()[..length].to_vec());
    }
}

#[test]
fn every_change_of_one_byte_is_read_without_panic() {
    for position in 0..valid().len() {
        for change in [0x01, 0x07, 0x80, 0xff] {
            let mut bytes = valid().to_vec();
            bytes[position] ^= change;
            exercise(bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..300)) {
        exercise(bytes);
    }

    #[test]
    fn mutated_models_are_read_without_panic(
        edits in vec((any::<Index>(), any::<u8>()), 1..8),
        cut in any::<Index>(),
        insert in vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = valid().to_vec();
        for (position, value) in edits {
            let position = position.index(bytes.len());
            bytes[position] = value;
        }
        let at = cut.index(bytes.len());
        bytes.splice(at..at, insert);
        exercise(bytes);
    }

    #[test]
    fn models_with_parts_moved_are_read_without_panic(
        from in any::<Index>(), to in any::<Index>(), length in 0usize..64,
    ) {
        let mut bytes = valid().to_vec();
        let from = from.index(bytes.len());
        let part: Vec<u8> = bytes.iter().skip(from).take(length).copied().collect();
        let to = to.index(bytes.len());
        bytes.splice(to..to, part);
        exercise(bytes);
    }
}

/// Files of samples: the suffix of the format, the file, and the size of the input that it feeds.
const SAMPLES: [(&str, &str, usize); 7] = [
    ("digits.npy", "npy", 784),
    ("digits.safetensors", "safetensors", 784),
    ("digits.npz", "npz", 784),
    ("shards/digits-1.tar", "tar", 784),
    ("hub/data/test-00000-of-00001.parquet", "parquet", 784),
    ("flat.parquet", "parquet", 784),
    ("tones/deep/2.wav", "wav", 320),
];

fn sample_file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/data/formats");
    fs::read(folder.join(name)).unwrap()
}

fn input(size: usize) -> Port {
    // Digits are pictures, tones are rows of numbers.
    let sample = if size == 784 { vec![28, 28] } else { vec![size] };
    let shape = std::iter::once(Dim::Symbol("n".into())).chain(sample.into_iter().map(Dim::Known));
    Port { name: "x".into(), dtype: DataType::F32, shape: Some(shape.collect()) }
}

/// Reads a few samples and all labels from bytes; returns the error, if any.
fn read_samples(bytes: &[u8], suffix: &str, size: usize) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("d").with_extension(suffix);
    fs::write(&file, bytes).unwrap();
    let place: PathBuf = if suffix == "wav" { folder.path().into() } else { file };
    let read = Dataset::open(&place, &[input(size)], &DataOptions::default()).and_then(|data| {
        let rows = data.len();
        data.labels(0..rows);
        data.batch(0..rows.min(3)).and_then(|_| data.batch(rows.saturating_sub(1)..rows))
    });
    read.err().map(|error| error.to_string())
}

#[test]
fn cut_and_spoilt_samples_are_answered() {
    for (name, suffix, size) in SAMPLES {
        let whole = sample_file(name);
        assert_eq!(read_samples(&whole, suffix, size), None, "{name}");
        for part in 0..40 {
            let cut = &whole[..whole.len() * part / 40];
            let error = read_samples(cut, suffix, size);
            // An archive may end after any sample, and only the beginning of a sound is read.
            let may_do = matches!(suffix, "tar" | "wav");
            assert!(may_do || error.is_some(), "{name} cut at {}", cut.len());
        }
        // Headers are at the beginning; those of Parquet and archives at the end.
        for position in (0..200).chain(whole.len() - 700..whole.len()).step_by(7) {
            let mut spoilt = whole.clone();
            spoilt[position] ^= 0xff;
            read_samples(&spoilt, suffix, size);
        }
    }
}

#[test]
fn samples_that_claim_too_much_are_refused() {
    let refused = |bytes: &[u8], suffix: &str, expected: &str| {
        let error = read_samples(bytes, suffix, 784).unwrap();
        assert!(error.contains(expected), "{suffix}: {error}");
    };
    let mut header = u64::MAX.to_le_bytes().to_vec();
    header.extend(b"{}");
    refused(&header, "safetensors", "claims a header of");
    let tensors =
        br#"{"x":{"dtype":"F32","shape":[4000000000,784],"data_offsets":[0,12544000000000]}}"#;
    let mut large = (tensors.len() as u64).to_le_bytes().to_vec();
    large.extend(tensors);
    refused(&large, "safetensors", "bytes where its header says");

    let member = |kind: tar::EntryType, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_path("a.png").unwrap();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    refused(&member(tar::EntryType::Regular, 1 << 40), "tar", "ends within a member");
    refused(&member(tar::EntryType::GNULongName, 1 << 40), "tar", "ends within a member");
    refused(b"a,b\n1,2,3\n", "csv", "more than 2 cells in row 1");
    refused(format!("x\n{}", "a".repeat(1 << 17)).as_bytes(), "csv", "endless cell");
    refused(b"x,y\n", "csv", "holds no rows");
}

/// A picture that claims to be huge.
fn bomb() -> Vec<u8> {
    let chunk = |kind: &[u8; 4], content: &[u8]| {
        let mut sum = flate2::Crc::new();
        sum.update(kind);
        sum.update(content);
        let length = (content.len() as u32).to_be_bytes();
        [&length[..], kind, content, &sum.sum().to_be_bytes()].concat()
    };
    let size = 60_000u32.to_be_bytes();
    let head = [&size[..], &size, &[8, 2, 0, 0, 0]].concat();
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&[0; 100_000]).unwrap();
    let parts =
        [chunk(b"IHDR", &head), chunk(b"IDAT", &packed.finish().unwrap()), chunk(b"IEND", &[])];
    [b"\x89PNG\r\n\x1a\n", parts.concat().as_slice()].concat()
}

#[test]
fn pictures_and_sounds_that_claim_too_much_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str, bytes: &[u8], size: usize| {
        let place = folder.path().join(name);
        fs::create_dir(&place).unwrap();
        fs::write(place.join(if size == 784 { "a.png" } else { "a.wav" }), bytes).unwrap();
        let data = Dataset::open(&place, &[input(size)], &DataOptions::default());
        data.and_then(|data| data.batch(0..1)).unwrap_err().to_string()
    };
    let error = open("bomb", &bomb(), 784);
    assert!(error.contains("a.png is not a whole image"), "{error}");
    let mut wave = sample_file("tones/deep/1.wav");
    wave.truncate(100);
    let error = open("sound", &wave, 320);
    assert!(error.contains("a.wav is not a whole sound"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn changed_samples_are_answered(
        which in 0..SAMPLES.len(),
        edits in vec((any::<Index>(), any::<u8>()), 1..8),
    ) {
        let (name, suffix, size) = SAMPLES[which];
        let mut bytes = sample_file(name);
        for (position, value) in edits {
            let position = position.index(bytes.len());
            bytes[position] = value;
        }
        read_samples(&bytes, suffix, size);
    }

    #[test]
    fn any_text_is_answered_as_a_table_or_a_preprocessing(text in "[\\x20-\\x7e\n\"{}:,\\[\\]]{0,200}") {
        read_samples(text.as_bytes(), "csv", 784);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.json");
        fs::write(&file, &text).unwrap();
        let _ = DataOptions::default().preprocess(&file);
    }
}

//! Arrays as NumPy writes them, and damaged ones.

use super::*;
use half::f16;
use ndarray::{Array2, ShapeBuilder, array};
use ndarray_npy::WriteNpyExt;
use proptest::prelude::*;

fn bytes_of<T: WriteNpyExt>(array: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    array.write_npy(&mut bytes).unwrap();
    bytes
}

fn read_all(bytes: &[u8]) -> Result<HostArray, String> {
    read(bytes, bytes.len() as u64)
}

/// A file as NumPy writes it, from the parts of its header.
fn file(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn every_type_is_read() {
    assert_eq!(read_all(&bytes_of(&array![1u8, 255])).unwrap(), array![1u8, 255].into_dyn().into());
    assert_eq!(read_all(&bytes_of(&array![-1i8])).unwrap(), array![-1i8].into_dyn().into());
    assert_eq!(read_all(&bytes_of(&array![-2i16])).unwrap(), array![-2i32].into_dyn().into());
    assert_eq!(read_all(&bytes_of(&array![9u16])).unwrap(), array![9i32].into_dyn().into());
    assert_eq!(read_all(&bytes_of(&array![-3i32])).unwrap(), array![-3i32].into_dyn().into());
    assert_eq!(read_all(&bytes_of(&array![7u32])).unwrap(), array![7i64].into_dyn().into());
    assert_eq!(read_all(&bytes_of(&array![-4i64])).unwrap(), array![-4i64].into_dyn().into());
    assert_eq!(read_all(&bytes_of(&array![5u64])).unwrap(), array![5i64].into_dyn().into());
    assert_eq!(read_all(&bytes_of(&array![0.5f32])).unwrap(), array![0.5f32].into_dyn().into());
    assert_eq!(read_all(&bytes_of(&array![0.1f64])).unwrap(), array![0.1f64].into_dyn().into());
    assert_eq!(read_all(&bytes_of(&array![true])).unwrap(), array![true].into_dyn().into());
    let half = file("'<f2'", "False", "(1,)", &f16::from_f32(1.5).to_le_bytes());
    assert_eq!(read_all(&half).unwrap(), array![f16::from_f32(1.5)].into_dyn().into());
    let big = file("'>i4'", "False", "(1L,)", &(-6i32).to_be_bytes());
    assert_eq!(read_all(&big).unwrap(), array![-6i32].into_dyn().into());
}

#[test]
fn fortran_order_and_scalars_are_read() {
    let columns = Array2::from_shape_vec((2, 3).f(), vec![1, 4, 2, 5, 3, 6]).unwrap();
    let read_back = read_all(&bytes_of(&columns)).unwrap();
    assert_eq!(read_back, array![[1, 2, 3], [4, 5, 6]].into_dyn().into());
    let scalar = file("'<i8'", "False", "()", &3i64.to_le_bytes());
    assert_eq!(read_all(&scalar).unwrap(), ndarray::arr0(3i64).into_dyn().into());
}

#[test]
fn a_file_in_fortran_order_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.npy");
    let columns = Array2::from_shape_vec((2, 3).f(), vec![1, 4, 2, 5, 3, 6]).unwrap();
    std::fs::write(&path, bytes_of(&columns)).unwrap();
    let files = Files { given: path.clone(), all: vec![path] };
    let opened = open(&files, &Default::default()).unwrap().read("f").unwrap();
    let Content::Array(array) = opened else { panic!("no array") };
    assert_eq!(array.rows(&[1, 0]).unwrap(), array![[4, 5, 6], [1, 2, 3]].into_dyn().into());
}

#[test]
fn words_are_read_up_to_their_zeros() {
    let held = |descr: &str, shape: &str, data: &[u8]| {
        let bytes = file(descr, "False", shape, data);
        match content(bytes.as_slice(), bytes.len() as u64) {
            Ok(Content::Text(words)) => Ok(words),
            Ok(_) => Err("no words".to_owned()),
            Err(clause) => Err(clause),
        }
    };
    let codes = |text: &str| -> Vec<u32> { text.chars().map(u32::from).collect() };
    let little: Vec<u8> = codes("añ\0c\0\0").into_iter().flat_map(u32::to_le_bytes).collect();
    let big: Vec<u8> = codes("añ\0c\0\0").into_iter().flat_map(u32::to_be_bytes).collect();
    assert_eq!(held("'<U3'", "(2,)", &little).unwrap(), ["añ", "c"]);
    assert_eq!(held("'>U3'", "(2, 1)", &big).unwrap(), ["añ", "c"]);
    assert_eq!(held("'|S2'", "(2,)", b"a\0bc").unwrap(), ["a", "bc"]);
    let refused = |descr: &str, shape: &str, data: &[u8]| held(descr, shape, data).unwrap_err();
    assert!(refused("'<U1'", "(1, 2)", &[97, 0, 0, 0, 98, 0, 0, 0]).contains("not one per sample"));
    assert!(refused("'<U1'", "(1,)", &[255; 4]).contains("not Unicode"));
    assert!(refused("'<U1'", "(2,)", &[97, 0, 0, 0]).contains("4 bytes of data where its shape"));
    assert!(refused("'<U99999999999999999999'", "(1,)", &[]).contains("elements of type"));
    assert!(refused("'<U0'", "(1,)", &[]).contains("elements of type"));
}

#[test]
fn damage_is_told_in_a_clause() {
    let whole = bytes_of(&array![[1.0f32, 2.0], [3.0, 4.0]]);
    let nested = file("'<f4'", "False", &"(".repeat(5000), &[]);
    let cases: [(Vec<u8>, &str); 9] = [
        (whole[..whole.len() - 1].to_vec(), "has 15 bytes of data where its shape [2, 2] takes"),
        (whole[..20].to_vec(), "ends within its header"),
        (b"PK\x03\x04 and so on".to_vec(), "is not in NumPy's format"),
        (file("'|O'", "False", "(1,)", &[0; 8]), "elements of type '|O'"),
        (file("[('a', '<f4')]", "False", "(1,)", &[0; 4]), "records"),
        (file("'<f4'", "False", "(99999999999999999999,)", &[]), "not a list of sizes"),
        (file("'<f4'", "False", "(4294967296, 4294967296)", &[]), "impossible shape"),
        (nested, "not a list of sizes"),
        (file("'|b1'", "False", "(1,)", &[2]), "neither 0 nor 1"),
    ];
    for (bytes, expected) in cases {
        let error = read_all(&bytes).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

proptest! {
    #[test]
    fn random_and_damaged_bytes_never_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        cut in 0usize..200,
        position in 0usize..144,
        flip in 1u8..,
    ) {
        let _ = read_all(&noise);
        let mut framed = MAGIC.to_vec();
        framed.extend(&noise);
        let _ = read_all(&framed);
        let mut damaged = bytes_of(&array![[1i32, 2], [3, 4]]);
        let position = position % damaged.len();
        damaged[position] ^= flip;
        damaged.truncate(damaged.len().saturating_sub(cut));
        let _ = read_all(&damaged);
    }
}

#[test]
fn packed_arrays_that_memory_cannot_hold_are_refused() {
    assert_eq!(check_room(50, Some(100)), Ok(()));
    assert_eq!(check_room(usize::MAX, None), Ok(()));
    let error = check_room(3 << 30, Some(1 << 30)).unwrap_err();
    assert!(error.starts_with("takes 6144 MiB of memory where 1024 MiB are free; "), "{error}");
    assert!(check_room(usize::MAX, Some(u64::MAX)).is_err());
}

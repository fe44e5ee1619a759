use super::*;

fn read(proto: TensorProto) -> Result<Tensor> {
    decode(proto, &mut ExternalData::none())
}

fn proto(code: i32, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: Some("w".into()),
        data_type: Some(code),
        dims: dims.to_vec(),
        ..TensorProto::default()
    }
}

#[track_caller]
fn assert_fails(proto: TensorProto, clause: &str) {
    let error = read(proto).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format);
    assert_eq!(error.to_string(), format!("tensor 'w' {clause}"));
}

#[test]
fn raw_data_is_not_copied() {
    let raw = Bytes::from(vec![1u8; SMALL]);
    let count = SMALL as i64 / 4;
    let tensor = read(TensorProto { raw_data: Some(raw.clone()), ..proto(1, &[count]) }).unwrap();
    assert_eq!(tensor.data.as_ptr(), raw.as_ptr());
    assert_eq!(encode("w", &tensor).unwrap().raw_data.unwrap().as_ptr(), raw.as_ptr());
}

#[test]
fn typed_fields_become_little_endian_bytes() {
    let int32 = |code, values: &[i32]| TensorProto {
        int32_data: values.to_vec(),
        ..proto(code, &[values.len() as i64])
    };
    let two = |code| proto(code, &[2]);
    for (proto, expected) in [
        (TensorProto { float_data: vec![1.0, -2.0], ..two(1) }, "0000803f000000c0"),
        (
            TensorProto { double_data: vec![1.0, 0.0], ..two(11) },
            "000000000000f03f0000000000000000",
        ),
        (TensorProto { int64_data: vec![-1, 2], ..two(7) }, "ffffffffffffffff0200000000000000"),
        (
            TensorProto { uint64_data: vec![u64::MAX, 2], ..two(13) },
            "ffffffffffffffff0200000000000000",
        ),
        (TensorProto { uint64_data: vec![u64::from(u32::MAX), 2], ..two(12) }, "ffffffff02000000"),
        (int32(6, &[-1, 2]), "ffffffff02000000"),
        (int32(2, &[255, 2]), "ff02"),
        (int32(3, &[-1, 2]), "ff02"),
        (int32(4, &[65535, 2]), "ffff0200"),
        (int32(5, &[-1, 2]), "ffff0200"),
        (int32(9, &[1, 0]), "0100"),
        (int32(10, &[0x3c00, 0xc000]), "003c00c0"),
        (int32(16, &[0x3f80, -0x4000]), "803f00c0"),
        (int32(17, &[0x7f, 0x80]), "7f80"),
        (TensorProto { int32_data: vec![0x21, 0x03], ..proto(21, &[3]) }, "2103"),
        (TensorProto { int32_data: vec![0xe4], ..proto(25, &[4]) }, "e4"),
        (int32(27, &[1, 2, 3, 4, 5]), "81301005"),
        (TensorProto { float_data: vec![1.0, -2.0], ..proto(14, &[1]) }, "0000803f000000c0"),
    ] {
        let code = proto.data_type();
        let tensor = read(proto).unwrap();
        let hex: String = tensor.data.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, expected, "type {code}");
        assert_eq!(read(encode("w", &tensor).unwrap()).unwrap(), tensor);
    }
}

#[test]
fn strings_round_trip_byte_for_byte() {
    let string_data = vec![b"one".to_vec(), Vec::new(), vec![0xff, 0x00]];
    let tensor = read(TensorProto { string_data: string_data.clone(), ..proto(8, &[3]) }).unwrap();
    assert_eq!(tensor.dims, [3]);
    assert_eq!(encode("w", &tensor).unwrap().string_data, string_data);
    let two = TensorProto { string_data: vec![b"one".to_vec()], ..proto(8, &[2]) };
    assert_fails(two, "needs 2 strings, but has 1");
}

#[test]
fn shape_type_and_elements_must_fit() {
    assert_fails(proto(1, &[2, -1]), "has a dimension of size -1");
    assert_fails(proto(1, &[1 << 40, 1 << 40]), "has a shape too large to count");
    assert_fails(proto(1, &[1 << 40, 1 << 40, 0]), "has a shape too large to count");
    assert_fails(proto(1, &[1 << 62]), "has a shape too large to count");
    assert_fails(
        proto(1, &[1 << 50]),
        "of type f32 and shape [1125899906842624] needs 4503599627370496 bytes, but has 0",
    );
    assert_fails(proto(0, &[]), "has no element type");
    let short = TensorProto { raw_data: Some(Bytes::from_static(&[0; 7])), ..proto(1, &[2]) };
    assert_fails(short, "of type f32 and shape [2] needs 8 bytes, but has 7");
    let wide = TensorProto { int32_data: vec![300], ..proto(2, &[1]) };
    assert_fails(wide, "holds 300, which does not fit into 8 bits");
    let new = TensorProto { int32_data: vec![1], ..proto(99, &[1]) };
    assert_fails(new, "has the unknown element type type99");
}

#[test]
fn empty_tensors_and_scalars_are_fine() {
    assert!(read(proto(1, &[0, 3])).unwrap().is_empty());
    let scalar = read(TensorProto { float_data: vec![2.5], ..proto(1, &[]) }).unwrap();
    assert_eq!(scalar.to_f32().unwrap().sum(), 2.5);
}

#[test]
fn a_tensor_that_lost_bytes_is_not_written() {
    let tensor = Tensor { dtype: DataType::F32, dims: vec![2], data: Bytes::from_static(&[0; 4]) };
    assert_eq!(encode("w", &tensor).unwrap_err().kind(), ErrorKind::Format);
}

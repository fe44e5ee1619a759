use super::*;
use ndarray::{arr1, arr2};

fn codes() -> Codes {
    let zero = arr1(&[3i64, -2, 0]).into_dyn();
    Codes::new(
        DataType::I8,
        0,
        Tensor::from_f32(&arr1(&[0.1f32, 0.037, 3.0]).into_dyn()),
        Tensor::from_ints(DataType::I8, &zero),
    )
}

fn stored() -> Tensor {
    let numbers = arr2(&[[-128i64, 127], [5, -7], [0, 1]]).into_dyn();
    Tensor::from_ints(DataType::I8, &numbers).unwrap()
}

#[test]
fn numbers_come_back_from_what_they_stand_for() {
    let floats = codes().decode(&stored()).unwrap();
    assert_eq!(floats.to_f32().unwrap()[[2, 1]], 3.0);
    assert_eq!(codes().encode(&floats), Some((stored(), 0)));
    let rows = codes().select(0, &[2, 0]).unwrap();
    let (part, _) = rows.encode(&floats.select(0, &[2, 0]).unwrap()).unwrap();
    assert_eq!(Some(part), stored().select(0, &[2, 0]));
}

#[test]
fn other_values_have_no_numbers() {
    let mut floats = codes().decode(&stored()).unwrap().to_f32().unwrap();
    floats[[1, 1]] *= 1.01;
    assert_eq!(codes().encode(&Tensor::from_f32(&floats)), None);
    floats[[1, 1]] = f32::INFINITY;
    assert_eq!(codes().encode(&Tensor::from_f32(&floats)), None);
}

#[test]
fn a_matrix_of_a_stack_of_one_keeps_its_codes() {
    let in_stack = |tensor: &Tensor| Tensor {
        dims: [&[1], tensor.dims.as_slice()].concat(),
        ..tensor.clone()
    };
    let matrix = Tensor::from_ints(DataType::I8, &arr2(&[[3i64, -4], [5, 6]]).into_dyn());
    let matrix = matrix.unwrap();
    let per_row = Tensor::from_f32(&arr1(&[0.5f32, 0.25]).into_dyn());
    let blocked = Tensor::from_f32(&arr2(&[[0.5f32], [0.25]]).into_dyn());
    for (axis, scale) in [(1, per_row), (2, in_stack(&blocked))] {
        let codes = Codes::new(DataType::I8, axis, scale, None);
        let floats = codes.decode(&in_stack(&matrix)).unwrap();
        let inner = Tensor { dims: vec![2, 2], ..floats };
        let found = codes.behind(1).unwrap().encode(&inner);
        assert_eq!(found, Some((matrix.clone(), axis - 1)));
    }
}

#[test]
fn blocks_have_scales_of_their_own() {
    let scale = arr2(&[[0.1f32, 2.0], [0.5, 0.037]]).into_dyn();
    let codes = Codes::new(
        DataType::I4,
        1,
        Tensor::from_f32(&scale),
        Tensor::from_ints(DataType::I4, &arr2(&[[0i64, 1], [-2, 0]]).into_dyn()),
    );
    let numbers = arr2(&[[-8i64, 7, 1, 2], [3, 4, -5, 6]]).into_dyn();
    let stored = Tensor::from_ints(DataType::I4, &numbers).unwrap();
    let floats = codes.decode(&stored).unwrap();
    assert_eq!(floats.to_f32().unwrap()[[0, 3]], 2.0);
    assert_eq!(codes.encode(&floats), Some((stored.clone(), 1)));
    // Also of the matrix with its axes exchanged, of some rows, and of blocks in another order.
    let turned = (stored.transposed().unwrap(), 0);
    assert_eq!(codes.encode(&floats.transposed().unwrap()), Some(turned));
    for (axis, places) in [(0, vec![1]), (1, vec![2, 3, 0, 1])] {
        let (own, part) = (codes.select(axis, &places).unwrap(), floats.select(axis, &places));
        let wanted = stored.select(axis, &places).unwrap();
        assert_eq!(own.encode(&part.unwrap()), Some((wanted, 1)));
    }
    assert_eq!(codes.select(1, &[1, 2, 3, 0]), None, "a block is taken apart");
}

#[test]
fn floats_become_the_nearest_even_integers_in_range() {
    let uniform = |scale: f32, zero: Option<Tensor>, dtype| {
        Codes::new(dtype, 0, Tensor::from_f32(&ndarray::arr0(scale).into_dyn()), zero)
    };
    let floats = Tensor::from_f32(&arr1(&[0.5f32, 1.5, -2.5, 0.3, 1e9, -1e30]).into_dyn());
    let found = uniform(1.0, None, DataType::I8).quantise(&floats).unwrap();
    assert_eq!(found.to_i64().unwrap(), [0, 2, -2, 0, 127, -128]);
    let zero = Tensor::from_ints(DataType::U8, &ndarray::arr0(128i64).into_dyn());
    let found = uniform(1.0, zero, DataType::U8).quantise(&floats).unwrap();
    assert_eq!(found.to_i64().unwrap(), [128, 130, 126, 128, 255, 0]);
    let rows = Tensor::from_f32(&arr2(&[[0.1f32, -50.0], [0.037, 0.08], [3.0, 7.4]]).into_dyn());
    let found = codes().quantise(&rows).unwrap();
    assert_eq!(found.to_i64().unwrap(), [4, -128, -1, 0, 1, 2]);
    let broken = Tensor::from_f32(&arr1(&[f32::NAN]).into_dyn());
    assert_eq!(uniform(1.0, None, DataType::I8).quantise(&broken), None);
    assert_eq!(uniform(0.0, None, DataType::I8).quantise(&floats), None);
}

#[test]
fn floats_of_half_precision_come_back() {
    let codes = Codes::of_half(DataType::F16, DataType::F32).unwrap();
    let half = Tensor::from_f64(DataType::F16, &arr1(&[0.1, -0.0, 1e-7]).into_dyn()).unwrap();
    let floats = codes.decode(&half).unwrap();
    assert_eq!(floats.dtype, DataType::F32);
    assert_eq!(codes.encode(&floats), Some((half, 0)));
    let finer = Tensor::from_f32(&arr1(&[0.1f32]).into_dyn());
    assert_eq!(codes.encode(&finer), None);
    assert_eq!(Codes::of_half(DataType::F32, DataType::F32), None);
}

#[test]
fn joined_constants_have_the_scales_of_their_parts() {
    let (rows, numbers) = (codes(), stored());
    let uniform =
        Codes::new(DataType::I8, 0, Tensor::from_f32(&ndarray::arr0(0.25f32).into_dyn()), None);
    let pair = Tensor::from_ints(DataType::I8, &arr2(&[[7i64, -3], [2, 9]]).into_dyn()).unwrap();
    let both = |a: &Tensor, b: &Tensor| Tensor {
        dims: vec![5, 2],
        data: [a.data.as_ref(), b.data.as_ref()].concat().into(),
        ..a.clone()
    };
    let floats = both(&rows.decode(&numbers).unwrap(), &uniform.decode(&pair).unwrap());
    let joined = Codes::joined(&[(&rows, 3), (&uniform, 2)], 0).unwrap();
    assert_eq!(joined.encode(&floats), Some((both(&numbers, &pair), 0)));
    assert_eq!(Codes::joined(&[(&uniform, 3), (&uniform, 2)], 1), Some(uniform.clone()));
    assert_eq!(Codes::joined(&[(&rows, 2), (&rows, 2)], 1), Some(rows.clone()));
    assert_eq!(Codes::joined(&[(&rows, 2), (&uniform, 2)], 1), None, "columns differ");
}

#[test]
fn blocks_keep_their_bits_in_another_order() {
    let scale = Tensor::from_f32(&arr2(&[[0.5f32, 2.0], [0.25, 3.0]]).into_dyn());
    let (dtype, zero) = (DataType::I4, None);
    let codes = Codes { dtype, axis: 1, scale, zero, direct: true, block: 3, places: None };
    let numbers = arr2(&[[1i64, -2, 3, 4, 5, -6], [7, 6, -5, 4, 3, 2]]).into_dyn();
    let stored = Tensor::from_ints(DataType::I4, &numbers).unwrap();
    let floats = codes.decode(&stored).unwrap();
    let order = [4, 0, 5, 1, 3, 2];
    let moved = codes.select(1, &order).unwrap();
    let (found, axis) = moved.encode(&floats.select(1, &order).unwrap()).unwrap();
    assert_eq!((axis, moved.direct), (1, false));
    assert_eq!(moved.in_places(&found), Some(stored.clone()));
    // Turned, and with inputs left out.
    let few = moved.select(1, &[1, 2, 4]).unwrap();
    assert_eq!(few.places, Some(vec![0, 5, 3]));
    let part = floats.select(1, &[0, 5, 3]).unwrap().transposed().unwrap();
    let (found, axis) = few.turned().unwrap().encode(&part).unwrap();
    assert_eq!(axis, 0);
    let whole = few.turned().unwrap().in_places(&found).unwrap();
    assert_eq!(whole.dims, [6, 2]);
    let kept = |tensor: &Tensor, axis| tensor.select(axis, &[0, 3, 5]).unwrap().to_i64();
    assert_eq!(kept(&whole, 0), kept(&stored.transposed().unwrap(), 0));
    assert_eq!(codes.select(1, &[2, 2, 1, 0, 3, 4]), None, "an input that is picked twice");
    assert_eq!(codes.select(1, &[3, 4, 5]).unwrap().places, None, "a whole block");
}

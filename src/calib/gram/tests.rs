//! Sums against those of whole matrices.

use super::*;
use crate::calib::product::tests::{on_threads, random};
use proptest::prelude::*;

/// Rows of small whole numbers, whose sums are exact in any order.
fn whole(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    random(rows, columns, seed).mapv(|v| (v * 8.0).round() as f32)
}

fn moments(rows: &Array2<f32>, targets: &Array2<f32>) -> Moments {
    let mut sums = Moments::with_targets(rows.ncols(), targets.ncols());
    sums.push_with(rows.view(), targets.view()).unwrap();
    sums
}

fn augmented(rows: &Array2<f32>) -> Array2<f64> {
    let mut x = Array2::ones((rows.nrows(), rows.ncols() + 1));
    x.slice_mut(s![.., ..rows.ncols()]).assign(&rows.mapv(f64::from));
    x
}

proptest! {
    #[test]
    fn sums_equal_their_definition(n in 1usize..30, d in 1usize..20, o in 1usize..5, seed: u64) {
        let (rows, targets) = (whole(n, d, seed), whole(n, o, !seed));
        let sums = moments(&rows, &targets);
        let (x, y) = (augmented(&rows), targets.mapv(f64::from));
        prop_assert_eq!(sums.scaled(n as f64).unwrap(), x.t().dot(&x));
        prop_assert_eq!(sums.cross().unwrap(), x.t().dot(&y));
        prop_assert_eq!(sums.target_squares().unwrap(), (&y * &y).sum_axis(Axis(0)));
        prop_assert_eq!(sums.target_sums().unwrap(), y.sum_axis(Axis(0)));
        prop_assert_eq!(sums.count(), n as u64);
    }

    #[test]
    fn moments_are_a_monoid(n in 3usize..30, d in 1usize..9, seed: u64, cut in 1usize..2) {
        let (rows, targets) = (whole(n, d, seed), whole(n, 2, !seed));
        let part = |range: std::ops::Range<usize>| moments(
            &rows.slice(s![range.clone(), ..]).to_owned(),
            &targets.slice(s![range, ..]).to_owned(),
        );
        let sum = |parts: &[Moments]| {
            let mut total = Moments::with_targets(d, 2);
            parts.iter().for_each(|p| total.merge(p).unwrap());
            total
        };
        let (a, b, c) = (part(0..cut), part(cut..n - 1), part(n - 1..n));
        let left = sum(&[sum(&[a.clone(), b.clone()]), c.clone()]);
        let right = sum(&[a, sum(&[b, c])]);
        prop_assert_eq!(&left, &right);
        prop_assert_eq!(left, moments(&rows, &targets));
    }

    #[test]
    fn selecting_inputs_is_pushing_their_columns(n in 1usize..20, seed: u64) {
        let (rows, targets) = (whole(n, 5, seed), whole(n, 2, !seed));
        let kept = [4, 0, 3];
        let few = moments(&rows.select(Axis(1), &kept), &targets);
        let selected = moments(&rows, &targets).select(&kept);
        prop_assert_eq!(selected.scaled(1.0).unwrap(), few.scaled(1.0).unwrap());
        prop_assert_eq!(selected.cross(), few.cross());
    }
}

#[test]
fn same_bits_on_any_number_of_threads() {
    let rows = random(500, 700, 1).mapv(|v| v as f32);
    let targets = random(500, 300, 2).mapv(|v| v as f32);
    let one = on_threads(1, || moments(&rows, &targets));
    assert_eq!(one, on_threads(4, || moments(&rows, &targets)));
}

#[test]
fn parts_round_trip_and_are_checked() {
    let sums = moments(&whole(9, 4, 1), &whole(9, 2, 2));
    let upper = sums.upper().to_owned();
    let targets =
        Some((sums.cross().unwrap().to_owned(), sums.target_squares().unwrap().to_owned()));
    assert_eq!(Moments::from_parts(upper.clone(), targets, 9).unwrap(), sums);
    let bytes = (upper.len() + sums.cross().unwrap().len() + 2) * 8;
    assert_eq!(Moments::bytes(4, 2), bytes as u64);
    let wrong = Some((Array2::zeros((3, 2)), Array1::zeros(2)));
    assert!(Moments::from_parts(upper.clone(), wrong, 9).is_err());
    assert!(Moments::from_parts(upper * f64::NAN, None, 9).is_err());
}

#[test]
fn bad_rows_are_errors() {
    let kind = |result: Result<()>| result.unwrap_err().kind();
    let mut sums = Moments::new(3);
    assert_eq!(sums.scaled(1.0).unwrap_err().kind(), ErrorKind::Calibration);
    assert_eq!(kind(sums.push(Array2::zeros((2, 4)).view())), ErrorKind::Calibration);
    let mut nan = Array2::zeros((2, 3));
    nan[(1, 2)] = f32::NAN;
    assert_eq!(kind(sums.push(nan.view())), ErrorKind::Calibration);
    let mut with = Moments::with_targets(3, 1);
    assert_eq!(kind(with.push(Array2::zeros((2, 3)).view())), ErrorKind::Calibration);
    assert_eq!(kind(with.merge(&Moments::new(3))), ErrorKind::Calibration);
}

use super::*;
use crate::calib::product::tests::random;
use ndarray::{Array, Array2, ArrayD, Dimension, IxDyn, s};

fn activation(dims: &[usize], seed: u64) -> ArrayD<f32> {
    let flat = random(1, dims.iter().product(), seed).mapv(|v| v as f32);
    flat.into_shape_with_order(IxDyn(dims)).unwrap()
}

fn all(rows: &Rows) -> Array2<f32> {
    let mut all = Array2::from_elem((rows.len(), rows.width()), f32::NAN);
    for (i, part) in all.axis_chunks_iter_mut(Axis(0), 7).enumerate() {
        rows.write(7 * i, part);
    }
    all
}

/// A convolution written as its definition; `weights` are `[out, channels/groups, k…]`.
fn convolve(x: &ArrayD<f32>, weights: &ArrayD<f32>, window: &Window, groups: usize) -> ArrayD<f32> {
    let spatial = window.output(&x.shape()[2..]).unwrap();
    let (outputs, per_group) = (weights.shape()[0], weights.shape()[1]);
    let dims: Vec<usize> = [x.shape()[0], outputs].into_iter().chain(spatial).collect();
    Array::from_shape_fn(IxDyn(&dims), |at| {
        let at = at.as_array_view().to_vec();
        let filter = weights.index_axis(Axis(0), at[1]);
        let first = at[1] / (outputs / groups) * per_group;
        let mut sum = 0.0;
        for (tap, weight) in filter.indexed_iter() {
            let tap = tap.as_array_view().to_vec();
            let mut source = vec![at[0], first + tap[0]];
            for (i, axis) in window.axes.iter().enumerate() {
                let (begin, _) = axis.pads(x.shape()[2 + i]).unwrap();
                let place = (at[2 + i] * axis.stride + tap[1 + i] * axis.dilation) as isize;
                source.push((place - begin as isize) as usize);
            }
            sum += weight * x.get(IxDyn(&source)).copied().unwrap_or(0.0);
        }
        sum
    })
}

/// A transposed convolution written as its definition: every input adds its filter to the output;
/// `weights` are `[out, channels, k…]`.
fn spread(x: &ArrayD<f32>, weights: &ArrayD<f32>, window: &Window) -> ArrayD<f32> {
    let spatial = window.output(&x.shape()[2..]).unwrap();
    let dims: Vec<usize> = [x.shape()[0], weights.shape()[0]].into_iter().chain(spatial).collect();
    let mut y = ArrayD::zeros(IxDyn(&dims));
    for (from, value) in x.indexed_iter() {
        for (tap, weight) in weights.indexed_iter() {
            let (from, tap) = (from.as_array_view().to_vec(), tap.as_array_view().to_vec());
            if from[1] != tap[1] {
                continue;
            }
            let mut to = vec![from[0], tap[0]];
            for (i, axis) in window.axes.iter().enumerate() {
                let (begin, _) = axis.pads(x.shape()[2 + i]).unwrap();
                let place = from[2 + i] * axis.stride + tap[2 + i] * axis.dilation;
                to.push(place.wrapping_sub(begin));
            }
            if let Some(sum) = y.get_mut(IxDyn(&to)) {
                *sum += value * weight;
            }
        }
    }
    y
}

struct Case {
    input: &'static [usize],
    weights: &'static [usize],
    strides: &'static [usize],
    dilations: &'static [usize],
    pads: &'static [usize],
    groups: usize,
}

const CASES: [Case; 7] = [
    Case {
        input: &[2, 3, 6, 5],
        weights: &[4, 3, 3, 3],
        strides: &[1, 1],
        dilations: &[1, 1],
        pads: &[1, 1, 1, 1],
        groups: 1,
    },
    Case {
        input: &[2, 2, 9, 8],
        weights: &[3, 2, 3, 2],
        strides: &[2, 3],
        dilations: &[2, 1],
        pads: &[0, 2, 3, 1],
        groups: 1,
    },
    Case {
        input: &[1, 6, 5, 5],
        weights: &[4, 3, 3, 3],
        strides: &[1, 1],
        dilations: &[1, 1],
        pads: &[1, 1, 1, 1],
        groups: 2,
    },
    Case {
        input: &[2, 4, 4, 4],
        weights: &[4, 1, 3, 3],
        strides: &[2, 2],
        dilations: &[1, 1],
        pads: &[0, 0, 1, 1],
        groups: 4,
    },
    Case {
        input: &[3, 2, 11],
        weights: &[5, 2, 4],
        strides: &[2],
        dilations: &[2],
        pads: &[3, 1],
        groups: 1,
    },
    Case {
        input: &[1, 2, 4, 3, 5],
        weights: &[2, 2, 2, 3, 1],
        strides: &[1, 2, 1],
        dilations: &[1, 1, 1],
        pads: &[0, 1, 0, 1, 1, 0],
        groups: 1,
    },
    Case {
        input: &[2, 6, 5, 4],
        weights: &[4, 3, 1, 1],
        strides: &[2, 1],
        dilations: &[1, 1],
        pads: &[1, 0, 0, 1],
        groups: 2,
    },
];

/// `rows · filterᵀ` per group against the target rows, for one choice of positions.
fn check(case: &Case, positions: Positions) {
    let window = Window::new(&case.weights[2..], case.strides, case.dilations, case.pads).unwrap();
    let (x, w) = (activation(case.input, 1), activation(case.weights, 2));
    let y = convolve(&x, &w, &window, case.groups);
    let (ins, outs) = (case.weights[1], case.weights[0] / case.groups);
    let filters = w.to_shape((case.weights[0], ins * window.taps())).unwrap();
    for group in 0..case.groups {
        let (c, o) = (group * ins..(group + 1) * ins, group * outs..(group + 1) * outs);
        let rows = Rows::patches(x.view(), &window, c, positions).unwrap();
        let targets = Rows::channels(y.view(), o.clone(), positions).unwrap();
        assert_eq!((rows.len(), rows.width()), (targets.len(), ins * window.taps()));
        let product = all(&rows).dot(&filters.slice(s![o, ..]).t());
        let worst = (product - all(&targets)).iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(worst < 1e-5, "{:?} is off by {worst}", case.input);
    }
}

#[test]
fn rows_times_filters_are_the_convolution() {
    for case in &CASES {
        check(case, Positions::All);
        check(case, Positions::Sampled { per_sample: 3, seed: 5, first_sample: 9, of: None });
    }
}

#[test]
fn means_are_those_of_all_rows_of_a_sample() {
    for case in &CASES {
        let window =
            Window::new(&case.weights[2..], case.strides, case.dilations, case.pads).unwrap();
        let x = activation(case.input, 1);
        let rows = Rows::patches(x.view(), &window, 1..case.input[1], Positions::All).unwrap();
        let mut means = Array2::from_elem((rows.samples(), rows.width()), f32::NAN);
        rows.write_means(0, means.view_mut());
        for (mean, sample) in
            means.rows().into_iter().zip(all(&rows).axis_chunks_iter(Axis(0), rows.per_sample()))
        {
            let wanted = sample.mean_axis(Axis(0)).unwrap();
            assert!((&mean - &wanted).iter().all(|off| off.abs() < 1e-5), "{:?}", case.input);
        }
    }
}

#[test]
fn automatic_padding_follows_the_extents() {
    // Kernel, stride, dilation, extent, padding before and after it if an odd one is last.
    let cases =
        [(3, 2, 1, 8, (0, 1)), (3, 2, 1, 9, (1, 1)), (2, 1, 1, 5, (0, 1)), (3, 3, 2, 7, (2, 2))];
    for (kernel, stride, dilation, extent, (small, large)) in cases {
        let plain = Window::new(&[kernel], &[stride], &[dilation], &[0, 0]).unwrap();
        for (lower, pads) in [(false, [small, large]), (true, [large, small])] {
            let same = plain.clone().same(lower);
            let explicit = Window::new(&[kernel], &[stride], &[dilation], &pads).unwrap();
            assert_eq!(same.sources(&[extent]).unwrap(), explicit.sources(&[extent]).unwrap());
            assert_eq!(same.output(&[extent]).unwrap(), [extent.div_ceil(stride)]);
        }
    }
}

#[test]
fn rows_times_filters_are_the_transposed_convolution() {
    for (case, more) in CASES.iter().filter(|c| c.groups == 1).zip([0, 1, 0, 1]) {
        let rank = case.strides.len();
        let window =
            Window::new(&case.weights[2..], case.strides, case.dilations, case.pads).unwrap();
        let window = window.transposed(&vec![more; rank]).unwrap();
        let (x, w) = (activation(case.input, 1), activation(case.weights, 2));
        let y = spread(&x, &w, &window);
        let filters = w.to_shape((case.weights[0], w.len() / case.weights[0])).unwrap();
        let channels = (0..case.input[1], 0..case.weights[0]);
        for positions in [
            Positions::All,
            Positions::Sampled { per_sample: 3, seed: 5, first_sample: 9, of: None },
        ] {
            let rows = Rows::patches(x.view(), &window, channels.0.clone(), positions).unwrap();
            let targets = Rows::channels(y.view(), channels.1.clone(), positions).unwrap();
            let product = all(&rows).dot(&filters.t());
            let worst = (product - all(&targets)).iter().fold(0f32, |m, v| m.max(v.abs()));
            assert!(worst < 1e-5, "{:?} is off by {worst}", case.input);
        }
    }
}

#[test]
fn features_run_over_positions_in_between() {
    let x = activation(&[2, 3, 4], 3);
    let rows = Rows::features(x.view(), Positions::All).unwrap();
    assert_eq!(all(&rows), x.to_shape((6, 4)).unwrap());
    let flat = activation(&[5, 4], 4);
    let rows = Rows::features(flat.view(), Positions::All).unwrap();
    assert_eq!(all(&rows), flat.to_shape((5, 4)).unwrap());
}

#[test]
fn strided_activations_are_read_in_logical_order() {
    let x = activation(&[4, 3, 2], 5);
    let swapped = x.view().permuted_axes(IxDyn(&[2, 1, 0]));
    let owned = swapped.to_owned();
    let (a, b) =
        (Rows::features(swapped, Positions::All), Rows::features(owned.view(), Positions::All));
    assert_eq!(all(&a.unwrap()), all(&b.unwrap()));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let window = Window::new(&[3, 3], &[1, 1], &[1, 1], &[0, 0, 0, 0]).unwrap();
    let x = activation(&[1, 2, 2, 5], 6);
    let kind = |rows: Result<Rows>| rows.err().map(|e| e.kind());
    let calibration = Some(ErrorKind::Calibration);
    assert_eq!(kind(Rows::patches(x.view(), &window, 0..2, Positions::All)), calibration);
    assert_eq!(kind(Rows::channels(x.view(), 0..3, Positions::All)), calibration);
    let flat = activation(&[3], 7);
    assert_eq!(kind(Rows::features(flat.view(), Positions::All)), calibration);
    let line = activation(&[1, 2, 9], 8);
    assert_eq!(kind(Rows::patches(line.view(), &window, 0..2, Positions::All)), calibration);
    assert!(Window::new(&[3], &[0], &[1], &[0, 0]).is_err());
    assert!(Window::new(&[3], &[1], &[1], &[0]).is_err());
}

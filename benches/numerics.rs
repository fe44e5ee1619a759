//! Timings of the numerical core: rows of patches, moments, factors and solves, pairing costs, fused
//! weights and matching.
//!
//! Sizes follow a convolution with 3×3 kernels: 64, 128 and 256 shared channels and a bias.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array1, Array2, Array3, Array4};
use onnx_zip::calib::gram::Moments;
use onnx_zip::calib::im2col::{Positions, Rows};
use onnx_zip::calib::product::times;
use onnx_zip::calib::window::Window;
use onnx_zip::mtz::matching::{MATCHERS, Share};
use onnx_zip::mtz::solver::channelwise::ChannelwiseProblem;
use onnx_zip::mtz::solver::cholesky::{DAMPING, Spd};
use onnx_zip::mtz::solver::pair_cost::{Metric, Problem};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CHANNELS: [usize; 3] = [64, 128, 256];

fn random(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((rows, columns), || rng.random_range(-1.0..1.0))
}

/// A convolution with as many filters as input channels, on inputs that are never negative.
fn problem(channels: usize) -> Problem {
    let inputs = 9 * channels + 1;
    let hessian = |seed| {
        let x = random(inputs + 100, inputs, seed).mapv(|v| v.max(0.0));
        times(x.t(), x.view()) / (2.0 * x.nrows() as f64)
    };
    let single = |seed| random(channels, inputs, seed).mapv(|w| w as f32).into_shared();
    Problem {
        h_a: hessian(1).into(),
        h_b: hessian(2).into(),
        w_a: single(3),
        w_b: single(4),
        s_a: None,
        s_b: None,
    }
}

fn moments(c: &mut Criterion) {
    let mut group = c.benchmark_group("moments");
    for channels in CHANNELS {
        let inputs = 9 * channels;
        let rows = random(2048, inputs, 1).mapv(|v| v as f32);
        let mut sums = Moments::new(inputs);
        // Multiply-adds of the triangle, so that the rate compares with that of a product.
        group.throughput(Throughput::Elements((2048 * inputs * inputs / 2) as u64));
        group.bench_function(BenchmarkId::from_parameter(inputs), |b| {
            b.iter(|| sums.push(black_box(rows.view())))
        });
    }
}

/// Patches of 16×16 images, every position or 16 of them.
fn patches(c: &mut Criterion) {
    let mut group = c.benchmark_group("patches");
    let window = Window::new(&[3, 3], &[1, 1], &[1, 1], &[1, 1, 1, 1]).unwrap();
    let few = Positions::Sampled { per_sample: 16, seed: 1, first_sample: 0, of: None };
    for channels in CHANNELS {
        let images = Array4::<f32>::ones((16, channels, 16, 16)).into_dyn();
        for (name, positions) in [("all", Positions::All), ("sampled", few)] {
            let rows = || Rows::patches(images.view(), &window, 0..channels, positions).unwrap();
            let mut matrix = Array2::zeros((rows().len(), rows().width()));
            group.throughput(Throughput::Elements(matrix.len() as u64));
            group.bench_function(BenchmarkId::new(name, channels), |b| {
                b.iter(|| rows().write(0, black_box(matrix.view_mut())))
            });
        }
    }
}

fn solving(c: &mut Criterion) {
    let mut group = c.benchmark_group("solve");
    for channels in CHANNELS {
        let Problem { h_a, w_a, .. } = problem(channels);
        let (h_a, w_a) = (h_a.dense(), w_a.mapv(f64::from));
        let h_a = h_a.matrix();
        group.bench_function(BenchmarkId::new("factor", channels), |b| {
            b.iter(|| Spd::factor(black_box(h_a), 1e-3))
        });
        let factor = Spd::factor(h_a, 1e-3).unwrap();
        group.bench_function(BenchmarkId::new("solve", channels), |b| {
            b.iter(|| factor.solve(black_box(w_a.t())))
        });
    }
}

fn pairing(c: &mut Criterion) {
    let mut group = c.benchmark_group("pair");
    for channels in CHANNELS {
        let plain = problem(channels);
        let spread = || Some(Array1::logspace(2.0, -3.0, 3.0, channels));
        let sensitive = Problem { s_a: spread(), s_b: spread(), ..plain.clone() };
        for (name, problem) in [("plain", plain), ("sensitive", sensitive)] {
            group.bench_function(BenchmarkId::new(name, channels), |b| {
                b.iter(|| black_box(&problem).cost(Metric::Hessian, DAMPING))
            });
        }
    }
}

fn fusing(c: &mut Criterion) {
    let mut group = c.benchmark_group("fuse");
    for channels in CHANNELS {
        let problem = problem(channels);
        let pairs: Vec<_> = (0..channels).map(|i| (i, channels - 1 - i)).collect();
        group.bench_function(BenchmarkId::from_parameter(channels), |b| {
            b.iter(|| black_box(&problem).fuse(&pairs, DAMPING))
        });
    }
}

/// Depthwise layers with 3×3 and 5×5 kernels.
fn pairing_channels(c: &mut Criterion) {
    let mut group = c.benchmark_group("pair channels");
    for (channels, weights) in [(256, 10), (256, 26)] {
        let hessians = |seed| {
            let mut all = Array3::zeros((channels, weights, weights));
            for (own, mut h) in (seed..).zip(all.outer_iter_mut()) {
                let x = random(3 * weights, weights, own).mapv(|v| v.max(0.0));
                h.assign(&(times(x.t(), x.view()) / (2.0 * x.nrows() as f64)));
            }
            all
        };
        let problem = ChannelwiseProblem {
            h_a: hessians(1),
            h_b: hessians(1000),
            w_a: random(channels, weights, 3),
            w_b: random(channels, weights, 4),
            s_a: None,
            s_b: None,
        };
        group.throughput(Throughput::Elements((channels * channels) as u64));
        group.bench_function(BenchmarkId::from_parameter(weights), |b| {
            b.iter(|| black_box(&problem).cost(Metric::Hessian, DAMPING))
        });
    }
}

fn matching(c: &mut Criterion) {
    let mut group = c.benchmark_group("matcher");
    for n in [256, 512, 1024] {
        let (a, b) = (random(n, 64, 1), random(n, 64, 2));
        let square = |w: &Array2<f64>| (w * w).sum_axis(ndarray::Axis(1));
        let (own_a, own_b) = (square(&a), square(&b));
        let cross = times(a.view(), b.t());
        let cost =
            Array2::from_shape_fn((n, n), |(i, j)| own_a[i] + own_b[j] - 2.0 * cross[(i, j)]);
        for entry in &MATCHERS {
            let matcher = (entry.make)(0);
            for part in [1.0, 0.8] {
                let name = format!("{} {part}", entry.name);
                group.bench_function(BenchmarkId::new(name, n), |bench| {
                    bench.iter(|| matcher.pair(black_box(cost.view()), Share::Fraction(part)))
                });
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = patches, moments, solving, pairing, pairing_channels, fusing, matching
}
criterion_main!(benches);

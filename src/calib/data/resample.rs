//! Resizes pictures exactly as Pillow does, since models are trained on its results.
//!
//! A picture is resized along its rows, then along its columns. Weights are fixed-point numbers, and the
//! results of the first step are rounded to bytes.

use serde::{Deserialize, Serialize};

use image::RgbImage;

/// Fraction bits of a weight.
const PRECISION: u32 = 32 - 8 - 2;

/// Filters of resizing, with Pillow's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// The nearest pixel (0).
    Nearest,
    /// Three lobes of a windowed sine (1).
    Lanczos,
    /// A triangle (2).
    Bilinear,
    /// Cubic curves (3).
    Bicubic,
    /// The mean over the area of a pixel (4).
    Box,
    /// A windowed sine with one lobe (5).
    Hamming,
}

impl Filter {
    /// All filters, by Pillow's numbers.
    pub(super) const ALL: [Filter; 6] = [
        Filter::Nearest,
        Filter::Lanczos,
        Filter::Bilinear,
        Filter::Bicubic,
        Filter::Box,
        Filter::Hamming,
    ];

    fn support(self) -> f64 {
        match self {
            Filter::Nearest => 0.0,
            Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        use std::f64::consts::PI;
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        let far = x.abs();
        match self {
            Filter::Nearest => 0.0,
            Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Bilinear => (1.0 - far).max(0.0),
            Filter::Hamming if far == 0.0 => 1.0,
            Filter::Hamming if far >= 1.0 => 0.0,
            Filter::Hamming => {
                let x = far * PI;
                x.sin() / x * (0.54 + 0.46 * x.cos())
            }
            Filter::Bicubic if far < 1.0 => (1.5 * far - 2.5) * far * far + 1.0,
            Filter::Bicubic if far < 2.0 => (((far - 5.0) * far + 8.0) * far - 4.0) * -0.5,
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Bicubic | Filter::Lanczos => 0.0,
        }
    }
}

/// The picture in another size.
pub(super) fn resize(picture: RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    let (own_width, own_height) = picture.dimensions();
    if filter == Filter::Nearest {
        return nearest(&picture, width, height);
    }
    let wide = if own_width == width {
        picture
    } else {
        let taps = taps(own_width, width, filter);
        RgbImage::from_fn(width, own_height, |x, y| {
            weighted(taps.get(x as usize), |at| picture.get_pixel(at, y).0)
        })
    };
    if own_height == height {
        return wide;
    }
    let taps = taps(own_height, height, filter);
    RgbImage::from_fn(width, height, |x, y| {
        weighted(taps.get(y as usize), |at| wide.get_pixel(x, at).0)
    })
}

/// The source pixels of one pixel of the result: the first one, and their weights.
struct Taps {
    first: u32,
    weights: Vec<i32>,
}

fn taps(own: u32, wanted: u32, filter: Filter) -> Vec<Taps> {
    let scale = f64::from(own) / f64::from(wanted);
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let one = |at: u32| {
        let centre = (f64::from(at) + 0.5) * scale;
        let first = ((centre - support + 0.5).max(0.0)) as u32;
        let end = ((centre + support + 0.5) as u32).min(own);
        let weight = |x: u32| filter.weight((f64::from(x) - centre + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let sum = if sum == 0.0 { 1.0 } else { sum };
        let fixed = |weight: f64| {
            let scaled = weight / sum * f64::from(1 << PRECISION);
            (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
        };
        Taps { first, weights: weights.into_iter().map(fixed).collect() }
    };
    (0..wanted).map(one).collect()
}

fn weighted(taps: Option<&Taps>, pixel: impl Fn(u32) -> [u8; 3]) -> image::Rgb<u8> {
    let mut sums = [1i32 << (PRECISION - 1); 3];
    for (at, weight) in taps.iter().flat_map(|taps| (taps.first..).zip(&taps.weights)) {
        for (sum, value) in sums.iter_mut().zip(pixel(at)) {
            *sum = sum.wrapping_add(i32::from(value).wrapping_mul(*weight));
        }
    }
    image::Rgb(sums.map(|sum| (sum >> PRECISION).clamp(0, 255) as u8))
}

fn nearest(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    let places = |own: u32, wanted: u32| {
        let step = f64::from(own) / f64::from(wanted);
        let mut place = step * 0.5;
        let mut next = || {
            let found = (place as u32).min(own.saturating_sub(1));
            // Pillow adds up steps, too, so rounding is the same.
            place += step;
            found
        };
        (0..wanted).map(|_| next()).collect::<Vec<u32>>()
    };
    let (columns, rows) = (places(picture.width(), width), places(picture.height(), height));
    RgbImage::from_fn(width, height, |x, y| {
        let place = columns.get(x as usize).zip(rows.get(y as usize));
        place.map_or(image::Rgb([0; 3]), |(x, y)| *picture.get_pixel(*x, *y))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pillow's results for the same picture are in `fixtures/data/resized.json`, written by
    /// `fixtures/resized.py`.
    #[test]
    fn results_are_those_of_pillow() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read(root.join("fixtures/data/resized.json")).unwrap();
        let cases: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let cases = cases.as_array().unwrap();
        assert_eq!(cases.len(), 18);
        for case in cases {
            let number = |key: &str| case[key].as_u64().unwrap() as u32;
            let filter = Filter::ALL[number("resample") as usize];
            // The script draws the same picture.
            let picture = RgbImage::from_fn(23, 17, |x, y| {
                image::Rgb([x * x * 7 + y * 31, (x ^ y) * 15, x * 11 + y * y * 3].map(|v| v as u8))
            });
            let found = resize(picture, number("width"), number("height"), filter);
            let expected: Vec<u8> = case["pixels"]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_u64().unwrap() as u8)
                .collect();
            assert_eq!(found.into_raw(), expected, "{filter:?} {}", number("width"));
        }
    }
}

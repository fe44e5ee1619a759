//! Measures the deviation between arrays.

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::{HostArray, shape_text};

/// The deviation of an output from its reference, over all samples.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Deviation {
    /// Largest absolute difference of an element.
    pub max: f64,
    /// Mean absolute difference of an element.
    pub mean: f64,
    /// Root mean square of the difference, relative to that of the reference.
    pub relative: f64,
}

/// Sums from which a [`Deviation`] follows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gap {
    max: f64,
    sum: f64,
    squares: f64,
    reference_squares: f64,
    largest: f64,
    elements: u64,
    /// Number of different elements, if the output holds integers or texts, such as numbers or names of
    /// classes.
    different_classes: u64,
    /// Number of elements that are NaN or infinite and differ from the reference.
    pub(super) broken: u64,
}

impl Gap {
    /// Adds a batch.
    ///
    /// # Errors
    /// [`ErrorKind::Parity`] if the arrays differ in shape or kind of element.
    pub(super) fn add(&mut self, found: &HostArray, reference: &HostArray) -> Result<()> {
        if found.shape() != reference.shape() {
            let (found, wanted) = (shape_text(found.shape()), shape_text(reference.shape()));
            return Err(Error::new(
                ErrorKind::Parity,
                format!("has shape {found} where {wanted} is expected"),
            ));
        }
        if found.dtype() != reference.dtype() {
            return Err(Error::new(
                ErrorKind::Parity,
                format!("has type {:?} where {:?} is expected", found.dtype(), reference.dtype()),
            ));
        }
        if let (HostArray::Text(found), HostArray::Text(reference)) = (found, reference) {
            for (x, r) in found.iter().zip(reference) {
                self.add_element(0.0, f64::from(u8::from(x != r)));
                self.different_classes += u64::from(x != r);
            }
            return Ok(());
        }
        self.add_numbers(found, reference);
        Ok(())
    }

    /// Adds numbers of the same shape and type. Outputs may fill much of the memory, so elements are widened
    /// one by one.
    fn add_numbers(&mut self, found: &HostArray, reference: &HostArray) {
        let integral = !found.dtype().is_float();
        macro_rules! add {
            ($($variant:ident, $wide:expr;)*) => {
                match (found, reference) {
                    $((HostArray::$variant(found), HostArray::$variant(reference)) => {
                        self.add_all(found, reference, integral, $wide);
                    })*
                    _ => {}
                }
            };
        }
        add! {
            F32, |v| f64::from(*v);
            F64, |v| *v;
            F16, |v| v.to_f64();
            I64, |v| *v as f64;
            I32, |v| f64::from(*v);
            I16, |v| f64::from(*v);
            I8, |v| f64::from(*v);
            U64, |v| *v as f64;
            U32, |v| f64::from(*v);
            U16, |v| f64::from(*v);
            U8, |v| f64::from(*v);
            Bool, |v| f64::from(u8::from(*v));
        }
    }

    fn add_all<T>(
        &mut self,
        found: &ArrayD<T>,
        reference: &ArrayD<T>,
        integral: bool,
        wide: impl Fn(&T) -> f64,
    ) {
        for (x, r) in found.iter().zip(reference) {
            let (x, r) = (wide(x), wide(r));
            self.add_element(x, r);
            self.different_classes += u64::from(integral && x != r);
        }
    }

    fn add_element(&mut self, found: f64, reference: f64) {
        if !found.is_finite() || !reference.is_finite() {
            let same = found == reference || (found.is_nan() && reference.is_nan());
            self.broken += u64::from(!same);
            return;
        }
        let difference = (found - reference).abs();
        self.max = self.max.max(difference);
        self.sum += difference;
        self.squares += difference * difference;
        self.reference_squares += reference * reference;
        self.largest = self.largest.max(reference.abs());
        self.elements += 1;
    }

    pub(super) fn deviation(&self) -> Deviation {
        let over = |sum: f64, by: f64| if by > 0.0 { sum / by } else { 0.0 };
        Deviation {
            max: self.max,
            mean: over(self.sum, self.elements as f64),
            relative: over(self.squares, self.reference_squares).sqrt(),
        }
    }

    /// Whether the largest difference is at most `tolerance` times the reference's largest element. For
    /// integers, whether few enough differ.
    pub(super) fn within(&self, tolerance: f64) -> bool {
        if self.different_classes > 0 {
            return self.different_classes as f64 <= TIES * self.elements as f64;
        }
        self.broken == 0 && self.max <= tolerance * self.largest + ROUNDING
    }

    /// Whether the difference is at most `relative` times the reference, both as root mean squares. For
    /// integers, which may be numbers of classes, whether most are equal.
    pub(super) fn is_alike(&self, relative: f64) -> bool {
        if self.different_classes > 0 {
            return 2 * self.different_classes <= self.elements;
        }
        // This comparison is false for NaN.
        let limit = relative * relative * self.reference_squares;
        self.broken == 0 && (self.squares <= limit || self.max <= ROUNDING)
    }
}

/// The fraction of class numbers that may differ: rounding changes them if scores are nearly equal.
const TIES: f64 = 0.01;

/// A difference that counts as rounding even if the reference is all zeros.
const ROUNDING: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::DataType;
    use ndarray::array;

    fn floats(values: [[f32; 2]; 2]) -> HostArray {
        ndarray::arr2(&values).into_dyn().into()
    }

    #[test]
    fn deviations_are_those_of_the_definition() {
        let mut gap = Gap::default();
        gap.add(&floats([[1.0, 2.0], [3.0, 4.5]]), &floats([[1.0, 2.0], [3.0, 4.0]])).unwrap();
        let deviation = gap.deviation();
        assert_eq!((deviation.max, deviation.mean), (0.5, 0.125));
        assert!((deviation.relative - (0.25f64 / 30.0).sqrt()).abs() < 1e-12);
        assert!(gap.within(0.126) && !gap.within(0.124));
    }

    #[test]
    fn what_is_not_finite_must_be_the_same() {
        let mut gap = Gap::default();
        let reference = floats([[f32::NEG_INFINITY, 1.0], [f32::NAN, 1.0]]);
        gap.add(&reference, &reference).unwrap();
        assert!(gap.within(0.0));
        gap.add(&floats([[f32::NAN, 1.0], [0.0, 1.0]]), &floats([[1.0; 2]; 2])).unwrap();
        assert_eq!(gap.broken, 1);
        assert!(!gap.within(1.0));
    }

    #[test]
    fn shapes_and_types_must_be_equal() {
        let mut gap = Gap::default();
        let flat = HostArray::from(array![0.0f32, 1.0].into_dyn());
        let error = gap.add(&flat, &floats([[0.0; 2]; 2])).unwrap_err();
        assert_eq!(error.to_string(), "has shape 2 where 2×2 is expected");
        let ints = HostArray::from(array![0i64, 1].into_dyn());
        assert_eq!(gap.add(&ints, &flat).unwrap_err().kind(), ErrorKind::Parity);
    }

    #[test]
    fn numbers_of_every_type_are_compared() {
        let wide = HostArray::from(array![0i64, 1, 1].into_dyn());
        let other = HostArray::from(array![0i64, 1, 0].into_dyn());
        for dtype in [
            DataType::F32,
            DataType::F64,
            DataType::F16,
            DataType::I64,
            DataType::I32,
            DataType::I16,
            DataType::I8,
            DataType::U64,
            DataType::U32,
            DataType::U16,
            DataType::U8,
            DataType::Bool,
        ] {
            let cast = |array: &HostArray| match dtype.is_float() {
                true => HostArray::from(array.clone().integers().unwrap().mapv(|v| v as f64)),
                false => array.clone(),
            };
            let (found, reference) = (cast(&other).cast(dtype), cast(&wide).cast(dtype));
            let mut gap = Gap::default();
            gap.add(&found.unwrap(), &reference.unwrap()).unwrap();
            let different = u64::from(!dtype.is_float());
            assert_eq!((gap.elements, gap.different_classes), (3, different), "{dtype:?}");
            assert_eq!(gap.deviation().max, 1.0, "{dtype:?}");
        }
    }

    #[test]
    fn names_of_classes_are_compared_as_class_numbers_are() {
        let names =
            |all: [&str; 3]| HostArray::from(ndarray::arr1(&all.map(str::to_owned)).into_dyn());
        let (found, other) = (names(["cat", "dog", "cat"]), names(["cat", "cat", "cat"]));
        let mut gap = Gap::default();
        gap.add(&found, &found).unwrap();
        assert!(gap.within(0.0) && gap.deviation().max == 0.0);
        gap.add(&found, &other).unwrap();
        assert!(!gap.within(0.5));
    }

    #[test]
    fn what_is_alike_differs_little_as_a_whole() {
        let gap = |found, reference| {
            let mut gap = Gap::default();
            gap.add(&floats(found), &floats(reference)).unwrap();
            gap.is_alike(0.05)
        };
        let reference = [[1.0, 2.0], [3.0, 4.0]];
        assert!(gap([[1.2, 2.0], [3.0, 4.0]], reference));
        assert!(!gap([[1.3, 2.0], [3.0, 4.0]], reference));
        assert!(!gap([[f32::NAN, 2.0], [3.0, 4.0]], reference));
        assert!(gap([[1e-7, 0.0], [0.0, 0.0]], [[0.0; 2]; 2]));
        assert!(!gap([[1e-2, 0.0], [0.0, 0.0]], [[0.0; 2]; 2]));
    }

    #[test]
    fn few_integers_may_differ() {
        let numbers =
            |last| HostArray::from(ArrayD::from_shape_fn(vec![200], |i| (i[0] / last) as i64));
        let mut gap = Gap::default();
        gap.add(&numbers(199), &numbers(200)).unwrap();
        assert!(gap.within(0.0));
        assert!(gap.is_alike(0.0));
        gap.add(&numbers(100), &numbers(200)).unwrap();
        assert!(!gap.within(0.5) && gap.is_alike(0.0));
        gap.add(&numbers(1), &numbers(200)).unwrap();
        gap.add(&numbers(1), &numbers(200)).unwrap();
        assert!(!gap.is_alike(0.5));
    }
}

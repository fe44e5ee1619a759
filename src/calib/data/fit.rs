//! Maps the axes of a stored sample to those of a model's input.

use super::options::Layout;
use crate::runtime::HostArray;

/// A change of a sample's axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fit {
    /// No change.
    Same,
    /// A reshape: the elements keep their order.
    Reshape(Vec<usize>),
    /// Height, width, channels become channels, height, width.
    ChannelsFirst,
    /// Channels, height, width become height, width, channels.
    ChannelsLast,
}

impl Fit {
    /// The change from samples of shape `stored` to samples of shape `wanted`, in which `None` means any
    /// size; `None` if there is no change that fits, or no certain one.
    ///
    /// A sample that fits stays the same. Axes of size 1 are added and dropped. Images are transposed if
    /// only that fits, or if `layout` demands it. Whole samples are flattened, and flat samples are
    /// reshaped.
    pub(super) fn find(
        stored: &[usize],
        wanted: &[Option<usize>],
        layout: Option<Layout>,
    ) -> Option<Fit> {
        Self::candidates(stored, wanted, layout)
            .into_iter()
            .find(|fit| fit.shape(stored).is_some_and(|shape| matches(&shape, wanted)))
    }

    fn candidates(stored: &[usize], wanted: &[Option<usize>], layout: Option<Layout>) -> Vec<Fit> {
        let cut_anew = reshaped(stored, wanted).map(Fit::Reshape);
        let in_order = match layout {
            // ONNX images are channels first, so a given layout of channels last has priority.
            Some(Layout::Nhwc) => [Fit::ChannelsFirst, Fit::Same],
            Some(Layout::Nchw) => [Fit::Same, Fit::ChannelsLast],
            None => [Fit::Same, Fit::ChannelsFirst],
        };
        let mut candidates = Vec::from(in_order);
        candidates.extend(cut_anew);
        if layout.is_none() {
            candidates.push(Fit::ChannelsLast);
        }
        candidates
    }

    /// The new shape of a sample of shape `stored`; `None` if it should be an image but is not.
    pub(super) fn shape(&self, stored: &[usize]) -> Option<Vec<usize>> {
        match (self, stored) {
            (Fit::Same, _) => Some(stored.to_vec()),
            (Fit::Reshape(shape), _) => Some(shape.clone()),
            (Fit::ChannelsFirst, [h, w, c]) => Some(vec![*c, *h, *w]),
            (Fit::ChannelsLast, [c, h, w]) => Some(vec![*h, *w, *c]),
            _ => None,
        }
    }

    /// Applies the change to every row of `rows`; `None` if their shape does not fit it.
    pub(super) fn apply(&self, rows: HostArray) -> Option<HostArray> {
        match self {
            Fit::Same => Some(rows),
            Fit::Reshape(sample) => {
                let mut shape = vec![rows.rows()?];
                shape.extend(sample);
                rows.reshaped(&shape)
            }
            Fit::ChannelsFirst => rows.permuted(&[0, 3, 1, 2]),
            Fit::ChannelsLast => rows.permuted(&[0, 2, 3, 1]),
        }
    }
}

fn matches(shape: &[usize], wanted: &[Option<usize>]) -> bool {
    shape.len() == wanted.len()
        && shape.iter().zip(wanted).all(|(size, want)| want.is_none_or(|want| want == *size))
}

/// The wanted shape in numbers, if it differs from the stored one only in axes of size 1, or if one of
/// the two is flat and the number of elements is the same.
fn reshaped(stored: &[usize], wanted: &[Option<usize>]) -> Option<Vec<usize>> {
    let without_ones: Vec<usize> = stored.iter().copied().filter(|size| *size != 1).collect();
    let mut sizes = without_ones.iter();
    let filled: Vec<usize> = wanted
        .iter()
        .map(|want| if *want == Some(1) { Some(1) } else { sizes.next().copied() })
        .collect::<Option<_>>()
        .unwrap_or_default();
    if sizes.next().is_none() && matches(&filled, wanted) {
        return Some(filled);
    }
    let known: Vec<usize> = wanted.iter().copied().collect::<Option<_>>()?;
    let count =
        |sizes: &[usize]| sizes.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    let flat = |sizes: &[usize]| sizes.iter().filter(|size| **size != 1).count() <= 1;
    (count(stored)? == count(&known)? && (flat(stored) || flat(&known))).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array4;

    const ANY: Option<usize> = None;

    /// Stored shape, wanted shape, expected change.
    type Case = (&'static [usize], Vec<Option<usize>>, Fit);

    fn known(sizes: &[usize]) -> Vec<Option<usize>> {
        sizes.iter().copied().map(Some).collect()
    }

    #[test]
    fn the_certain_ways_are_found() {
        let cases: [Case; 12] = [
            (&[1, 28, 28], known(&[1, 28, 28]), Fit::Same),
            (&[28, 28], known(&[1, 28, 28]), Fit::Reshape(vec![1, 28, 28])),
            (&[28, 28, 1], known(&[1, 28, 28]), Fit::ChannelsFirst),
            (&[28, 28], vec![Some(1), ANY, ANY], Fit::Reshape(vec![1, 28, 28])),
            (&[1, 28, 28], known(&[28, 28]), Fit::Reshape(vec![28, 28])),
            (&[784], known(&[1, 28, 28]), Fit::Reshape(vec![1, 28, 28])),
            (&[28, 28], known(&[784]), Fit::Reshape(vec![784])),
            (&[32, 48, 3], known(&[3, 32, 48]), Fit::ChannelsFirst),
            (&[32, 48, 3], vec![Some(3), ANY, ANY], Fit::ChannelsFirst),
            (&[3, 32, 48], known(&[32, 48, 3]), Fit::ChannelsLast),
            (&[3, 3, 3], known(&[3, 3, 3]), Fit::Same),
            (&[], known(&[1]), Fit::Reshape(vec![1])),
        ];
        for (stored, wanted, expected) in cases {
            assert_eq!(Fit::find(stored, &wanted, None), Some(expected), "{stored:?}");
        }
    }

    #[test]
    fn doubtful_ways_are_not_taken() {
        let cases: [(&[usize], Vec<Option<usize>>); 7] = [
            (&[28, 28, 3], known(&[1, 28, 28])),
            (&[14, 56], known(&[28, 28])),
            (&[32, 48, 3], known(&[3, 48, 32])),
            (&[784], vec![Some(1), ANY, ANY]),
            (&[783], known(&[1, 28, 28])),
            (&[2, 3], vec![ANY]),
            (&[usize::MAX, 4], known(&[4])),
        ];
        for (stored, wanted) in cases {
            assert_eq!(Fit::find(stored, &wanted, None), None, "{stored:?}");
        }
    }

    #[test]
    fn a_layout_decides_where_shapes_do_not() {
        let (stored, open) = ([8, 8, 8], vec![ANY, ANY, ANY]);
        let find = |layout| Fit::find(&stored, &open, layout).unwrap();
        assert_eq!(find(None), Fit::Same);
        assert_eq!(find(Some(Layout::Nhwc)), Fit::ChannelsFirst);
        assert_eq!(find(Some(Layout::Nchw)), Fit::Same);
        // A model that takes channels last, fed channels last.
        let last = Fit::find(&[32, 48, 3], &known(&[32, 48, 3]), Some(Layout::Nhwc));
        assert_eq!(last, Some(Fit::Same));
        // The given layout excludes the other interpretation.
        assert_eq!(Fit::find(&[32, 48, 3], &known(&[3, 32, 48]), Some(Layout::Nchw)), None);
    }

    #[test]
    fn transposing_moves_every_element() {
        let stored = Array4::from_shape_fn((2, 3, 4, 5), |(n, h, w, c)| {
            (1000 * n + 100 * h + 10 * w + c) as i32
        });
        let moved = Fit::ChannelsFirst.apply(stored.clone().into_dyn().into()).unwrap();
        let HostArray::I32(first) = &moved else { panic!("the type changed") };
        assert_eq!(first.shape(), [2, 5, 3, 4]);
        assert_eq!(first[[1, 4, 2, 3]], stored[[1, 2, 3, 4]]);
        assert_eq!(Fit::ChannelsLast.apply(moved).unwrap(), stored.into_dyn().into());
    }
}

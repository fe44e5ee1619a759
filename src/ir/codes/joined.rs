//! The codes of constants that are joined.

use ndarray::{ArrayD, Axis, IxDyn};

use super::Codes;
use crate::ir::tensor::Tensor;

impl Codes {
    /// The codes of constants that are joined along `axis`, each with its extent along it; `None` if no scales along
    /// one axis, or of blocks, are theirs.
    pub fn joined(parts: &[(&Codes, usize)], axis: usize) -> Option<Codes> {
        let (first, _) = *parts.first()?;
        let direct = parts.iter().all(|(codes, _)| codes.direct);
        let is_kept = first.is_uniform() || (!first.is_blocked() && first.axis != axis);
        let is_same = |codes: &Codes| *codes == Codes { direct: codes.direct, ..first.clone() };
        if is_kept && parts.iter().all(|(codes, _)| is_same(codes)) {
            return Some(Codes { direct, ..first.clone() });
        }
        if first.is_blocked() {
            return in_blocks(parts, axis).map(|codes| Codes { direct, ..codes });
        }
        let (mut scale, mut zeros) = (Vec::new(), Vec::new());
        for (codes, extent) in parts {
            let fits = codes.is_uniform() || (codes.axis == axis && codes.scale.dims == [*extent]);
            if codes.is_half() || !codes.is_like(first) || !fits {
                return None;
            }
            let all = (codes.scale.len(), if codes.is_uniform() { *extent } else { 1 });
            let own = codes.zero.as_ref().map_or_else(|| Some(vec![0; all.0]), Tensor::to_i64)?;
            (0..all.1).for_each(|_| scale.extend_from_slice(&codes.scale.data));
            (0..all.1).for_each(|_| zeros.extend_from_slice(&own));
        }
        let dims = vec![zeros.len()];
        let has_zeros = parts.iter().any(|(codes, _)| codes.zero.is_some());
        let zeros = ArrayD::from_shape_vec(IxDyn(&dims), zeros).ok()?;
        let zero = Tensor::from_ints(first.dtype, &zeros).filter(|_| has_zeros);
        let scale = Tensor { dtype: first.scale.dtype, dims, data: scale.into() };
        let (block, places) = (0, None);
        Some(Codes { dtype: first.dtype, axis, scale, zero, direct, block, places })
    }

    /// Whether integers and scales have the types of other ones.
    fn is_like(&self, other: &Codes) -> bool {
        self.dtype == other.dtype && self.scale.dtype == other.scale.dtype
    }
}

/// The codes of joined constants whose blocks have one size.
fn in_blocks(parts: &[(&Codes, usize)], axis: usize) -> Option<Codes> {
    let (first, extent) = *parts.first()?;
    let size = |codes: &Codes, extent: usize| {
        let blocks = codes.scale.dims.get(axis).filter(|_| codes.axis == axis)?;
        extent.checked_div(*blocks)
    };
    let is_alike = |codes: &Codes, own: usize| {
        let fits = codes.is_blocked() && codes.axis == first.axis && codes.is_like(first);
        let keeps = codes.places == first.places && (axis != first.axis || codes.places.is_none());
        fits && keeps && size(codes, own) == size(first, extent)
    };
    if !parts.iter().all(|(codes, own)| is_alike(codes, *own)) {
        return None;
    }
    let scales: Option<Vec<ArrayD<f64>>> =
        parts.iter().map(|(codes, _)| codes.scale.to_f64().ok()).collect();
    let scale = Tensor::from_f64(first.scale.dtype, &concatenated(&scales?, axis)?).ok()?;
    let zeros = parts.iter().map(|(codes, _)| {
        let zeros = match &codes.zero {
            Some(zero) => zero.to_i64()?,
            None => vec![0; codes.scale.len()],
        };
        ArrayD::from_shape_vec(IxDyn(&codes.scale.dims), zeros).ok()
    });
    let zeros: Option<Vec<ArrayD<i64>>> = zeros.collect();
    let zero = match parts.iter().any(|(codes, _)| codes.zero.is_some()) {
        true => Some(Tensor::from_ints(first.dtype, &concatenated(&zeros?, axis)?)?),
        false => None,
    };
    Some(Codes { scale, zero, ..first.clone() })
}

fn concatenated<T: Clone>(parts: &[ArrayD<T>], axis: usize) -> Option<ArrayD<T>> {
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    views.first().filter(|view| axis < view.ndim())?;
    ndarray::concatenate(Axis(axis), &views).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::DataType;
    use ndarray::arr2;

    #[test]
    fn joined_blocks_have_the_scales_of_their_parts() {
        let codes = |scale: ndarray::Array2<f32>, zero: Option<ndarray::Array2<i64>>| Codes {
            dtype: DataType::U4,
            axis: 0,
            scale: Tensor::from_f32(&scale.into_dyn()),
            zero: zero.and_then(|zero| Tensor::from_ints(DataType::U4, &zero.into_dyn())),
            direct: true,
            block: 0,
            places: None,
        };
        let numbers =
            |rows: ndarray::Array2<i64>| Tensor::from_ints(DataType::U4, &rows.into_dyn()).unwrap();
        let (a, b) = (
            codes(arr2(&[[0.5], [0.1]]), None),
            codes(arr2(&[[2.0], [3.0]]), Some(arr2(&[[1], [8]]))),
        );
        let (first, second) =
            (numbers(arr2(&[[1], [2], [3], [4]])), numbers(arr2(&[[5], [6], [7], [8]])));
        let floats = [a.decode(&first).unwrap(), b.decode(&second).unwrap()];
        let floats = floats.map(|part| part.to_f64().unwrap());
        for (axis, extent) in [(0, 4), (1, 1)] {
            let joined = Codes::joined(&[(&a, extent), (&b, extent)], axis).unwrap();
            let all =
                Tensor::from_f64(DataType::F32, &concatenated(&floats, axis).unwrap()).unwrap();
            let (found, _) = joined.encode(&all).unwrap();
            assert_eq!(joined.decode(&found), Some(all));
            assert!(joined.direct);
        }
        assert_eq!(Codes::joined(&[(&a, 4), (&b, 6)], 0), None, "blocks of unequal sizes");
    }
}

//! Normalisation.

use crate::ir::{Dim, TensorType};

use super::super::{NodeView, normal_axis};
use super::{Rows, agreed, alike, named_dtype, typed_as};

pub(super) const RULES: Rows = &[
    (
        &[
            "GroupNormalization",
            "InstanceNormalization",
            "LRN",
            "LpNormalization",
            "MeanVarianceNormalization",
        ],
        alike,
    ),
    (&["BatchNormalization"], batch),
    (&["LayerNormalization"], layer),
    (&["RMSNormalization"], |node| vec![typed_as(node, 1, node.shape(0)).or_else(|| node.ty(0))]),
];

/// In training mode, further outputs are statistics of the channels.
fn batch(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let channels = (1..5).filter_map(|i| node.shape(i)?.first().cloned());
    let channels = channels.chain(node.shape(0).and_then(|s| s.get(1).cloned()));
    let channels = channels.fold(Dim::Unknown, |all, own| agreed(&all, &own));
    let statistic = |index| typed_as(node, index, Some(vec![channels.clone()]));
    vec![node.ty(0), statistic(3), statistic(4)]
}

/// Means and inverse deviations have extent 1 along the normalised axes.
fn layer(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let first = node.shape(0).and_then(|s| normal_axis(node.node.int("axis", -1), s.len()));
    let shape = node.shape(0).zip(first).map(|(mut shape, first)| {
        shape.iter_mut().skip(first).for_each(|dim| *dim = Dim::Known(1));
        shape
    });
    let dtype = named_dtype(node, "stash_type").unwrap_or(crate::ir::DataType::F32);
    let statistic = Some(TensorType { dtype, shape });
    vec![node.ty(0), statistic.clone(), statistic]
}

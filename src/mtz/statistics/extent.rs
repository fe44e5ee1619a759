//! Memory of a layer's statistics.

use crate::calib::gram::Moments;
use crate::calib::taps::has_positions;
use crate::couple::CoupledLayer;
use crate::error::Result;
use crate::ir::Graph;
use crate::mtz::joint::Task;
use crate::mtz::solver::memory::Extent;

/// Bytes of the statistics of one layer; `targets` says whether they hold pre-activations.
pub(crate) fn statistics_bytes(net: &Task, layer: &CoupledLayer, targets: bool) -> u64 {
    bytes(net.graph(), layer, targets).unwrap_or(u64::MAX)
}

/// Bytes of the statistics of one layer for any merge to come. Sums over the means of samples, which a merge
/// adds to those over rows, are kept apart from them.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the layer's weight is not a matrix.
pub(crate) fn survey_bytes(graph: &Graph, layer: &CoupledLayer) -> Result<u64> {
    let sums = if has_positions(&layer.layer.kind) { 2 } else { 1 };
    Ok(bytes(graph, layer, false)?.saturating_mul(sums))
}

/// Bytes of one set of sums over a layer's rows.
fn bytes(graph: &Graph, layer: &CoupledLayer, targets: bool) -> Result<u64> {
    let (out, inputs, taps) = layer.layer.sizes(graph)?;
    Ok(match layer.per_channel {
        _ if layer.layer.is_table() => 8 * inputs as u64,
        true => Moments::bytes(taps, usize::from(targets)).saturating_mul(out as u64),
        false => Moments::bytes(inputs.saturating_mul(taps), if targets { out } else { 0 }),
    })
}

/// Memory of the work at a layer when `tasks` nets are merged; `None` for depthwise layers and
/// tables, which need hardly any.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the layer's weight is not a matrix.
pub(crate) fn extent(tasks: usize, net: &Task, layer: &CoupledLayer) -> Result<Option<Extent>> {
    let (outputs, inputs, taps) = layer.layer.sizes(net.graph())?;
    let inputs = inputs.saturating_mul(taps).saturating_add(1);
    let is_matrix = !layer.per_channel && !layer.layer.is_table();
    Ok(is_matrix.then_some(Extent { outputs, inputs, tasks }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::GraphBuilder;
    use crate::mtz::joint::coupled;

    #[test]
    fn a_survey_keeps_two_sums_of_convolutions() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,3,4,4");
        let (filters, weight) = (b.weights("w1", &[5, 3, 2, 2]), b.weights("w2", &[6, 45]));
        let h = b.op("Conv", "conv", &[x, filters], []);
        let h = b.op("Flatten", "flat", &[h], []);
        let y = b.op("Gemm", "fc", &[h, weight], [("transB", 1.into())]);
        let net = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let (model, coupling) = coupled(net).unwrap();
        let of = |layer: &CoupledLayer| survey_bytes(&model.graph, layer).unwrap();
        let found: Vec<u64> = coupling.layers.iter().map(of).collect();
        assert_eq!(found, [2 * Moments::bytes(12, 0), Moments::bytes(45, 0)]);
    }
}

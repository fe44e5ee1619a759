//! Memory of a layer's statistics.

use crate::calib::gram::Moments;
use crate::couple::CoupledLayer;
use crate::error::Result;
use crate::mtz::joint::Task;
use crate::mtz::solver::memory::Extent;

/// Bytes of the statistics of one layer; `targets` says whether they hold pre-activations.
pub(crate) fn statistics_bytes(net: &Task, layer: &CoupledLayer, targets: bool) -> u64 {
    let Ok((out, inputs, taps)) = layer.layer.sizes(net.graph()) else {
        return u64::MAX;
    };
    match layer.per_channel {
        _ if layer.layer.is_table() => 8 * inputs as u64,
        true => Moments::bytes(taps, usize::from(targets)).saturating_mul(out as u64),
        false => Moments::bytes(inputs.saturating_mul(taps), if targets { out } else { 0 }),
    }
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

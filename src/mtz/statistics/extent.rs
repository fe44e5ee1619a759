//! What statistics of a layer take of memory.

use crate::calib::gram::Moments;
use crate::couple::CoupledLayer;
use crate::error::Result;
use crate::mtz::joint::Task;
use crate::mtz::solver::memory::Extent;

/// Bytes that the statistics of one layer take; `targets` tells whether they hold pre-activations.
pub(crate) fn statistics_bytes(net: &Task, layer: &CoupledLayer, targets: bool) -> u64 {
    let Ok((out, inputs, taps)) = layer.layer.sizes(net.graph()) else {
        return u64::MAX;
    };
    match layer.per_channel {
        true => Moments::bytes(taps, usize::from(targets)).saturating_mul(out as u64),
        false => Moments::bytes(inputs.saturating_mul(taps), if targets { out } else { 0 }),
    }
}

/// What the work at a layer of a net takes of memory, where so many `tasks` are merged; `None` for a
/// depthwise layer, which takes hardly any.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the layer's weight is not a matrix.
pub(crate) fn extent(tasks: usize, net: &Task, layer: &CoupledLayer) -> Result<Option<Extent>> {
    let (outputs, inputs, taps) = layer.layer.sizes(net.graph())?;
    let inputs = inputs.saturating_mul(taps).saturating_add(1);
    Ok((!layer.per_channel).then_some(Extent { outputs, inputs, tasks }))
}

//! The source of sums over the rows of layers' inputs.

use serde::{Deserialize, Serialize};

use crate::align::TaskLayer;
use crate::calib::gram::Moments;
use crate::calib::kept::Statistics;
use crate::calib::taps::RowLimit;
use crate::couple::CoupledLayer;
use crate::error::Result;
use crate::ir::Model;
use crate::progress::Progress;

/// Returns statistics of one layer after the other, in the order of the walk.
///
/// Implementations differ in where the samples are: in this process ([`super::streamed`]), in an earlier
/// calibration ([`super::stored`]), or in shards, each with a worker ([`super::sharded`]).
pub(crate) trait StatisticsSource {
    /// Steps of progress per layer, for all tasks together.
    fn steps(&self) -> usize;

    /// Statistics of the inputs of a layer.
    ///
    /// # Errors
    /// As the runtime and the samples; [`crate::error::ErrorKind::Interrupted`] when stopped.
    fn of_layer(&mut self, wanted: &Wanted<'_>, progress: &dyn Progress) -> Result<Statistics>;

    /// Separate moments of every channel of a depthwise layer.
    ///
    /// # Errors
    /// As [`StatisticsSource::of_layer`].
    fn of_channels(&mut self, wanted: &Wanted<'_>, progress: &dyn Progress)
    -> Result<Vec<Moments>>;

    /// Notes that weights have changed everywhere in the merged nets.
    fn restart(&mut self);

    /// The same source, for a separate walk from the first layer on.
    fn fork<'s>(&self) -> Box<dyn StatisticsSource + 's>
    where
        Self: 's;
}

/// A request for statistics of a layer.
pub(crate) struct Wanted<'s> {
    /// The task and the number of the layer.
    pub(crate) own: TaskLayer,
    pub(crate) layer: &'s CoupledLayer,
    /// The task's net with its current weights.
    pub(crate) current: &'s Model,
    pub(crate) view: View,
    /// The limit of rows, and their choice.
    pub(crate) limit: RowLimit,
    /// Limit of bytes of values that are kept for the next layers; `None` keeps the previous limit.
    pub(crate) room: Option<u64>,
}

/// The net that statistics of a layer are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum View {
    /// The original net.
    Original,
    /// The net as merged so far.
    Merged,
    /// The net as merged so far, with pre-activations of the original net as targets.
    WithTargets,
}

//! Statistics from earlier calibrations.

use std::collections::BTreeMap;

use crate::align::TaskLayer;
use crate::calib::gram::Moments;
use crate::calib::kept::Statistics;
use crate::calib::net::{LayerInputs, NetStatistics, names};
use crate::couple::{CoupledLayer, LayerId};
use crate::error::{Error, ErrorKind, Result};
use crate::mtz::joint::Task;
use crate::progress::Progress;

use super::source::{StatisticsSource, View, Wanted};
use super::weighting::Sensitivities;

/// Stored statistics of one task's original net.
#[derive(Debug, Clone, Default)]
pub struct StoredNet {
    layers: BTreeMap<LayerId, LayerInputs>,
    /// Sensitivities of all its layers; empty if they are not known.
    pub sensitivities: Sensitivities,
}

impl StoredNet {
    /// The statistics of a file, for the layers of `net`.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] for statistics of other layers.
    pub fn of(net: &Task, mut file: NetStatistics) -> Result<StoredNet> {
        let all = &net.coupling().layers;
        let mut stored = StoredNet::default();
        for (at, (layer, name)) in all.iter().zip(names(all)).enumerate() {
            let Some(inputs) = file.layers.remove(&name) else { continue };
            if !fits(net, layer, &inputs)? {
                let message = "the statistics are those of a layer of another size";
                return Err(Error::new(ErrorKind::Calibration, message)
                    .hint("calibrate the model again")
                    .at_node(&layer.name));
            }
            stored.layers.insert(LayerId(at), inputs);
            let own = file.sensitivities.remove(&name);
            if let Some(own) = own.filter(|own| own.channels.len() == layer.outputs.len()) {
                stored.sensitivities.insert(LayerId(at), own);
            }
        }
        if stored.layers.is_empty() && !all.is_empty() {
            let message = "the statistics hold none of the model's layers";
            return Err(Error::new(ErrorKind::Calibration, message)
                .hint("calibrate the model that is merged"));
        }
        if stored.sensitivities.len() != all.len() {
            stored.sensitivities.clear();
        }
        Ok(stored)
    }

    /// Names of the net's layers without statistics.
    pub fn missing<'n>(&self, net: &'n Task) -> Vec<&'n str> {
        let all = net.coupling().layers.iter().enumerate();
        let missing = all.filter(|(at, _)| !self.layers.contains_key(&LayerId(*at)));
        missing.map(|(_, layer)| layer.name.as_str()).collect()
    }
}

/// Whether statistics are as large as those of a layer.
fn fits(net: &Task, layer: &CoupledLayer, found: &LayerInputs) -> Result<bool> {
    let (_, inputs, taps) = layer.layer.sizes(net.graph())?;
    Ok(match found {
        LayerInputs::Counts(counts) => layer.layer.is_table() && counts.len() == inputs,
        LayerInputs::Channels(all) => {
            let is_window = |rows: &Moments| rows.inputs() == taps;
            layer.per_channel
                && all.len() == layer.outputs.len()
                && all.iter().all(|spread| is_window(spread.parts().0))
        }
        LayerInputs::Rows(spread) => {
            let is_matrix = !layer.per_channel && !layer.layer.is_table();
            is_matrix && spread.parts().0.inputs() == inputs.saturating_mul(taps)
        }
    })
}

/// Stored statistics of the original nets; `rest` provides missing ones.
pub(crate) struct Stored<'a> {
    /// Per task.
    nets: &'a [StoredNet],
    rest: Box<dyn StatisticsSource + 'a>,
}

impl<'a> Stored<'a> {
    pub(crate) fn new(nets: &'a [StoredNet], rest: Box<dyn StatisticsSource + 'a>) -> Self {
        Stored { nets, rest }
    }

    /// The statistics that fit a request, if there are any.
    fn get(&self, wanted: &Wanted<'_>) -> Option<&'a LayerInputs> {
        let TaskLayer { task, layer } = wanted.own;
        let stored = self.nets.get(task.0)?.layers.get(&layer)?;
        (wanted.view == View::Original).then_some(stored)
    }
}

impl StatisticsSource for Stored<'_> {
    fn steps(&self) -> usize {
        self.rest.steps()
    }

    fn of_layer(&mut self, wanted: &Wanted<'_>, progress: &dyn Progress) -> Result<Statistics> {
        match self.get(wanted) {
            Some(LayerInputs::Rows(spread)) => Ok(spread.at(wanted.limit.coherence)?.into()),
            Some(LayerInputs::Counts(counts)) => Ok(Statistics::Counts(counts.clone())),
            _ => self.rest.of_layer(wanted, progress),
        }
    }

    fn of_channels(
        &mut self,
        wanted: &Wanted<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<Moments>> {
        match self.get(wanted) {
            Some(LayerInputs::Channels(all)) => {
                all.iter().map(|spread| spread.at(wanted.limit.coherence)).collect()
            }
            _ => self.rest.of_channels(wanted, progress),
        }
    }

    fn restart(&mut self) {
        self.rest.restart();
    }

    fn fork<'s>(&self) -> Box<dyn StatisticsSource + 's>
    where
        Self: 's,
    {
        Box::new(Stored { nets: self.nets, rest: self.rest.fork() })
    }
}

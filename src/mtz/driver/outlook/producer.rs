//! A producer of a group, and the group's neurons so far.

use std::collections::HashMap;

use crate::align::TaskChannel;
use crate::mtz::site::SiteLayer;

/// One producer of a group, in the tasks that are being paired.
pub(super) struct Producer<'a> {
    /// The layer of each task.
    pub(super) members: &'a [SiteLayer],
    /// The task that joins the others.
    pub(super) next_net: usize,
}

/// Neurons of a correspondence so far.
pub(super) struct KnownNeurons {
    /// The channel of each of their owners.
    pub(super) owners: Vec<Vec<TaskChannel>>,
    /// The neuron of each channel.
    pub(super) places: HashMap<TaskChannel, usize>,
}

impl KnownNeurons {
    pub(super) fn new(owners: Vec<Vec<TaskChannel>>) -> KnownNeurons {
        let channels = owners.iter().enumerate();
        let places = channels.flat_map(|(n, own)| own.iter().map(move |c| (*c, n))).collect();
        KnownNeurons { owners, places }
    }
}

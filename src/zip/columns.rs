//! Which columns of two corresponding layers are the same shared input.

use std::collections::HashMap;

use crate::align::Alignment;
use crate::couple::{Channel, CoupledLayer};

use super::joint::{JointModel, Neuron};

/// Columns of two layers' weights, counted as `input · taps + tap`, bias last where both have one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Columns {
    /// Columns of the first layer that are shared.
    pub(super) a: Vec<usize>,
    /// The columns of the second layer that they are shared with, in the same order.
    pub(super) b: Vec<usize>,
}

/// An input that two layers have in common.
#[derive(PartialEq, Eq, Hash)]
enum Common {
    Neuron(Neuron),
    /// Channel of a model input.
    Input(usize),
}

/// Shared columns of two corresponding layers of tasks 0 and 1, without the bias.
pub(super) fn shared(
    joint: &JointModel,
    alignment: &Alignment,
    a: &CoupledLayer,
    b: &CoupledLayer,
    taps: usize,
) -> Columns {
    let (Some(inputs_a), Some(inputs_b)) = (&a.inputs, &b.inputs) else {
        return Columns::default();
    };
    let corresponding = |x: Channel, y: Channel| alignment.inputs.contains(&(x.group, y.group));
    let same_inputs = match (inputs_a.first(), inputs_b.first()) {
        (Some(x), Some(y)) => corresponding(*x, *y),
        _ => false,
    };
    let places = |task: usize, channels: &[Channel]| -> HashMap<Common, Vec<usize>> {
        let mut places: HashMap<Common, Vec<usize>> = HashMap::new();
        for (position, channel) in channels.iter().enumerate() {
            let common = match joint.neuron(task, *channel) {
                Some(neuron) => Common::Neuron(neuron),
                None if same_inputs => Common::Input(channel.index),
                None => continue,
            };
            places.entry(common).or_default().push(position);
        }
        places
    };
    let (places_a, places_b) = (places(0, inputs_a), places(1, inputs_b));
    let mut pairs: Vec<(usize, usize)> = places_a
        .iter()
        .filter_map(|(common, at)| Some((at, places_b.get(common)?)))
        // A channel that is flattened to another number of pixels is another input.
        .filter(|(at, other)| at.len() == other.len())
        .flat_map(|(at, other)| at.iter().copied().zip(other.iter().copied()))
        .collect();
    pairs.sort_unstable();
    let expand = |position: usize| (0..taps).map(move |t| position * taps + t);
    Columns {
        a: pairs.iter().flat_map(|(x, _)| expand(*x)).collect(),
        b: pairs.iter().flat_map(|(_, y)| expand(*y)).collect(),
    }
}

/// The columns below `width` that are not in `shared`.
pub(super) fn rest(shared: &[usize], width: usize) -> Vec<usize> {
    let mut private = vec![true; width];
    for column in shared {
        private[*column] = false;
    }
    (0..width).filter(|c| private[*c]).collect()
}

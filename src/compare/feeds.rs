//! One sample for every input, of the originals and of the joint model.

use ndarray::arr1;

use super::Original;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{DataType, Graph, Model, ValueId};
use crate::runtime::{HostArray, Port, fixed_batch, ports};
use crate::verify::Wiring;

/// Named arrays for one run.
pub(super) type Feed = Vec<(String, HostArray)>;

/// Inputs for one run of all tasks.
pub(super) struct Feeds {
    /// Per original.
    pub(super) originals: Vec<Feed>,
    /// Of the joint model: one run, or one per task in the forms that compute one task at a time.
    pub(super) joint: Vec<Feed>,
}

impl Feeds {
    pub(super) fn new(joint: &Model, originals: &[Original<'_>]) -> Result<Self> {
        let graph = &joint.graph;
        let inputs = ports(graph, &graph.inputs)?;
        let outputs: Vec<Port> = graph.outputs.iter().map(|id| output(graph, *id)).collect();
        let wiring = Wiring::of(&inputs, &outputs)?;
        let originals: Vec<Feed> = originals.iter().map(sample).collect::<Result<_>>()?;
        let read = if wiring.separate() { originals.len() } else { 1 };
        let mut common = Feed::new();
        for (task, own) in wiring.tasks.iter().zip(originals.iter().take(read)) {
            let own_names: Vec<&str> = own.iter().map(|(name, _)| name.as_str()).collect();
            let names = wiring.inputs_of(task, &own_names).ok_or_else(|| {
                let message = format!("the inputs of task '{task}' are not those of its original");
                Error::new(ErrorKind::Format, message)
            })?;
            let named = names.iter().zip(own);
            common.extend(named.map(|(name, (_, array))| ((*name).to_owned(), array.clone())));
        }
        let joint = match &wiring.selector {
            None => vec![common],
            Some(selector) => (0i64..)
                .zip(&wiring.tasks)
                .map(|(number, _)| {
                    let number = (selector.clone(), arr1(&[number]).into_dyn().into());
                    common.iter().cloned().chain([number]).collect()
                })
                .collect(),
        };
        Ok(Feeds { originals, joint })
    }
}

/// The first sample, or as many samples as the batch size requires.
fn sample(original: &Original<'_>) -> Result<Feed> {
    let graph = &original.net.graph;
    let size = fixed_batch(&ports(graph, &graph.inputs)?).unwrap_or(1).max(1);
    let indices: Vec<usize> = (0..size).map(|i| i % original.data.len().max(1)).collect();
    original.data.select(&indices)?.batch(0..size)
}

/// An output, which may be no tensor.
fn output(graph: &Graph, id: ValueId) -> Port {
    let value = graph.value(id);
    let (dtype, shape) = match value.ty.clone() {
        Some(ty) => (ty.dtype, ty.shape),
        None => (DataType::Other(0), None),
    };
    Port { name: value.name.clone(), dtype, shape }
}

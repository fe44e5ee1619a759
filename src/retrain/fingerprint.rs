//! The fingerprint of a training, by which a checkpoint knows its own.

use sha2::{Digest, Sha256};

use crate::calib::data::Dataset;
use crate::error::Result;
use crate::ir::Model;
use crate::naming::digits;
use crate::runtime::State;

use super::options::RetrainOptions;

/// What a training is told apart by.
#[derive(Clone, Copy)]
pub(super) struct Training<'a> {
    /// The encoded graph of a step, to which parameters are inputs.
    pub(super) graph: &'a [u8],
    /// The initial parameters.
    pub(super) parameters: &'a [State],
    pub(super) teachers: &'a [Model],
    pub(super) data: &'a [Dataset],
    pub(super) options: &'a RetrainOptions,
}

impl Training<'_> {
    /// Equal for the same graph, initial parameters, weights and operators of the original nets, numbers of
    /// samples with the first ones, and options. The number of steps does not count, so training can be prolonged.
    ///
    /// # Errors
    /// Those of reading samples.
    pub(super) fn fingerprint(&self) -> Result<String> {
        let options = self.options.clone();
        let settings = RetrainOptions { iterations: 0, patience: None, memory: 0, ..options };
        let mut hasher = Sha256::new();
        hasher.update(self.graph);
        hasher.update(format!("{settings:?}"));
        for state in self.parameters {
            let values = state.value.as_f32()?;
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            hasher.update(bytes);
        }
        self.teachers.iter().for_each(|teacher| add_net(&mut hasher, teacher));
        for data in self.data {
            hasher.update(format!("{} {}", data.len(), data.digest()?));
        }
        Ok(digits(&hasher.finalize()))
    }
}

/// Adds the operators and constants of a net.
fn add_net(hasher: &mut Sha256, net: &Model) {
    net.graph.nodes().for_each(|(_, node)| hasher.update(format!("{} ", node.op)));
    for (id, value) in net.graph.values() {
        let Some(tensor) = net.graph.initializer(id) else { continue };
        hasher.update(format!("{} {:?} ", value.name, tensor.dims));
        hasher.update(&tensor.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::data::DataOptions;
    use crate::ir::builder::{GraphBuilder, shape};
    use crate::ir::{DataType, Tensor};
    use crate::runtime::{HostArray, Port};

    fn net(weight: f32) -> Model {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,1");
        let weight = b.constant("w", Tensor::from_f32(&ndarray::arr2(&[[weight]]).into_dyn()));
        let y = b.op("MatMul", "y", &[x, weight], []);
        b.build(&[y])
    }

    fn samples(len: usize, seed: u64) -> [Dataset; 1] {
        let port = Port { name: "x".into(), dtype: DataType::F32, shape: Some(shape("n,1")) };
        [Dataset::synthetic(&[port], len, seed, &DataOptions::default()).unwrap()]
    }

    fn parameters(value: f32) -> [State; 1] {
        let value = HostArray::from(ndarray::arr1(&[value]).into_dyn());
        [State { input: "w".into(), output: "w2".into(), value }]
    }

    #[test]
    fn trainings_are_told_apart_but_not_by_their_length() {
        let options = RetrainOptions::default();
        let (own, teachers, data) = (parameters(1.0), [net(1.0)], samples(100, 0));
        let training = Training {
            graph: b"graph",
            parameters: &own,
            teachers: &teachers,
            data: &data,
            options: &options,
        };
        let name = |training: Training<'_>| training.fingerprint().unwrap();
        let longer = RetrainOptions { iterations: 5000, ..options.clone() };
        assert_eq!(name(training), name(Training { options: &longer, ..training }));
        let other = RetrainOptions { seed: 1, ..options.clone() };
        let others = [
            Training { graph: b"other", ..training },
            Training { parameters: &parameters(2.0), ..training },
            Training { teachers: &[net(2.0)], ..training },
            Training { data: &samples(100, 1), ..training },
            Training { data: &samples(99, 0), ..training },
            Training { options: &other, ..training },
        ];
        for other in others {
            assert_ne!(name(training), name(other));
        }
    }
}

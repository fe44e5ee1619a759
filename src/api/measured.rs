//! The samples of one net that is measured layer by layer.

use std::sync::Arc;

use crate::calib::data::Dataset;
use crate::calib::stream::Source;
use crate::ir::Model;
use crate::runtime::{Backend, measuring};
use crate::zipper::batch_in_parts;

/// Samples in a form and in batches that fit a net and the memory, and a runtime that measures it.
pub(super) struct Measured {
    backend: Arc<dyn Backend>,
    data: Dataset,
    batch: usize,
    memory: u64,
}

impl Measured {
    /// Prepares samples for a net, in batches of `batch` at most, whose values take `memory` bytes at most.
    pub(super) fn new(
        model: &Model,
        backend: Arc<dyn Backend>,
        data: &Dataset,
        (batch, memory): (usize, u64),
    ) -> Self {
        Measured {
            backend: measuring(backend, [&model.graph]),
            data: data.fitting(model.graph.fixed_batch()),
            batch: batch_in_parts(model, batch, memory),
            memory,
        }
    }

    /// The samples, and how to run over them.
    pub(super) fn source(&self) -> Source<'_> {
        let Measured { backend, data, batch, memory } = self;
        Source { backend: backend.as_ref(), data, batch: *batch, memory: *memory }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::data::DataOptions;
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::DataType;
    use crate::ir::builder::{GraphBuilder, shape};
    use crate::mtz::joint::coupled;
    use crate::runtime::{self, Port, RuntimeOptions};

    #[test]
    fn batches_fit_into_the_memory() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,3,16,16");
        let filters = b.weights("w", &[8, 3, 3, 3]);
        let y = b.op("Conv", "conv", &[x, filters], []);
        let net = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let (model, _) = coupled(net).unwrap();
        let port =
            Port { name: "x".to_owned(), dtype: DataType::F32, shape: Some(shape("n,3,16,16")) };
        let data = Dataset::synthetic(&[port], 100, 1, &DataOptions::default()).unwrap();
        let batch = |memory: u64| {
            let backend = runtime::open(&RuntimeOptions::default()).unwrap();
            let measured = Measured::new(&model, backend, &data, (64, memory));
            let source = measured.source();
            (source.batch, source.data.len(), source.memory)
        };
        assert_eq!(batch(1 << 30), (64, 100, 1 << 30));
        assert_eq!(batch(1), (1, 100, 1));
        assert!((2..64).contains(&batch(1 << 20).0));
    }
}

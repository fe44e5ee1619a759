//! Masks of padding: attention ignores some tokens of a sample, so statistics must ignore them, too.

use std::collections::HashMap;

use super::scores::Score;
use crate::ir::{DataType, Graph};
use crate::runtime::HostArray;

/// Scores this far below the best have no weight after a softmax.
const NO_WEIGHT: f64 = 50.0;

/// An input that marks padding, and its effect on the scores of attention.
#[derive(Debug, Clone)]
pub(super) struct MaskInput {
    pub(super) name: String,
    score: Score,
}

impl MaskInput {
    /// The first input of integers or booleans [batch, tokens] that changes the input of a `Softmax`,
    /// token by token: a mask, or ids that are compared with the id of padding.
    pub(super) fn of(graph: &Graph) -> Option<MaskInput> {
        let is_flat = |input: &crate::ir::ValueId| {
            graph.value(*input).ty.as_ref().is_some_and(|ty| {
                let is_whole = matches!(ty.dtype, DataType::I64 | DataType::I32 | DataType::Bool);
                is_whole && ty.shape.as_ref().is_some_and(|shape| shape.len() == 2)
            })
        };
        let scores: Vec<_> = graph
            .nodes()
            .filter(|(_, node)| node.is("Softmax"))
            .filter_map(|(_, node)| node.input(0))
            .collect();
        graph.inputs.iter().copied().filter(is_flat).find_map(|input| {
            let score = scores.iter().find_map(|value| Score::of(graph, *value, input))?;
            Some(MaskInput { name: graph.value(input).name.clone(), score })
        })
    }

    /// The mask of an array [samples, tokens]; `None` without padding.
    pub(super) fn mask(&self, array: HostArray) -> Option<Mask> {
        let numbers = array.integers()?;
        let samples = numbers.shape().first().copied()?;
        let mut known: HashMap<i64, f64> = HashMap::new();
        let scores: Vec<f64> = numbers
            .iter()
            .map(|number| *known.entry(*number).or_insert_with(|| self.score.at(*number as f64)))
            .collect();
        let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let counts: Vec<bool> = scores.iter().map(|score| *score > best - NO_WEIGHT).collect();
        (counts.contains(&false) && counts.contains(&true)).then_some(Mask { counts, samples })
    }
}

/// The tokens of each sample that are not padding.
#[derive(Debug, Clone)]
pub(super) struct Mask {
    counts: Vec<bool>,
    samples: usize,
}

impl Mask {
    /// Whether values of this shape have a row per token: [samples, tokens, …], or [samples·tokens, …].
    pub(super) fn covers(&self, shape: &[usize]) -> bool {
        let tokens = self.counts.len() / self.samples.max(1);
        match shape {
            [samples, next, _, ..] if (*samples, *next) == (self.samples, tokens) => true,
            [rows, _] => *rows == self.counts.len(),
            _ => false,
        }
    }

    /// Whether a token is not padding, by its index among the tokens of all samples.
    pub(super) fn counts(&self, token: usize) -> bool {
        self.counts.get(token).copied().unwrap_or(true)
    }

    /// Whether an array of this shape has one number per token.
    pub(super) fn is_over(&self, shape: &[usize]) -> bool {
        shape.first() == Some(&self.samples) && shape.iter().product::<usize>() == self.counts.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::calib::data::{Arrays, DataOptions, Dataset, Rows};
    use crate::calib::stream::{Source, Stream};
    use crate::error::Result;
    use crate::ir::builder::{GraphBuilder, shape};
    use crate::ir::{Model, Tensor, ValueId};
    use crate::runtime::{self, Port, RuntimeOptions};
    use ndarray::{ArrayD, arr0, arr2};

    /// Attention over embedded ids, whose scores `masked` changes.
    fn net(masked: impl FnOnce(&mut GraphBuilder, [ValueId; 3]) -> ValueId) -> Graph {
        let mut b = GraphBuilder::new("net", 17);
        let ids = b.typed_input("ids", DataType::I64, "n,t");
        let types = b.typed_input("types", DataType::I64, "n,t");
        let mask = b.typed_input("mask", DataType::Bool, "n,t");
        let table = b.weights("table", &[9, 4]);
        let tokens = b.op("Gather", "tokens", &[table, ids], []);
        let kinds = b.op("Gather", "kinds", &[table, types], []);
        let x = b.op("Add", "x", &[tokens, kinds], []);
        let turned = b.op("Transpose", "turned", &[x], [("perm", [0, 2, 1].into())]);
        let scores = b.op("MatMul", "scores", &[x, turned], []);
        let scores = masked(&mut b, [scores, ids, mask]);
        let y = b.op("Softmax", "y", &[scores], [("axis", 2.into())]);
        b.build(&[y]).graph
    }

    fn wide(b: &mut GraphBuilder, mask: ValueId) -> ValueId {
        let axis = b.ints("axis", &[1]);
        b.op("Unsqueeze", "wide", &[mask, axis], [])
    }

    fn number(b: &mut GraphBuilder, value: f32) -> ValueId {
        b.constant("number", Tensor::from_f32(&arr0(value).into_dyn()))
    }

    /// The input that masks tokens, and which of three numbers are not padding.
    fn found(graph: &Graph, numbers: [i64; 3]) -> Option<(String, [bool; 3])> {
        let input = MaskInput::of(graph)?;
        let numbers: ArrayD<i64> = arr2(&[numbers]).into_dyn();
        let mask = input.mask(HostArray::I64(numbers))?;
        Some((input.name, [0, 1, 2].map(|token| mask.counts(token))))
    }

    #[test]
    fn a_mask_that_is_added_hides_zeros() {
        let graph = net(|b, [scores, _, mask]| {
            let flags = wide(b, mask);
            let cast = b.op("Cast", "cast", &[flags], [("to", 1.into())]);
            let (one, lowest) = (number(b, 1.0), number(b, f32::MIN));
            let hidden = b.op("Sub", "hidden", &[one, cast], []);
            let bias = b.op("Mul", "bias", &[hidden, lowest], []);
            let scale = number(b, 0.5);
            let scaled = b.op("Mul", "scaled", &[scores, scale], []);
            b.op("Add", "masked", &[scaled, bias], [])
        });
        assert_eq!(found(&graph, [0, 1, 1]), Some(("mask".to_owned(), [false, true, true])));
    }

    #[test]
    fn a_mask_of_padding_hides_what_is_not_zero_beside_a_causal_one() {
        let graph = net(|b, [scores, _, mask]| {
            let flags = wide(b, mask);
            let lowest = number(b, f32::NEG_INFINITY);
            let later = b.weights("later", &[3, 3]);
            let shape = b.op("Shape", "shape", &[scores], []);
            let later = b.op("Expand", "all", &[later, shape], []);
            let later = b.op("Trilu", "causal", &[later], []);
            let later = b.op("Cast", "is_later", &[later], [("to", 9.into())]);
            let hidden = b.op("Or", "hidden", &[later, flags], []);
            b.op("Where", "masked", &[hidden, lowest, scores], [])
        });
        assert_eq!(found(&graph, [0, 1, 1]), Some(("mask".to_owned(), [true, false, false])));
    }

    /// A net in which the id 1 is padding.
    fn padded() -> Graph {
        net(|b, [scores, ids, _]| {
            let pad = b.constant("pad", Tensor::from_i64(vec![], &[1]));
            let is_pad = b.op("Equal", "is_pad", &[ids, pad], []);
            let flags = wide(b, is_pad);
            let lowest = number(b, -1e4);
            b.op("Where", "masked", &[flags, lowest, scores], [])
        })
    }

    #[test]
    fn ids_are_compared_with_that_of_padding() {
        let found = found(&padded(), [0, 1, 2]);
        assert_eq!(found, Some(("ids".to_owned(), [true, false, true])));
    }

    /// Ids that count how often they are read.
    #[derive(Debug)]
    struct Counted(HostArray, Arc<AtomicUsize>);

    impl Rows for Counted {
        fn dtype(&self) -> DataType {
            self.0.dtype()
        }

        fn shape(&self) -> &[usize] {
            self.0.shape()
        }

        fn rows(&self, rows: &[usize]) -> Result<HostArray> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.select_rows(rows)
        }
    }

    #[test]
    fn a_mask_reads_its_input_once_and_no_other() {
        let model = Model { graph: padded(), ..GraphBuilder::new("net", 17).build(&[]) };
        let reads: [Arc<AtomicUsize>; 3] = Default::default();
        let ids: ArrayD<i64> = arr2(&[[0, 1], [2, 1], [3, 0]]).into_dyn();
        let counted = |reads: &Arc<AtomicUsize>| {
            Arc::new(Counted(HostArray::I64(ids.clone()), Arc::clone(reads))) as Arc<dyn Rows>
        };
        let names = ["ids", "types", "mask"].map(str::to_owned);
        let port = |name: &String| Port {
            name: name.clone(),
            dtype: DataType::I64,
            shape: Some(shape("n,t")),
        };
        let ports: Vec<Port> = names.iter().map(port).collect();
        let arrays = Arrays::of_rows(Some(names.to_vec()), reads.iter().map(counted).collect());
        let data = Dataset::from_arrays(&arrays, &ports, &DataOptions::default()).unwrap();
        let backend = runtime::open(&RuntimeOptions::default()).unwrap();
        let source = Source { backend: backend.as_ref(), data: &data, batch: 2, memory: 0 };
        let mut stream = Stream::new(&model, source).unwrap();
        for _ in 0..3 {
            let mask = stream.mask(0).unwrap().unwrap();
            assert_eq!([0, 1, 2, 3].map(|token| mask.counts(token)), [true, false, true, false]);
        }
        assert_eq!(reads.map(|reads| reads.load(Ordering::Relaxed)), [1, 0, 0]);
    }

    #[test]
    fn without_a_mask_all_tokens_count() {
        assert_eq!(found(&net(|_, [scores, ..]| scores), [0, 1, 2]), None);
    }

    #[test]
    fn masks_cover_values_with_a_row_per_token() {
        let mask = Mask { counts: vec![true, true, false, true, false, false], samples: 2 };
        assert!(mask.covers(&[2, 3, 8]) && mask.covers(&[6, 8]) && !mask.covers(&[2, 4, 8]));
        assert!(mask.counts(3) && !mask.counts(4));
    }
}

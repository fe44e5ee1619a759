//! The budget of constant folding.

use crate::ir::{Graph, Tensor};

/// Limit of bytes by which all results together may exceed their operands: enough for initial states
/// and for test models without stored weights, but not for giant tables of zeros.
const GROWTH: u64 = 1 << 28;

/// The same limit for large models.
const GROWTH_OF_LARGE: u64 = 1 << 24;

/// A model counts as large if its constants have this many bytes.
const LARGE: u64 = 1 << 30;

/// Limit of reads and writes of all constants. A product of two elements counts as a byte.
const REWRITES: u64 = 64;

/// Limit of both where only sizes and decisions are computed.
const SMALL: u64 = 1 << 16;

/// The remaining budget of one model.
#[derive(Debug, PartialEq)]
pub(in crate::canon) struct Budget {
    growth: u64,
    work: u64,
}

impl Budget {
    /// The budget for a graph as it was read.
    pub(in crate::canon) fn of(graph: &Graph) -> Self {
        let constants = graph.values().filter_map(|(id, _)| graph.initializer(id));
        let live: u64 = constants.map(|t| t.data.len() as u64).sum();
        let growth = if live < LARGE { GROWTH } else { GROWTH_OF_LARGE };
        Budget { growth, work: live.saturating_mul(REWRITES).saturating_add(GROWTH) }
    }

    /// A budget for sizes and decisions, which leaves weights as they are.
    pub(in crate::canon) fn of_sizes() -> Self {
        Budget { growth: SMALL, work: SMALL }
    }

    /// A budget for results that exceed their operands by so many bytes.
    pub(super) fn of_growth(growth: u64) -> Self {
        Budget { growth, work: GROWTH }
    }

    /// Spends the cost of a result of `bytes` that takes so many `products` of elements; returns `false`
    /// and spends nothing if it exceeds the budget.
    pub(super) fn take(&mut self, inputs: &[&Tensor], bytes: u64, products: u64) -> bool {
        let mut parts: Vec<(*const u8, u64)> =
            inputs.iter().map(|t| (t.data.as_ptr(), t.data.len() as u64)).collect();
        parts.sort_unstable();
        parts.dedup();
        let growth = bytes.saturating_sub(parts.iter().map(|(_, length)| length).sum());
        let read: u64 = inputs.iter().map(|t| t.data.len() as u64).sum();
        let work = bytes.saturating_add(read).saturating_add(products);
        let affordable = growth <= self.growth && work <= self.work;
        if affordable {
            self.growth -= growth;
            self.work -= work;
        }
        affordable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewriting_is_cheap_and_doubling_is_not() {
        let tensor = |bytes: usize| Tensor {
            dtype: crate::ir::DataType::U8,
            dims: vec![bytes],
            data: vec![0; bytes].into(),
        };
        let weight = tensor(1 << 20);
        let mut budget = Budget { growth: 1 << 20, work: 1 << 30 };
        for _ in 0..100 {
            assert!(budget.take(&[&weight], 1 << 20, 0));
        }
        assert!(budget.take(&[&weight, &weight], 1 << 21, 0), "grows by itself once");
        assert!(!budget.take(&[&weight, &weight], 1 << 21, 0));
        assert!(budget.take(&[&weight, &tensor(1 << 20)], 1 << 21, 0), "two weights side by side");
        assert!(!Budget { growth: 1 << 20, work: 1 << 20 }.take(&[&weight], 1 << 20, 0));
        assert!(!budget.take(&[&weight], 1 << 20, 1 << 30), "many products");
    }
}

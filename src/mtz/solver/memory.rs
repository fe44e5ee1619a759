//! Memory of the work at a layer, and the form of statistics that fits.

use super::hessian::block;

/// Memory besides weights: runtimes, code, graphs.
const REST: u64 = 96 << 20;

/// Bytes of all models, original and merged, given the bytes of each model's weights.
pub fn resident(models: &[u64]) -> u64 {
    models.iter().fold(REST, |sum, bytes| sum.saturating_add(2 * bytes))
}

/// The part of `total` bytes that is left beside models with the given bytes of weights. The largest
/// model counts once, since a merge may take it beside `total`.
pub fn beside(total: u64, models: &[u64]) -> u64 {
    let largest = models.iter().copied().max().unwrap_or(0);
    total.saturating_sub(resident(models).saturating_sub(largest)).max(total / 2)
}

/// The least useful number of rows.
const FEWEST_ROWS: usize = 64;

/// The layer of several tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Neurons.
    pub outputs: usize,
    /// Columns of the weight, with the bias.
    pub inputs: usize,
    /// Tasks that have such a layer.
    pub tasks: usize,
}

/// The form of a layer's statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Rows at most.
    pub rows: usize,
    /// Up to this many rows are stored; more rows are summed up.
    pub kept: usize,
    /// Bytes that the work takes at most.
    pub bytes: u64,
}

impl Extent {
    /// Common weights, costs of all pairs, and blocks in double precision.
    fn in_any_form(self) -> u64 {
        let (m, n) = (self.outputs as u64, self.inputs as u64);
        let weights = bytes(&[4, m, n]);
        let costs = bytes(&[32, m, m]);
        let rows = block(self.inputs).min(self.outputs) as u64;
        weights.saturating_add(costs).saturating_add(bytes(&[32, n, rows]))
    }

    /// Bytes of the work with one matrix per task: matrices, two factors, and features of weights.
    pub fn with_matrices(self) -> u64 {
        let (m, n, tasks) = (self.outputs as u64, self.inputs as u64, self.tasks as u64);
        let matrices = bytes(&[8, n, n, tasks + 1]);
        matrices.saturating_add(bytes(&[40, n, m])).saturating_add(self.in_any_form())
    }

    /// Bytes of the work with `rows` rows per task: the rows and some of their columns, their
    /// pre-activations, inner products with a factor, and images of weights.
    pub fn with_rows(self, rows: usize) -> u64 {
        let (m, n, tasks) = (self.outputs as u64, self.inputs as u64, self.tasks as u64);
        let all = (rows as u64).saturating_mul(tasks);
        let kept = bytes(&[8, all, n]).saturating_add(bytes(&[4, all, m]));
        let products = bytes(&[16, all, all]).saturating_add(bytes(&[32, all, m]));
        kept.saturating_add(products).saturating_add(self.in_any_form())
    }

    /// The form of statistics of at most `max_rows` rows within `memory` bytes; `None` if too few
    /// rows fit.
    ///
    /// Rows are stored if all tasks together have fewer rows than inputs, which is less work than
    /// matrices. If matrices do not fit, as many rows are stored as fit.
    pub fn plan(self, max_rows: usize, memory: u64) -> Option<Plan> {
        let few = self.inputs / self.tasks.max(2);
        if self.with_matrices() <= memory {
            let bytes = match max_rows <= few {
                true => self.with_rows(max_rows).min(self.with_matrices()),
                false => self.with_matrices(),
            };
            return Some(Plan { rows: max_rows, kept: few, bytes });
        }
        let (mut fits, mut too_many) = (0, max_rows.saturating_add(1));
        while too_many - fits > 1 {
            let middle = fits + (too_many - fits) / 2;
            match self.with_rows(middle) <= memory {
                true => fits = middle,
                false => too_many = middle,
            }
        }
        let plan = Plan { rows: fits, kept: fits, bytes: self.with_rows(fits) };
        (fits >= FEWEST_ROWS.min(max_rows)).then_some(plan)
    }

    /// The least memory for which there is a plan.
    pub fn least(self, max_rows: usize) -> u64 {
        self.with_matrices().min(self.with_rows(FEWEST_ROWS.min(max_rows)))
    }
}

fn bytes(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product, factor| product.saturating_mul(*factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 1 << 18;
    const GIB: u64 = 1 << 30;

    #[test]
    fn small_layers_are_summed_up_from_half_as_many_rows_as_inputs_on() {
        let extent = Extent { outputs: 300, inputs: 785, tasks: 2 };
        let plan = extent.plan(MANY, 4 * GIB).unwrap();
        assert_eq!((plan.rows, plan.kept), (MANY, 392));
    }

    #[test]
    fn of_large_layers_as_many_rows_are_taken_as_fit() {
        let extent = Extent { outputs: 4096, inputs: 25_089, tasks: 2 };
        let mut last = 0;
        for memory in [2, 3, 4, 6, 8] {
            let plan = extent.plan(MANY, memory * GIB).unwrap();
            assert!(plan.rows > last && plan.kept == plan.rows && plan.bytes <= memory * GIB);
            assert!(extent.with_rows(plan.rows + 1) > memory * GIB);
            last = plan.rows;
        }
        let plan = extent.plan(MANY, 64 * GIB).unwrap();
        assert_eq!((plan.rows, plan.kept), (MANY, 12_544));
    }

    #[test]
    fn models_take_their_part() {
        assert_eq!(beside(8 * GIB, &[GIB, GIB]), 5 * GIB - REST);
        assert_eq!(beside(GIB, &[GIB, GIB]), GIB / 2);
        assert_eq!(beside(4 * GIB, &[]), 4 * GIB - REST);
    }

    #[test]
    fn what_cannot_be_done_has_no_plan() {
        let extent = Extent { outputs: 4096, inputs: 25_089, tasks: 2 };
        assert_eq!(extent.plan(MANY, GIB / 2), None);
        assert!(extent.plan(MANY, extent.least(MANY)).is_some());
        assert!(extent.plan(MANY, extent.least(MANY) - 1).is_none());
        let huge = Extent { outputs: usize::MAX, inputs: usize::MAX, tasks: 2 };
        assert_eq!(huge.plan(MANY, u64::MAX - 1), None);
    }
}

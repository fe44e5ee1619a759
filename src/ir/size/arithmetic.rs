//! Computes sizes: at once, or by the nodes of a graph.

use super::{Factor, Size};

/// What sizes can be computed with: numbers, or values of a graph.
pub trait Arithmetic {
    /// What stands for a size.
    type Value;

    /// A named extent; `None` where nobody knows it.
    fn named(&mut self, name: &str) -> Option<Self::Value>;

    /// A plain number.
    fn number(&mut self, number: i64) -> Self::Value;

    /// `Add`, `Mul`, `Div` or `Min` of two sizes; quotients are of sizes that are at least 0.
    fn op(&mut self, op: &'static str, a: Self::Value, b: Self::Value) -> Self::Value;
}

impl Size {
    /// Computes the size; `None` where a name in it is not known.
    pub fn compute<A: Arithmetic>(&self, with: &mut A) -> Option<A::Value> {
        let mut sum = None;
        for (factors, number) in &self.terms {
            let mut product = None;
            for factor in factors {
                let value = match factor {
                    Factor::Named(name) => with.named(name)?,
                    Factor::Quotient(inner, by) => {
                        let (inner, by) = (inner.compute(with)?, with.number(*by));
                        with.op("Div", inner, by)
                    }
                    Factor::Capped(inner, most) => {
                        let (inner, most) = (inner.compute(with)?, with.number(*most));
                        with.op("Min", inner, most)
                    }
                };
                product = Some(joined(with, "Mul", product, value));
            }
            let term = match (product, number) {
                (Some(product), 1) => product,
                (product, number) => {
                    let number = with.number(*number);
                    joined(with, "Mul", product, number)
                }
            };
            sum = Some(joined(with, "Add", sum, term));
        }
        Some(sum.unwrap_or_else(|| with.number(0)))
    }
}

fn joined<A: Arithmetic>(
    with: &mut A,
    op: &'static str,
    first: Option<A::Value>,
    second: A::Value,
) -> A::Value {
    match first {
        Some(first) => with.op(op, first, second),
        None => second,
    }
}

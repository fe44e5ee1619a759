//! What one step of a loop computes: functions of the step's input and of the carried values.
//!
//! Every term has one row per sample. Products with constant matrices and constants are added up as numbers, so
//! neither the order of additions nor that of gates in a product matters.

use std::rc::Rc;

use ndarray::{Array1, Array2, Axis};

use super::activation::Activation;

/// A term, which several other terms may read.
pub(super) type Shared = Rc<Term>;

/// What a term begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The step's part of the sequence.
    Input,
    /// The carried value of this number.
    State(usize),
}

/// A value of one step.
#[derive(Debug)]
pub(super) enum Term {
    /// A source with its number of columns.
    Whole(Source, usize),
    /// A sum of products with constants.
    Affine(Affine),
    Activated(Activation, Shared),
    Sum(Shared, Shared),
    Difference(Shared, Shared),
    Product(Shared, Shared),
    /// 1 − x
    Complement(Shared),
    /// Columns of several terms, one after the other.
    Joined(Vec<Shared>),
    /// A term in the samples whose step counts, or in the others; zeros elsewhere.
    Kept(bool, Shared),
    /// The first term in the samples whose step counts, the second one in the others.
    Chosen(Shared, Shared),
}

/// Products of terms with constant matrices, columns × columns, and a constant row.
#[derive(Debug, Clone)]
pub(super) struct Affine {
    pub(super) products: Vec<(Shared, Array2<f32>)>,
    pub(super) bias: Array1<f32>,
}

impl Affine {
    /// A constant row.
    pub(super) fn constant(bias: Array1<f32>) -> Affine {
        Affine { products: Vec::new(), bias }
    }

    /// One product.
    pub(super) fn product(factor: &Shared, matrix: Array2<f32>) -> Affine {
        let bias = Array1::zeros(matrix.ncols());
        Affine { products: vec![(factor.clone(), matrix)], bias }
    }

    /// The sum of two terms of as many columns.
    pub(super) fn plus(&self, other: &Affine) -> Affine {
        let mut sum = Affine { products: self.products.clone(), bias: &self.bias + &other.bias };
        for (factor, matrix) in &other.products {
            match sum.products.iter_mut().find(|(own, _)| is_same(own, factor)) {
                Some((_, own)) => *own += matrix,
                None => sum.products.push((factor.clone(), matrix.clone())),
            }
        }
        sum
    }

    /// Each column times a number.
    pub(super) fn times(&self, factors: &Array1<f32>) -> Affine {
        let scaled = |(factor, matrix): &(Shared, Array2<f32>)| (factor.clone(), matrix * factors);
        Affine { products: self.products.iter().map(scaled).collect(), bias: &self.bias * factors }
    }

    fn select(&self, columns: &[usize]) -> Affine {
        let part = |(factor, matrix): &(Shared, Array2<f32>)| {
            (factor.clone(), matrix.select(Axis(1), columns))
        };
        Affine {
            products: self.products.iter().map(part).collect(),
            bias: self.bias.select(Axis(0), columns),
        }
    }

    /// Numbers that it holds.
    pub(super) fn len(&self) -> usize {
        self.bias.len() + self.products.iter().map(|(_, matrix)| matrix.len()).sum::<usize>()
    }
}

impl Term {
    /// Number of columns.
    pub(super) fn columns(&self) -> usize {
        match self {
            Term::Whole(_, columns) => *columns,
            Term::Affine(affine) => affine.bias.len(),
            Term::Activated(_, x) | Term::Complement(x) => x.columns(),
            Term::Sum(x, _) | Term::Difference(x, _) | Term::Product(x, _) => x.columns(),
            Term::Kept(_, x) | Term::Chosen(x, _) => x.columns(),
            Term::Joined(parts) => parts.iter().map(|part| part.columns()).sum(),
        }
    }

    /// Whether a term is surely zero.
    pub(super) fn is_zero(&self) -> bool {
        let Term::Affine(sum) = self else { return false };
        sum.products.is_empty() && sum.bias.iter().all(|number| *number == 0.0)
    }
}

/// Whether two terms are surely the same.
pub(super) fn is_same(a: &Shared, b: &Shared) -> bool {
    match (a.as_ref(), b.as_ref()) {
        (Term::Whole(a, _), Term::Whole(b, _)) => a == b,
        _ => Rc::ptr_eq(a, b),
    }
}

/// What a step computes, if a mask chooses between that and something else.
pub(super) fn new_part(term: &Shared) -> &Shared {
    match term.as_ref() {
        Term::Chosen(new, _) | Term::Kept(true, new) => new,
        _ => term,
    }
}

/// Whether a mask chooses between what a step computes and something else.
pub(super) fn is_chosen(term: &Shared) -> bool {
    matches!(term.as_ref(), Term::Chosen(..) | Term::Kept(..))
}

/// Whether a step that a mask leaves out keeps a state.
pub(super) fn keeps_state(next: &Shared, place: usize) -> bool {
    let Term::Chosen(_, old) = next.as_ref() else { return false };
    matches!(old.as_ref(), Term::Whole(Source::State(own), _) if *own == place)
}

/// Columns of a term, in this order; `None` where it cannot be taken apart. Takes what it writes from `room`, the
/// numbers that further terms may hold.
pub(super) fn select(term: &Shared, columns: &[usize], room: &mut usize) -> Option<Shared> {
    if columns.iter().copied().eq(0..term.columns()) {
        return Some(term.clone());
    }
    *room = room.checked_sub(1)?;
    let mut of = |x: &Shared| select(x, columns, room);
    Some(Rc::new(match term.as_ref() {
        Term::Activated(function, x) => Term::Activated(*function, of(x)?),
        Term::Complement(x) => Term::Complement(of(x)?),
        Term::Sum(x, y) => Term::Sum(of(x)?, of(y)?),
        Term::Difference(x, y) => Term::Difference(of(x)?, of(y)?),
        Term::Product(x, y) => Term::Product(of(x)?, of(y)?),
        Term::Kept(counts, x) => Term::Kept(*counts, of(x)?),
        Term::Chosen(x, y) => Term::Chosen(of(x)?, of(y)?),
        Term::Affine(affine) => {
            let part = affine.select(columns);
            *room = room.checked_sub(part.len())?;
            Term::Affine(part)
        }
        Term::Whole(..) | Term::Joined(_) => return None,
    }))
}

//! Arithmetic on terms.

use std::rc::Rc;

use ndarray::{Array1, Array2, Axis, Ix2};

use crate::ir::{DataType, Node, Tensor};

use super::activation::Activation;
use super::body::Body;
use super::terms::{Affine, Shared, Term};

impl Body<'_> {
    /// The result of a node that computes.
    pub(super) fn computed(&mut self, node: &Node) -> Option<Shared> {
        match node.op.as_str() {
            "MatMul" => self.matmul(node, self.matrix(node)?),
            "Gemm" => self.gemm(node),
            "Add" | "Sum" if node.inputs.len() == 2 => self.sum(node),
            "Sub" => self.difference(node),
            "Mul" => self.kept(node).or_else(|| self.product(node)),
            "Where" => self.chosen(node),
            "Div" => {
                let term = self.input(node, 0)?.clone();
                let divisors = self.row(node, 1, term.columns())?;
                self.scaled(&term, &divisors.mapv(f32::recip))
            }
            _ => {
                let function = Activation::of(node, |slot| self.number(node, slot))?;
                Some(Rc::new(Term::Activated(function, self.input(node, 0)?.clone())))
            }
        }
    }

    /// A term of numbers, if there is room for them.
    fn affine(&mut self, affine: Affine) -> Option<Shared> {
        self.room = self.room.checked_sub(affine.len())?;
        Some(Rc::new(Term::Affine(affine)))
    }

    /// A constant operand as one number per column.
    fn row(&self, node: &Node, slot: usize, columns: usize) -> Option<Array1<f32>> {
        let tensor = self.constants.get(&node.input(slot)?)?;
        let is_row = match tensor.dims.as_slice() {
            [] | [1] | [1, 1] => return Some(Array1::from_elem(columns, single(tensor)?)),
            [n] | [1, n] => *n == columns,
            _ => false,
        };
        let numbers = tensor.to_f32().ok().filter(|_| is_row && tensor.dtype == DataType::F32)?;
        Some(numbers.iter().copied().collect())
    }

    /// A constant operand that is one number.
    fn number(&self, node: &Node, slot: usize) -> Option<f32> {
        single(self.constants.get(&node.input(slot)?)?)
    }

    /// The constant matrix on the right of a product.
    fn matrix(&self, node: &Node) -> Option<Array2<f32>> {
        let tensor = self.constants.get(&node.input(1)?)?;
        let numbers = tensor.to_f32().ok().filter(|_| tensor.dtype == DataType::F32)?;
        numbers.into_dimensionality::<Ix2>().ok()
    }

    fn matmul(&mut self, node: &Node, matrix: Array2<f32>) -> Option<Shared> {
        let factor = self.input(node, 0)?.clone();
        if factor.columns() != matrix.nrows() {
            return None;
        }
        let product = match factor.as_ref() {
            Term::Affine(_) => return None,
            Term::Joined(parts) => {
                let (mut sum, mut start) = (Affine::constant(Array1::zeros(matrix.ncols())), 0);
                for part in parts {
                    let rows: Vec<usize> = (start..start + part.columns()).collect();
                    start += rows.len();
                    sum = sum.plus(&Affine::product(part, matrix.select(Axis(0), &rows)));
                }
                sum
            }
            _ => Affine::product(&factor, matrix),
        };
        self.affine(product)
    }

    fn gemm(&mut self, node: &Node) -> Option<Shared> {
        let (alpha, beta) = (node.float("alpha", 1.0), node.float("beta", 1.0));
        let matrix = self.matrix(node).filter(|_| node.int("transA", 0) == 0)?;
        let matrix = if node.int("transB", 0) == 0 { matrix } else { matrix.reversed_axes() };
        let product = self.matmul(node, matrix * alpha)?;
        let Some(addend) = node.input(2) else { return Some(product) };
        if let Some(row) = self.row(node, 2, product.columns()) {
            let bias = Rc::new(Term::Affine(Affine::constant(row * beta)));
            return self.added(&product, &bias);
        }
        let addend = self.terms.get(&addend).filter(|_| beta == 1.0)?.clone();
        self.added(&product, &addend)
    }

    /// A term, or a constant row of as many columns as another operand.
    fn operand(&self, node: &Node, slot: usize, beside: usize) -> Option<Shared> {
        if let Some(term) = self.input(node, slot) {
            return Some(term.clone());
        }
        let row = self.row(node, slot, self.input(node, beside)?.columns())?;
        Some(Rc::new(Term::Affine(Affine::constant(row))))
    }

    /// A term times a mask of steps.
    fn kept(&self, node: &Node) -> Option<Shared> {
        let flagged = |slot: usize| self.flag(node, slot).zip(self.input(node, 1 - slot));
        let (counts, term) = flagged(0).or_else(|| flagged(1))?;
        Some(Rc::new(Term::Kept(counts, term.clone())))
    }

    /// One of two terms, as a mask of steps says.
    fn chosen(&self, node: &Node) -> Option<Shared> {
        let counts = self.flag(node, 0)?;
        let (one, other) = (self.operand(node, 1, 2)?, self.operand(node, 2, 1)?);
        let (new, old) = if counts { (one, other) } else { (other, one) };
        (new.columns() == old.columns()).then(|| Rc::new(Term::Chosen(new, old)))
    }

    fn sum(&mut self, node: &Node) -> Option<Shared> {
        let (a, b) = (self.operand(node, 0, 1)?, self.operand(node, 1, 0)?);
        self.added(&a, &b)
    }

    fn added(&mut self, a: &Shared, b: &Shared) -> Option<Shared> {
        if a.columns() != b.columns() {
            return None;
        }
        match (a.as_ref(), b.as_ref()) {
            (Term::Affine(x), Term::Affine(y)) => self.affine(x.plus(y)),
            (Term::Kept(true, new), Term::Kept(false, old))
            | (Term::Kept(false, old), Term::Kept(true, new)) => {
                Some(Rc::new(Term::Chosen(new.clone(), old.clone())))
            }
            _ => Some(Rc::new(Term::Sum(a.clone(), b.clone()))),
        }
    }

    fn difference(&mut self, node: &Node) -> Option<Shared> {
        match (self.input(node, 0).cloned(), self.input(node, 1).cloned()) {
            (Some(a), Some(b)) => {
                (a.columns() == b.columns()).then(|| Rc::new(Term::Difference(a, b)))
            }
            (None, Some(b)) => {
                let is_one = self.row(node, 0, b.columns())?.iter().all(|one| *one == 1.0);
                is_one.then(|| Rc::new(Term::Complement(b)))
            }
            (Some(a), None) => {
                let row = -self.row(node, 1, a.columns())?;
                self.added(&a, &Rc::new(Term::Affine(Affine::constant(row))))
            }
            (None, None) => None,
        }
    }

    fn product(&mut self, node: &Node) -> Option<Shared> {
        match (self.input(node, 0).cloned(), self.input(node, 1).cloned()) {
            (Some(a), Some(b)) => {
                (a.columns() == b.columns()).then(|| Rc::new(Term::Product(a, b)))
            }
            (Some(term), None) => self.scaled(&term, &self.row(node, 1, term.columns())?),
            (None, Some(term)) => self.scaled(&term, &self.row(node, 0, term.columns())?),
            (None, None) => None,
        }
    }

    /// A term with its columns multiplied by numbers.
    fn scaled(&mut self, term: &Shared, factors: &Array1<f32>) -> Option<Shared> {
        match term.as_ref() {
            Term::Affine(affine) => self.affine(affine.times(factors)),
            Term::Activated(function, x) => {
                let function = function.times(factors)?;
                Some(Rc::new(Term::Activated(function, x.clone())))
            }
            _ => None,
        }
    }
}

/// The only element of a constant in single precision.
fn single(tensor: &Tensor) -> Option<f32> {
    let number = tensor.to_f32().ok().filter(|_| tensor.dtype == DataType::F32)?;
    number.iter().copied().next().filter(|_| number.len() == 1)
}

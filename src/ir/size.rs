//! Sizes that may be known only at run time: sums of products of named extents.
//!
//! Equal sizes are equal values: terms are sorted, and rounded quotients are reduced to a remainder.
//! Arithmetic that overflows, or grows beyond the needs of shapes, gives no size rather than a wrong
//! one.

mod arithmetic;

use std::collections::BTreeMap;
use std::fmt;

pub use arithmetic::Arithmetic;

/// One dimension of a shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Fixed size.
    Known(usize),
    /// Size known only at run time, with a name. Equal names are equal sizes.
    Symbol(String),
    /// Size computed from named sizes; neither a number nor a single name.
    Formula(Box<Size>),
    /// Nothing is known.
    Unknown,
}

impl Dim {
    /// The size, where it is fixed.
    pub fn known(&self) -> Option<usize> {
        match self {
            Dim::Known(n) => Some(*n),
            _ => None,
        }
    }
}

/// Products per sum at most.
const MOST_TERMS: usize = 8;

/// Factors per size at most, those inside of factors included.
const MOST_FACTORS: usize = 48;

/// A sum of products of a number and extents. Extents are at least 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Size {
    /// Non-zero coefficients by their sorted factors, repeated as often as they occur. The constant
    /// term has no factors.
    terms: BTreeMap<Vec<Factor>, i64>,
}

/// An extent that is known only at run time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Factor {
    Named(String),
    /// A size divided by a number and rounded down; numbers in the size are below the divisor.
    Quotient(Box<Size>, i64),
    /// A size, but at most a positive number; the size is at least 0 and not surely above the number.
    Capped(Box<Size>, i64),
}

impl Size {
    /// A plain number.
    pub fn number(number: i64) -> Self {
        Size { terms: (number != 0).then(|| (Vec::new(), number)).into_iter().collect() }
    }

    /// A named extent.
    pub fn named(name: impl Into<String>) -> Self {
        Size::lone(Factor::Named(name.into()))
    }

    fn lone(factor: Factor) -> Self {
        Size { terms: BTreeMap::from([(vec![factor], 1)]) }
    }

    /// An extent, if something is known of it.
    pub fn of(dim: &Dim) -> Option<Self> {
        match dim {
            Dim::Known(n) => Some(Size::number(i64::try_from(*n).ok()?)),
            Dim::Symbol(name) => Some(Size::named(name.as_str())),
            Dim::Formula(size) => Some((**size).clone()),
            Dim::Unknown => None,
        }
    }

    /// The number, if the size is constant.
    pub fn value(&self) -> Option<i64> {
        match self.terms.len() {
            0 => Some(0),
            1 => self.terms.get([].as_slice()).copied(),
            _ => None,
        }
    }

    /// The extent of this size.
    pub fn dim(self) -> Dim {
        if let Some(number) = self.value() {
            return usize::try_from(number).map_or(Dim::Unknown, Dim::Known);
        }
        match self.only_factor() {
            Some(Factor::Named(name)) => Dim::Symbol(name.clone()),
            _ => Dim::Formula(Box::new(self)),
        }
    }

    /// The factor that is all of the size.
    fn only_factor(&self) -> Option<&Factor> {
        match self.terms.first_key_value()? {
            (factors, 1) if self.terms.len() == 1 && factors.len() == 1 => factors.first(),
            _ => None,
        }
    }

    /// Whether a named extent is a part of the size.
    pub fn depends_on(&self, name: &str) -> bool {
        self.terms.keys().flatten().any(|factor| match factor {
            Factor::Named(own) => own == name,
            Factor::Quotient(inner, _) | Factor::Capped(inner, _) => inner.depends_on(name),
        })
    }

    /// Whether the size is at least 0 for all values of the named extents.
    pub fn is_natural(&self) -> bool {
        self.terms.values().all(|factor| *factor >= 0)
    }

    /// The sum of two sizes; `None` if it overflows.
    pub fn plus(&self, other: &Size) -> Option<Size> {
        let mut sum = self.clone();
        for (names, factor) in &other.terms {
            sum.add(names, *factor)?;
        }
        sum.limited()
    }

    /// The difference of two sizes; `None` if it overflows.
    pub fn minus(&self, other: &Size) -> Option<Size> {
        self.plus(&other.times(&Size::number(-1))?)
    }

    /// The product of two sizes; `None` if it overflows.
    pub fn times(&self, other: &Size) -> Option<Size> {
        let mut product = Size::default();
        for (a, x) in &self.terms {
            for (b, y) in &other.terms {
                let mut names = [a.as_slice(), b].concat();
                names.sort_unstable();
                product.add(&names, x.checked_mul(*y)?)?;
            }
        }
        product.limited()
    }

    /// The quotient of two sizes, rounded down; `None` unless the divisor is a positive number or
    /// always divides the size.
    pub fn over(&self, other: &Size) -> Option<Size> {
        match other.value() {
            Some(divisor) => self.over_number(divisor),
            None => self.over_product(other),
        }
    }

    fn over_number(&self, divisor: i64) -> Option<Size> {
        if divisor <= 0 {
            return None;
        }
        let (mut whole, mut rest) = (Size::default(), Size::default());
        for (names, factor) in &self.terms {
            whole.add(names, factor.div_euclid(divisor))?;
            rest.add(names, factor.rem_euclid(divisor))?;
        }
        if rest.value().is_some() {
            return whole.limited();
        }
        // A quotient of a quotient is one quotient.
        let number = Size::number(rest.terms.get([].as_slice()).copied().unwrap_or(0));
        if let Some(Factor::Quotient(inner, by)) = rest.minus(&number)?.only_factor() {
            let inner = inner.plus(&number.times(&Size::number(*by))?)?;
            return whole.plus(&inner.over_number(by.checked_mul(divisor)?)?);
        }
        whole.plus(&Size::lone(Factor::Quotient(Box::new(rest), divisor)))
    }

    /// The size, but at most `most`; `None` if either may be negative.
    pub fn capped(&self, most: i64) -> Option<Size> {
        if !self.is_natural() || most < 0 {
            return None;
        }
        let surely = self.terms.get([].as_slice()).copied().unwrap_or(0);
        match (self.value(), self.only_factor()) {
            (Some(number), _) => Some(Size::number(number.min(most))),
            _ if surely >= most => Some(Size::number(most)),
            (None, Some(Factor::Capped(_, own))) if *own <= most => Some(self.clone()),
            (None, Some(Factor::Capped(inner, _))) => inner.capped(most),
            (None, _) => Size::lone(Factor::Capped(Box::new(self.clone()), most)).limited(),
        }
    }

    /// Whether this is `other`, but at most some positive number.
    pub fn caps(&self, other: &Size) -> bool {
        matches!(self.only_factor(), Some(Factor::Capped(inner, _)) if **inner == *other)
    }

    /// The number of factors, those inside of factors included.
    fn factors(&self) -> usize {
        let count = |factor: &Factor| match factor {
            Factor::Named(_) => 1,
            Factor::Quotient(inner, _) | Factor::Capped(inner, _) => {
                inner.factors().saturating_add(1)
            }
        };
        self.terms.keys().flatten().map(count).fold(0, usize::saturating_add)
    }

    /// The exact quotient by one product.
    fn over_product(&self, other: &Size) -> Option<Size> {
        let (divisor, 1) = (other.terms.first_key_value()?, other.terms.len()) else { return None };
        let mut quotient = Size::default();
        for (names, factor) in &self.terms {
            let mut left = names.clone();
            for name in divisor.0 {
                left.remove(left.iter().position(|own| own == name)?);
            }
            if factor.checked_rem(*divisor.1)? != 0 {
                return None;
            }
            quotient.add(&left, factor.checked_div(*divisor.1)?)?;
        }
        quotient.limited()
    }

    fn add(&mut self, names: &[Factor], factor: i64) -> Option<()> {
        let sum = self.terms.get(names).copied().unwrap_or(0).checked_add(factor)?;
        match sum {
            0 => self.terms.remove(names),
            _ => self.terms.insert(names.to_vec(), sum),
        };
        Some(())
    }

    fn limited(self) -> Option<Size> {
        (self.terms.len() <= MOST_TERMS && self.factors() <= MOST_FACTORS).then_some(self)
    }
}

/// As in `2*n*m + n - 1`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // The plain number is the first term and comes last.
        for (place, (names, factor)) in self.terms.iter().rev().enumerate() {
            match (place, *factor < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            match (factor.unsigned_abs(), names.is_empty()) {
                (1, false) => {}
                (number, true) => write!(f, "{number}")?,
                (number, false) => write!(f, "{number}*")?,
            }
            for (place, name) in names.iter().enumerate() {
                write!(f, "{}{name}", if place == 0 { "" } else { "*" })?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Factor::Named(name) => f.write_str(name),
            Factor::Quotient(size, by) => write!(f, "floor(({size})/{by})"),
            Factor::Capped(size, most) => write!(f, "min({size}, {most})"),
        }
    }
}

impl Dim {
    /// Applies `compute` to this extent; unknown if the extent or the result is.
    pub fn computed(&self, compute: impl FnOnce(&Size) -> Option<Size>) -> Dim {
        Size::of(self).and_then(|size| compute(&size)).map_or(Dim::Unknown, Size::dim)
    }

    /// The sum of this extent and a number.
    pub fn plus(&self, number: i64) -> Dim {
        self.computed(|size| size.plus(&Size::number(number)))
    }

    /// The product of this extent and a number.
    pub fn times(&self, number: i64) -> Dim {
        self.computed(|size| size.times(&Size::number(number)))
    }

    /// The quotient of this extent and a number, rounded down.
    pub fn over(&self, number: i64) -> Dim {
        self.computed(|size| size.over(&Size::number(number)))
    }

    /// The sum of extents.
    pub fn sum<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Dim {
        Dim::fold(dims, 0, Size::plus)
    }

    /// The product of extents.
    pub fn product<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Dim {
        Dim::fold(dims, 1, Size::times)
    }

    fn fold<'a>(
        dims: impl IntoIterator<Item = &'a Dim>,
        start: i64,
        with: fn(&Size, &Size) -> Option<Size>,
    ) -> Dim {
        let all =
            dims.into_iter().try_fold(Size::number(start), |all, d| with(&all, &Size::of(d)?));
        all.map_or(Dim::Unknown, Size::dim)
    }

    /// Whether two extents are surely equal.
    pub fn is_surely(&self, other: &Dim) -> bool {
        self == other && *self != Dim::Unknown
    }

    /// Whether two shapes are surely equal.
    pub fn are_surely(one: &[Dim], other: &[Dim]) -> bool {
        one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.is_surely(b))
    }
}

#[cfg(test)]
mod tests;

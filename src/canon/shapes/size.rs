//! Sizes that may be known only at run time.

use crate::ir::Dim;

/// Products of more names are no extents.
const MOST_SYMBOLS: usize = 16;

/// A number times named extents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    factor: i64,
    /// Sorted, each as often as it is a factor.
    symbols: Vec<String>,
}

impl Size {
    /// A plain number.
    pub fn number(factor: i64) -> Self {
        Size { factor, symbols: Vec::new() }
    }

    /// An extent, if it has a size or a name.
    pub fn of(dim: &Dim) -> Option<Self> {
        match dim {
            Dim::Known(n) => Some(Size::number(i64::try_from(*n).ok()?)),
            Dim::Symbol(name) => Some(Size { factor: 1, symbols: vec![name.clone()] }),
            Dim::Unknown => None,
        }
    }

    /// The number, if there is no name in it.
    pub fn value(&self) -> Option<i64> {
        self.symbols.is_empty().then_some(self.factor)
    }

    /// The extent of this size, if it is one number or one name.
    pub fn dim(&self) -> Dim {
        match (self.factor, self.symbols.as_slice()) {
            (n, []) => usize::try_from(n).map_or(Dim::Unknown, Dim::Known),
            (1, [name]) => Dim::Symbol(name.clone()),
            _ => Dim::Unknown,
        }
    }

    /// The product of two sizes; `None` if it overflows.
    pub fn times(&self, other: &Size) -> Option<Size> {
        let factor = self.factor.checked_mul(other.factor)?;
        if factor == 0 {
            return Some(Size::number(0));
        }
        if self.symbols.len() + other.symbols.len() > MOST_SYMBOLS {
            return None;
        }
        let mut symbols = [self.symbols.as_slice(), &other.symbols].concat();
        symbols.sort_unstable();
        Some(Size { factor, symbols })
    }

    /// The quotient of two sizes; `None` unless it is exact whatever the named extents are.
    pub fn over(&self, other: &Size) -> Option<Size> {
        if let (Some(a), Some(b)) = (self.value(), other.value()) {
            return a.checked_div(b).map(Size::number);
        }
        let mut symbols = self.symbols.clone();
        for name in &other.symbols {
            symbols.remove(symbols.iter().position(|s| s == name)?);
        }
        let exact = self.factor.checked_rem(other.factor)? == 0;
        exact.then(|| Size { factor: self.factor / other.factor, symbols })
    }

    /// The sum of two numbers, or of multiples of the same extents.
    pub fn plus(&self, other: &Size) -> Option<Size> {
        match (self.value(), other.value()) {
            (Some(0), _) => Some(other.clone()),
            (_, Some(0)) => Some(self.clone()),
            _ if self.symbols == other.symbols => {
                let factor = self.factor.checked_add(other.factor)?;
                let symbols = if factor == 0 { Vec::new() } else { self.symbols.clone() };
                Some(Size { factor, symbols })
            }
            _ => None,
        }
    }

    /// The size with the opposite sign.
    pub fn negated(&self) -> Option<Size> {
        Some(Size { factor: self.factor.checked_neg()?, symbols: self.symbols.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(factor: i64, symbols: &[&str]) -> Size {
        Size { factor, symbols: symbols.iter().map(|s| (*s).to_owned()).collect() }
    }

    #[test]
    fn products_and_quotients_of_named_extents() {
        let (n, h) = (size(1, &["n"]), size(1, &["h"]));
        let six = Size::number(6);
        assert_eq!(n.times(&h).unwrap().times(&six), Some(size(6, &["h", "n"])));
        assert_eq!(size(6, &["h", "n"]).over(&size(2, &["n"])), Some(size(3, &["h"])));
        assert_eq!(size(6, &["n"]).over(&n), Some(six));
        assert_eq!(size(5, &["n"]).over(&Size::number(2)), None, "depends on n");
        assert_eq!(Size::number(7).over(&Size::number(2)), Some(Size::number(3)));
        assert_eq!(Size::number(7).over(&Size::number(0)), None);
        assert_eq!(Size::number(i64::MAX).times(&Size::number(2)), None);
    }

    #[test]
    fn sums_of_like_terms() {
        let n = size(1, &["n"]);
        assert_eq!(n.plus(&n), Some(size(2, &["n"])));
        assert_eq!(n.plus(&n.negated().unwrap()), Some(Size::number(0)));
        assert_eq!(n.plus(&Size::number(0)), Some(n.clone()));
        assert_eq!(n.plus(&Size::number(1)), None);
        assert_eq!(size(2, &["n"]).dim(), Dim::Unknown);
        assert_eq!(n.dim(), Dim::Symbol("n".into()));
    }
}

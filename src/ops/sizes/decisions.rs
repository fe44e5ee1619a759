//! Comparisons of sizes, and logic: what holds for all values of the open extents.

use crate::ir::Size;

/// Whether a relation holds; `None` if that depends on open extents.
pub(super) type Relation = fn(&Size, &Size) -> Option<bool>;

/// The relation that an operator computes.
pub(super) fn relation(op: &str) -> Option<Relation> {
    Some(match op {
        "Equal" => equal,
        "Less" => |a, b| at_most(b, a).map(|greater| !greater),
        "Greater" => |a, b| at_most(a, b).map(|less| !less),
        "LessOrEqual" => at_most,
        "GreaterOrEqual" => |a, b| at_most(b, a),
        _ => return None,
    })
}

/// Whether `a` is at most `b`; `None` if that depends on open extents.
pub(super) fn at_most(a: &Size, b: &Size) -> Option<bool> {
    let (less, more) = (b.minus(a)?, a.minus(b)?.minus(&Size::number(1))?);
    match (less.is_natural(), more.is_natural()) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

fn equal(a: &Size, b: &Size) -> Option<bool> {
    match a == b {
        true => Some(true),
        // They surely differ if one is always greater.
        false => (at_most(a, b)? != at_most(b, a)?).then_some(false),
    }
}

/// Whether a size is surely not 0, or surely 0.
pub(super) fn is_true(size: &Size) -> Option<bool> {
    equal(size, &Size::number(0)).map(|zero| !zero)
}

/// The sign of a size, if it is the same for all values of the open extents.
pub(super) fn sign(size: &Size) -> Option<Size> {
    let (zero, one) = (Size::number(0), Size::number(1));
    match (at_most(size, &zero), at_most(&one, size)) {
        (_, Some(true)) => Some(one),
        (Some(true), _) => size.value().map(|n| Size::number(n.signum())),
        _ => None,
    }
}

/// A truth value from two, of which either may be unknown.
pub(super) type Logic = fn(Option<bool>, Option<bool>) -> Option<bool>;

/// The function of truth values that an operator computes.
pub(super) fn logic(op: &str) -> Option<Logic> {
    Some(match op {
        "And" => |a, b| match (a, b) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            _ => Some(a? && b?),
        },
        "Or" => |a, b| match (a, b) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            _ => Some(a? || b?),
        },
        "Xor" => |a, b| Some(a? != b?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(op: &str, a: &Size, b: &Size) -> Option<bool> {
        relation(op).unwrap()(a, b)
    }

    #[test]
    fn relations_of_numbers_are_those_of_arithmetic() {
        for (a, b) in [(2, 2), (2, 3), (3, 2), (-1, 0)] {
            let [x, y] = [a, b].map(Size::number);
            assert_eq!(holds("Equal", &x, &y), Some(a == b));
            assert_eq!(holds("Less", &x, &y), Some(a < b));
            assert_eq!(holds("Greater", &x, &y), Some(a > b));
            assert_eq!(holds("LessOrEqual", &x, &y), Some(a <= b));
            assert_eq!(holds("GreaterOrEqual", &x, &y), Some(a >= b));
        }
    }

    #[test]
    fn open_extents_decide_only_what_holds_for_all_of_them() {
        let (n, m) = (Size::named("n"), Size::named("m"));
        let more = n.plus(&Size::number(1)).unwrap();
        let decided =
            [("Equal", &n, &n, true), ("Equal", &n, &more, false), ("Less", &n, &more, true)];
        for (op, a, b, wanted) in decided {
            assert_eq!(holds(op, a, b), Some(wanted), "{op} {a} {b}");
        }
        let zero = Size::number(0);
        assert_eq!(holds("GreaterOrEqual", &n, &zero), Some(true));
        assert_eq!(holds("Equal", &more, &zero), Some(false));
        for (op, a, b) in
            [("Equal", &n, &m), ("Equal", &n, &Size::number(1)), ("Greater", &n, &zero)]
        {
            assert_eq!(holds(op, a, b), None, "{op} {a} {b}");
        }
    }

    #[test]
    fn signs_are_those_of_all_values() {
        for (number, wanted) in [(-7, -1), (0, 0), (7, 1)] {
            assert_eq!(sign(&Size::number(number)), Some(Size::number(wanted)));
        }
        let n = Size::named("n");
        assert_eq!(sign(&n.plus(&Size::number(1)).unwrap()), Some(Size::number(1)));
        assert_eq!(sign(&n), None);
    }

    #[test]
    fn one_operand_may_decide() {
        let both = |op: &str, a, b| [logic(op).unwrap()(a, b), logic(op).unwrap()(b, a)];
        assert_eq!(both("And", Some(false), None), [Some(false); 2]);
        assert_eq!(both("And", Some(true), None), [None; 2]);
        assert_eq!(both("Or", Some(true), None), [Some(true); 2]);
        assert_eq!(both("Or", Some(false), None), [None; 2]);
        assert_eq!(both("Xor", Some(true), None), [None; 2]);
        assert_eq!(both("Xor", Some(true), Some(false)), [Some(true); 2]);
    }
}

use super::*;

fn n() -> Size {
    Size::named("n")
}

fn text(size: Option<Size>) -> String {
    size.map_or("none".to_owned(), |size| size.to_string())
}

#[test]
fn sums_and_products_have_one_form() {
    let (h, six) = (Size::named("h"), Size::number(6));
    let product = n().times(&h).unwrap().times(&six).unwrap();
    assert_eq!(product.to_string(), "6*h*n");
    assert_eq!(h.times(&six).unwrap().times(&n()), Some(product.clone()));
    assert_eq!(text(product.plus(&Size::number(-1))), "6*h*n - 1");
    assert_eq!(n().plus(&n()), n().times(&Size::number(2)));
    assert_eq!(n().minus(&n()), Some(Size::number(0)));
    assert_eq!(text(Size::number(1).minus(&n())), "-n + 1");
}

#[test]
fn quotients_are_exact_or_keep_their_remainder() {
    let two = Size::number(2);
    let product = n().times(&Size::named("h")).unwrap().times(&Size::number(6)).unwrap();
    assert_eq!(text(product.over(&two.times(&n()).unwrap())), "3*h");
    assert_eq!(text(product.over(&product)), "1");
    assert_eq!(text(n().over(&Size::named("h"))), "none");
    assert_eq!(text(n().plus(&Size::number(5)).unwrap().over(&two)), "floor((n + 1)/2) + 2");
    assert_eq!(text(n().minus(&Size::number(1)).unwrap().over(&two)), "floor((n + 1)/2) - 1");
    let quarter = n().plus(&Size::number(1)).unwrap().over(&two).unwrap();
    let quarter = quarter.plus(&Size::number(1)).unwrap().over(&two);
    assert_eq!(text(quarter), "floor((n + 3)/4)");
    assert_eq!(Size::number(7).over(&two), Some(Size::number(3)));
    assert_eq!(Size::number(7).over(&Size::number(0)), None);
}

#[test]
fn caps_have_one_form() {
    let more = n().plus(&Size::number(3)).unwrap();
    assert_eq!(text(n().capped(40)), "min(n, 40)");
    assert_eq!(text(more.capped(40)), "min(n + 3, 40)");
    assert_eq!(text(more.capped(3)), "3");
    assert_eq!(text(Size::number(9).capped(4)), "4");
    assert_eq!(text(n().capped(0)), "0");
    for (first, second) in [(40, 9), (9, 40)] {
        assert_eq!(text(n().capped(first).and_then(|size| size.capped(second))), "min(n, 9)");
    }
    let less = n().minus(&Size::number(1)).unwrap();
    assert_eq!((less.capped(40), n().capped(-1)), (None, None), "may be negative");
}

#[test]
fn a_cap_is_of_one_size() {
    let capped = n().capped(40).unwrap();
    assert!(capped.caps(&n()) && capped.is_natural() && capped.depends_on("n"));
    assert!(!capped.caps(&Size::named("h")) && !n().caps(&n()) && !n().caps(&capped));
    assert!(!capped.plus(&Size::number(1)).unwrap().caps(&n()));
}

struct Numbers(i64);

impl Arithmetic for Numbers {
    type Value = i64;

    fn named(&mut self, name: &str) -> Option<i64> {
        (name == "n").then_some(self.0)
    }

    fn number(&mut self, number: i64) -> i64 {
        number
    }

    fn op(&mut self, op: &'static str, a: i64, b: i64) -> i64 {
        match op {
            "Add" => a + b,
            "Mul" => a * b,
            "Min" => a.min(b),
            _ => a / b,
        }
    }
}

#[test]
fn sizes_are_computed() {
    let two = Size::number(2);
    let half = n().plus(&Size::number(5)).unwrap().over(&two).unwrap();
    let size = half.times(&n()).unwrap().minus(&Size::number(4)).unwrap();
    assert_eq!(size.compute(&mut Numbers(7)), Some(6 * 7 - 4));
    assert_eq!(Size::number(0).compute(&mut Numbers(7)), Some(0));
    let capped = half.times(&n()).and_then(|size| size.capped(30)).unwrap();
    assert_eq!(capped.compute(&mut Numbers(7)), Some(30));
    assert_eq!(capped.compute(&mut Numbers(3)), Some(4 * 3));
    assert_eq!(Size::named("h").compute(&mut Numbers(7)), None);
}

#[test]
fn what_overflows_or_grows_too_long_is_not_known() {
    assert_eq!(Size::number(i64::MAX).times(&Size::number(2)), None);
    assert_eq!(Size::number(i64::MAX).plus(&Size::number(1)), None);
    let mut size = n();
    while let Some(next) = size.times(&n().plus(&Size::number(1)).unwrap()) {
        size = next;
    }
    let mut quotient = n();
    while let Some(next) = quotient.times(&n()).and_then(|q| q.over(&Size::number(3))) {
        quotient = next;
    }
}

#[test]
fn extents_and_sizes_are_each_other() {
    for dim in [Dim::Known(3), Dim::Symbol("n".into()), Dim::Symbol("n".into()).times(2)] {
        assert_eq!(Size::of(&dim).map(Size::dim), Some(dim));
    }
    assert_eq!(Dim::Unknown.plus(1), Dim::Unknown);
    assert_eq!(Dim::product([&Dim::Known(2), &Dim::Known(3)]), Dim::Known(6));
    assert_eq!(Dim::Known(1).plus(-2), Dim::Unknown);
}

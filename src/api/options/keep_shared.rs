//! Shares of single layers.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::mtz::matching::Share;
use crate::mtz::options::Budget;

/// The share of layers that match a pattern, written `GLOB=N`, `GLOB=F` or `GLOB=eE`.
#[derive(Debug, Clone, PartialEq)]
pub struct KeepShared {
    /// The pattern of layer names.
    pub glob: String,
    /// How much to share.
    pub share: Share,
}

impl KeepShared {
    /// The rule, as typed.
    pub(super) fn text(&self) -> String {
        format!("{}={}", self.glob, Typed(self.share))
    }
}

/// A share as typed.
pub(crate) struct Typed(pub(crate) Share);

impl fmt::Display for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Share::Count(n) => write!(f, "{n}"),
            Share::Fraction(part) => write!(f, "{part:?}"),
            Share::MaxCost(cost) => write!(f, "e{cost:?}"),
        }
    }
}

impl FromStr for KeepShared {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (glob, amount) = text.rsplit_once('=').ok_or_else(|| misread(text))?;
        if glob.is_empty() {
            return Err(misread(text));
        }
        Budget::uniform(Share::Count(0)).rule(glob, Share::Count(0))?;
        let share = parse_share(amount).ok_or_else(|| misread(text))?;
        Ok(KeepShared { glob: glob.to_owned(), share })
    }
}

fn misread(text: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("'{text}' gives no share"))
        .hint("write a pattern and a number, e.g. fc1=50, conv*=0.5, conv*=50% or fc2=e0.01")
}

/// Whole numbers are counts, numbers with a point or a percent sign are parts.
fn parse_share(text: &str) -> Option<Share> {
    if let Some(limit) = text.strip_prefix(['e', 'ε']) {
        return cost(limit).ok().map(Share::MaxCost);
    }
    match text.parse() {
        Ok(count) => Some(Share::Count(count)),
        Err(_) => fraction(text).ok().map(Share::Fraction),
    }
}

pub(super) fn fraction(text: &str) -> Result<f64, String> {
    let value = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse().map(|p: f64| p / 100.0),
        None => text.parse(),
    };
    let number: Option<f64> = value.ok();
    number.filter(|part| (0.0..=1.0).contains(part)).ok_or_else(|| {
        let meant = number.filter(|n| (1.0..=100.0).contains(n) && !text.ends_with('%'));
        let hint = meant.map(|n| format!("; for {n} percent, write {n}%")).unwrap_or_default();
        format!("a part lies between 0 and 1, or 0% and 100%{hint}")
    })
}

pub(super) fn cost(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|cost: &f64| *cost >= 0.0);
    value.ok_or_else(|| "write a number from 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_parts_and_costs_are_told_apart() {
        let cases = [
            ("fc1=50", Share::Count(50)),
            ("fc1=1", Share::Count(1)),
            ("fc1=1.0", Share::Fraction(1.0)),
            ("fc1=50%", Share::Fraction(0.5)),
            ("fc1=e0.01", Share::MaxCost(0.01)),
            ("a=b=ε1", Share::MaxCost(1.0)),
        ];
        for (text, share) in cases {
            assert_eq!(text.parse::<KeepShared>().unwrap().share, share, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in ["fc1", "=3", "fc1=", "fc1=1.5", "fc1=-1", "fc1=101%", "fc1=e-1", "fc[=3"] {
            assert_eq!(text.parse::<KeepShared>().unwrap_err().kind(), ErrorKind::Usage, "{text}");
        }
    }

    #[test]
    fn percents_without_their_sign_are_told() {
        let bounds = "a part lies between 0 and 1, or 0% and 100%";
        assert_eq!((fraction("60%"), fraction("1")), (Ok(0.6), Ok(1.0)));
        for (text, hint) in [
            ("60", "; for 60 percent, write 60%"),
            ("2.5", "; for 2.5 percent, write 2.5%"),
            ("101", ""),
            ("160%", ""),
            ("-3", ""),
            ("all", ""),
        ] {
            assert_eq!(fraction(text), Err(format!("{bounds}{hint}")), "{text}");
        }
    }

    #[test]
    fn shares_are_written_as_typed() {
        for text in ["50", "0.5", "1.0", "e0.01"] {
            assert_eq!(Typed(parse_share(text).unwrap()).to_string(), text);
        }
    }
}

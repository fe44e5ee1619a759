//! Parsers of option values.

use clap::builder::{PossibleValue, PossibleValuesParser, RangedU64ValueParser, TypedValueParser};

/// Named values, each with a line of help.
pub(super) fn choices<T: Clone + Send + Sync + 'static>(
    rows: impl IntoIterator<Item = (&'static str, T, &'static str)>,
) -> impl TypedValueParser<Value = T> {
    let rows: Vec<_> = rows.into_iter().collect();
    let names = rows.iter().map(|(name, _, help)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(names.collect::<Vec<_>>()).try_map(move |name| {
        // Arguments may take names in capitals, too.
        let row = rows.iter().find(|(own, ..)| own.eq_ignore_ascii_case(&name));
        row.map(|(_, value, _)| value.clone()).ok_or_else(|| format!("'{name}' is no choice"))
    })
}

/// A number from 1.
pub(super) fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// Parses a number of bytes: `500MB`, `4GiB`, `1.5G` or plain bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: f64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024f64.powi(2),
        "g" | "gib" => 1024f64.powi(3),
        "t" | "tib" => 1024f64.powi(4),
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => return Err(format!("'{unit}' is no unit; write 500MB or 4GiB")),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && (number * factor) < u64::MAX as f64 => {
            Ok((number * factor) as u64)
        }
        _ => Err("a size is a number above 0 with a unit; write 500MB or 4GiB".to_owned()),
    }
}

/// Parses `NAME=SIZE`.
pub(super) fn dimension(text: &str) -> Result<(String, usize), String> {
    let parsed = text.rsplit_once('=').and_then(|(name, size)| {
        let size = size.parse().ok().filter(|n| *n > 0)?;
        (!name.is_empty()).then(|| (name.to_owned(), size))
    });
    parsed.ok_or_else(|| "write NAME=SIZE, e.g. height=224".to_owned())
}

/// Parses `INPUT=NAME`.
pub(super) fn column(text: &str) -> Result<(String, String), String> {
    let parsed = text.split_once('=').map(|(input, name)| (input.to_owned(), name.to_owned()));
    let parsed = parsed.filter(|(input, name)| !input.is_empty() && !name.is_empty());
    parsed.ok_or_else(|| "write INPUT=NAME, e.g. labels=fine_label".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{column, dimension, size};

    #[test]
    fn sizes_have_units() {
        let cases = [("4GiB", 4 << 30), ("500MB", 500_000_000), ("1.5k", 1536), ("77", 77)];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "-1G", "4 parsecs", "nan", "1e40", "GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dimensions_have_a_name_and_a_size() {
        assert_eq!(dimension("image:2=224"), Ok(("image:2".to_owned(), 224)));
        for text in ["224", "h=", "=3", "h=0", "h=-1", "h=x"] {
            assert!(dimension(text).is_err(), "{text}");
        }
    }

    #[test]
    fn columns_have_an_input_and_a_name() {
        let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(column("labels=fine"), pair("labels", "fine"));
        assert_eq!(column("x=a=b"), pair("x", "a=b"));
        for text in ["labels", "=x", "x="] {
            assert!(column(text).is_err(), "{text}");
        }
    }
}

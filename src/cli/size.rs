//! Sizes of memory, as typed.

/// Parses a number of bytes: `500MB`, `4GiB`, `1.5G` or plain bytes.
pub(super) fn parse(text: &str) -> Result<u64, String> {
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

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_have_units() {
        let cases = [("4GiB", 4 << 30), ("500MB", 500_000_000), ("1.5k", 1536), ("77", 77)];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "-1G", "4 parsecs", "nan", "1e40", "GiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

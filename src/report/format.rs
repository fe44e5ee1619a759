//! Formats numbers for reading.

/// `1234567` as `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1069547` as `1.02 MiB`.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut size = n as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while size >= 1024.0 {
        let Some(next) = units.next() else { break };
        (size, unit) = (size / 1024.0, Some(next));
    }
    format!("{size:.2} {}", unit.unwrap_or(&""))
}

/// A fraction as a percentage with one decimal.
pub(super) fn percent(fraction: f64) -> String {
    percent_to(fraction, 1)
}

/// A fraction as a percentage with this many decimals.
pub(super) fn percent_to(fraction: f64, decimals: usize) -> String {
    format!("{:.decimals$} %", 100.0 * fraction)
}

/// A fraction of samples as a percentage with two decimals.
pub(super) fn error(fraction: f64) -> String {
    format!("{:.2} %", 100.0 * fraction)
}

/// A small number with three significant digits.
pub(super) fn small(x: f64) -> String {
    if x == 0.0 {
        "0".to_owned()
    } else if (1e-3..1e4).contains(&x.abs()) {
        let digits = (2 - x.abs().log10().floor() as i32).max(0) as usize;
        format!("{x:.digits$}")
    } else {
        format!("{x:.1e}")
    }
}

/// Seconds in a readable unit.
pub(super) fn seconds(s: f64) -> String {
    if s < 60.0 {
        format!("{s:.1} s")
    } else {
        format!("{} min {:.0} s", (s / 60.0) as u64, s % 60.0)
    }
}

/// One number if all are equal, else all numbers.
pub(crate) fn each<T: PartialEq + ToString>(values: &[T]) -> String {
    match values {
        [first, rest @ ..] if rest.iter().all(|v| v == first) => first.to_string(),
        _ => values.iter().map(T::to_string).collect::<Vec<_>>().join(" | "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!([0, 999, 1000].map(count), ["0", "999", "1,000"]);
        assert_eq!(bytes(1_069_547), "1.02 MiB");
        let sizes = [0, 1023, 1024, 5 << 30, u64::MAX];
        assert_eq!(sizes.map(bytes), ["0 B", "1023 B", "1.00 KiB", "5.00 GiB", "16.00 EiB"]);
        assert_eq!((percent(0.5312), error(0.0156)), ("53.1 %".into(), "1.56 %".into()));
        let small_numbers = [0.0, 0.012345, 1.0, 123.456, 4321.0, 12345.0, 1e-9];
        let texts = ["0", "0.0123", "1.00", "123", "4321", "1.2e4", "1.0e-9"];
        assert_eq!(small_numbers.map(small), texts);
        assert_eq!((seconds(1.25), seconds(125.0)), ("1.2 s".into(), "2 min 5 s".into()));
    }

    #[test]
    fn equal_things_are_said_once() {
        assert_eq!(each(&["fc1", "fc1"]), "fc1");
        assert_eq!(each(&[300, 100]), "300 | 100");
        assert_eq!(each::<usize>(&[]), "");
    }
}

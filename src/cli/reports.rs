//! Files of reports named on the command line.

use std::path::PathBuf;

use clap::builder::TypedValueParser;

/// A parser of paths that end in one of these suffixes, which decide about the format.
pub(super) fn report_path(
    suffixes: &'static [&'static str],
) -> impl TypedValueParser<Value = PathBuf> {
    move |text: &str| {
        let path = PathBuf::from(text);
        let suffix = path.extension().and_then(|suffix| suffix.to_str());
        match suffix.is_some_and(|suffix| suffixes.contains(&suffix)) {
            true => Ok(path),
            false => Err(format!("the name of a report ends in {}", listed(suffixes))),
        }
    }
}

/// `.html, .json or .md`.
fn listed(suffixes: &[&str]) -> String {
    let all: Vec<String> = suffixes.iter().map(|suffix| format!(".{suffix}")).collect();
    match all.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => all.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_listed_as_in_a_sentence() {
        assert_eq!(listed(&["json"]), ".json");
        assert_eq!(listed(&["html", "json", "md"]), ".html, .json or .md");
    }
}

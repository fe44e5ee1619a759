//! The next step for the user.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The next step for the user, or a remark that names it: text that may name options, which every front end
/// words its own way.
///
/// ```
/// use onnx_zip::error::Hint;
/// let hint = Hint::from("choose ").option_as("part", "train").then(", or another file");
/// assert_eq!(hint.worded(|name, value| format!("--{name} {}", value.unwrap_or_default())),
///            "choose --part train, or another file");
/// ```
#[derive(Debug, Clone)]
pub struct Hint(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Option { name: &'static str, value: Option<String> },
}

impl<T: Into<String>> From<T> for Hint {
    fn from(text: T) -> Hint {
        Hint(vec![Part::Text(text.into())])
    }
}

impl Hint {
    /// Continues with text.
    #[must_use]
    pub fn then(mut self, text: impl Into<String>) -> Hint {
        self.0.push(Part::Text(text.into()));
        self
    }

    /// Continues with the name of an option, written with hyphens.
    #[must_use]
    pub fn option(mut self, name: &'static str) -> Hint {
        self.0.push(Part::Option { name, value: None });
        self
    }

    /// Continues with an option that has a value.
    #[must_use]
    pub fn option_as(mut self, name: &'static str, value: impl Into<String>) -> Hint {
        self.0.push(Part::Option { name, value: Some(value.into()) });
        self
    }

    /// Continues with another text.
    #[must_use]
    pub fn and(mut self, other: Hint) -> Hint {
        self.0.extend(other.0);
        self
    }

    /// The text, with each option's name and value as `word` puts them.
    pub fn worded(&self, word: impl Fn(&str, Option<&str>) -> String) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Option { name, value } => word(name, value.as_deref()),
        };
        self.0.iter().map(part).collect()
    }

    /// The text with options as flags, as on the command line and in reports.
    pub fn in_flags(&self) -> String {
        self.worded(as_flag)
    }

    /// The text with options as fields of the library's options, or keywords of Python.
    pub fn in_fields(&self) -> String {
        self.worded(as_field)
    }
}

impl Eq for Hint {}

impl PartialEq for Hint {
    fn eq(&self, other: &Hint) -> bool {
        self.in_flags() == other.in_flags()
    }
}

impl Serialize for Hint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.in_flags())
    }
}

impl<'de> Deserialize<'de> for Hint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Hint, D::Error> {
        String::deserialize(from).map(Hint::from)
    }
}

/// An option as a field of the library's options, or a keyword of Python.
pub(super) fn as_field(name: &str, value: Option<&str>) -> String {
    let name = name.replace('-', "_");
    value.map_or_else(|| name.clone(), |value| format!("{name}={value}"))
}

/// An option as a flag of the command line.
pub(super) fn as_flag(name: &str, value: Option<&str>) -> String {
    value.map_or_else(|| format!("--{name}"), |value| format!("--{name} {value}"))
}

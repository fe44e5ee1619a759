//! The one error type of the library.
//!
//! An [`Error`] is opaque: callers match on its [`ErrorKind`] and print it. Its text is one sentence
//! that names the fault, the model, the node and the next step.

mod hint;

use std::error::Error as StdError;
use std::fmt;

use crate::naming::{sentence, shown};

pub use hint::Hint;

/// The library's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, in the categories a caller can act upon.
///
/// ```
/// use onnx_zip::ErrorKind;
///
/// let missing = onnx_zip::inspect(&"missing.onnx".into()).unwrap_err();
/// assert_eq!(missing.kind(), ErrorKind::Io);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be read or written.
    Io,
    /// An argument or option does not make sense.
    Usage,
    /// A file is not what its format promises (truncated, hostile, inconsistent).
    Format,
    /// The model is valid but uses something that this tool does not handle.
    Unsupported,
    /// The models have no layers that could be merged with each other.
    Misaligned,
    /// Calibration data does not fit the model.
    Calibration,
    /// A numerical step failed (singular system, NaN or infinite weights).
    Numeric,
    /// An inference runtime is missing or refused the model.
    Backend,
    /// A merged model does not reproduce what it must reproduce.
    Parity,
    /// A step would need more memory than is allowed.
    Memory,
    /// The user asked to stop.
    Interrupted,
}

/// An error of the library: a kind, a place and a next step.
///
/// ```
/// use onnx_zip::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Format, "weights are not finite")
///     .at_node("conv1")
///     .in_model("a.onnx")
///     .hint("export the model again");
/// let text = "a.onnx: node 'conv1': weights are not finite; export the model again";
/// assert_eq!(error.to_string(), text);
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    model: Option<String>,
    node: Option<String>,
    hint: Option<Hint>,
    source: Option<Source>,
}

impl Error {
    /// A new error of `kind`; `message` is a clause without a final full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            model: None,
            node: None,
            hint: None,
            source: None,
        }))
    }

    /// Names the model the error is about. The innermost name wins.
    #[must_use]
    pub fn in_model(mut self, model: impl fmt::Display) -> Self {
        if self.has_place() {
            self.0.model.get_or_insert_with(|| model.to_string());
        }
        self
    }

    /// Names the node the error is about. The innermost name wins.
    #[must_use]
    pub fn at_node(mut self, node: impl fmt::Display) -> Self {
        if self.has_place() {
            self.0.node.get_or_insert_with(|| node.to_string());
        }
        self
    }

    /// An interruption is no fault of a model or node.
    fn has_place(&self) -> bool {
        self.0.kind != ErrorKind::Interrupted
    }

    /// Says what the user can do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Hint>) -> Self {
        self.0.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Says something behind the next step, or in its place.
    #[must_use]
    pub fn also(mut self, remark: impl Into<Hint>) -> Self {
        let remark = remark.into();
        self.0.hint = Some(match self.0.hint.take() {
            Some(hint) => hint.then("; ").and(remark),
            None => remark,
        });
        self
    }

    /// Records the error that caused this one.
    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The text of the error, with options named as flags of the command line. [`Display`](fmt::Display)
    /// names them as fields of the library's options.
    pub fn with_flags(&self) -> impl fmt::Display + '_ {
        Worded { error: self, word: Some(hint::as_flag) }
    }

    /// The text of the error without the next step, for a list of faults.
    pub fn fault(&self) -> impl fmt::Display + '_ {
        Worded { error: self, word: None }
    }

    /// The category of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

/// An error whose hint, if it is told, names options in some way.
struct Worded<'a> {
    error: &'a Error,
    word: Option<fn(&str, Option<&str>) -> String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Worded { error: self, word: Some(hint::as_field) }.fmt(f)
    }
}

impl fmt::Display for Worded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.error.0;
        if let Some(model) = &inner.model {
            write!(f, "{}: ", shown(model))?;
        }
        if let Some(node) = &inner.node {
            write!(f, "node '{}': ", shown(node))?;
        }
        f.write_str(&sentence(&inner.message))?;
        if let Some(source) = &inner.source {
            // Messages of other programs may have several lines.
            let source = source.to_string().replace(['\n', '\r'], " ");
            write!(f, " ({})", sentence(source.trim()))?;
        }
        if let Some((hint, word)) = inner.hint.as_ref().zip(self.word) {
            write!(f, "; {}", sentence(&hint.worded(word)))?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}

/// Adds a place to the error of a result.
pub trait Context<T> {
    /// See [`Error::in_model`].
    fn in_model(self, model: impl fmt::Display) -> Result<T>;
    /// See [`Error::at_node`].
    fn at_node(self, node: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn in_model(self, model: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.in_model(model))
    }

    fn at_node(self, node: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.at_node(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_model_node_cause_and_next_step() {
        let error = Error::new(ErrorKind::Format, "weights are not finite")
            .at_node("conv1")
            .because("NaN at 3")
            .hint("export the model again")
            .in_model("a.onnx")
            .in_model("outer");
        assert_eq!(
            error.to_string(),
            "a.onnx: node 'conv1': weights are not finite (NaN at 3); export the model again"
        );
        assert_eq!(
            error.fault().to_string(),
            "a.onnx: node 'conv1': weights are not finite (NaN at 3)"
        );
        assert_eq!(error.kind(), ErrorKind::Format);
    }

    #[test]
    fn remarks_stand_behind_the_next_step() {
        let error = || Error::new(ErrorKind::Usage, "there is none");
        assert_eq!(error().also("it is kept").to_string(), "there is none; it is kept");
        let both = error().hint("give one").hint("another").also("it is kept").to_string();
        assert_eq!(both, "there is none; give one; it is kept");
    }

    #[test]
    fn front_ends_name_options_their_own_way() {
        let hint =
            Hint::from("merge with ").option_as("batchnorm", "per-task").then(" or a larger ");
        let error = Error::new(ErrorKind::Usage, "there is none").hint(hint.option("target-size"));
        let text = error.to_string();
        assert_eq!(text, "there is none; merge with batchnorm=per-task or a larger target_size");
        let text = error.with_flags().to_string();
        assert_eq!(
            text,
            "there is none; merge with --batchnorm per-task or a larger --target-size"
        );
    }

    #[test]
    fn a_hostile_name_stays_a_short_line() {
        let hostile = format!("\u{1b}]0;owned\u{7}\n{}", "A".repeat(100_000));
        let error = Error::new(ErrorKind::Format, format!("'{hostile}' is missing"))
            .at_node(&hostile)
            .because(format!("first line\nsecond {hostile}"))
            .hint(format!("look at '{hostile}'"))
            .in_model(&hostile);
        let text = error.to_string();
        assert!(!text.chars().any(char::is_control), "{text}");
        assert!(text.len() < 3000 && text.contains("first line second"), "{text}");
    }
}

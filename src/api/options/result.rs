//! Options of the result of a merge.

#[cfg(feature = "cli")]
use super::parse::choices;
#[cfg(feature = "cli")]
use crate::emit::FORMS;
use crate::emit::{EmitOptions, Form, InputMode};

/// Form of the joint model's file.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Result"))]
#[non_exhaustive]
pub struct FormOptions {
    /// Form of the joint model
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "FORM", default_value = Form::default().name(),
        value_parser = choices(FORMS.iter().copied())))]
    pub form: Form,
    /// Whether tasks read one common input or each their own
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "MODE", default_value = "auto", value_parser = choices(INPUT_MODES)))]
    pub inputs: InputMode,
    /// Leave out the metadata that `extract`, `split` and `retrain` need to recover the task nets
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_recipe: bool,
}

/// Checks of a joint model before it takes its place.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Result"))]
#[non_exhaustive]
pub struct ResultOptions {
    /// Skip verifying the joint model against the original models
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_verify: bool,
    /// Skip the comparison with the original models: nodes, multiply-adds, latency, memory
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_compare: bool,
    /// Exit with code 1 unless the joint model is this, compared with all originals together; a list
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "WHAT,…", value_delimiter = ',', conflicts_with = "no_compare",
        value_parser = choices(REQUIREMENTS)))]
    pub require: Vec<Requirement>,
}

/// A requirement on the joint model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requirement {
    /// Its file has fewer bytes than those of all originals together.
    Smaller,
    /// One run of all tasks takes at most 2 % longer than theirs, on one thread with a batch of one.
    Faster,
}

pub(super) const REQUIREMENTS: [(&str, Requirement, &str); 2] = [
    ("smaller", Requirement::Smaller, "Its file has fewer bytes than theirs"),
    (
        "faster",
        Requirement::Faster,
        "One run of all tasks takes at most 2 % longer than theirs, on one thread with a batch of one",
    ),
];

impl Requirement {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        REQUIREMENTS.iter().find(|(_, own, _)| *own == self).map_or("", |(name, ..)| name)
    }
}

impl FormOptions {
    /// How the joint model is written.
    pub(crate) fn emit(&self) -> EmitOptions {
        EmitOptions { form: self.form, inputs: self.inputs }
    }
}

#[cfg(feature = "cli")]
const INPUT_MODES: [(&str, InputMode, &str); 3] = [
    ("auto", InputMode::Auto, "common if all models take the same types and shapes"),
    ("shared", InputMode::Shared, "one common input, named as in the first model"),
    ("separate", InputMode::Separate, "NAME/INPUT for each task"),
];

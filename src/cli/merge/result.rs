//! What comes out of a merge.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::emit::{EmitOptions, FORMS, Form, InputMode};

/// What comes out.
#[derive(Args)]
#[command(next_help_heading = "Result")]
pub(super) struct ResultArgs {
    /// Form of the joint model
    #[arg(long, value_name = "FORM", default_value = Form::default().name(), value_parser = forms())]
    pub(super) form: String,
    /// Whether tasks read one common input or each their own
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = input_modes())]
    pub(super) inputs: String,
    /// Write a report, as .json or .html; repeatable
    #[arg(long, value_name = "FILE", value_parser = report_path)]
    pub(super) report: Vec<PathBuf>,
    /// Print the report as JSON instead of text
    #[arg(long)]
    pub(super) json: bool,
    /// Show what would be done and stop, like `onnx-zip plan`
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Leave out the check of the joint model against the original models, before it is put into place
    #[arg(long)]
    pub(super) no_verify: bool,
    /// Keep a joint model that fails that check, as STEM.rejected.onnx beside the output; else nothing
    /// is left of it
    #[arg(long, conflicts_with = "no_verify")]
    pub(super) keep_rejected: bool,
}

impl ResultArgs {
    /// How the joint model is written.
    pub(super) fn emit_options(&self) -> EmitOptions {
        let row = INPUT_MODES.iter().find(|(name, ..)| *name == self.inputs);
        EmitOptions {
            form: Form::named(&self.form).unwrap_or_default(),
            inputs: row.map(|(_, mode, _)| *mode).unwrap_or_default(),
        }
    }
}

const INPUT_MODES: [(&str, InputMode, &str); 3] = [
    ("auto", InputMode::Auto, "common where all models take the same types and shapes"),
    ("shared", InputMode::Shared, "one common input, called as in the first model"),
    ("separate", InputMode::Separate, "NAME/INPUT for each task"),
];

fn forms() -> PossibleValuesParser {
    FORMS.iter().map(|(name, _, help)| PossibleValue::new(*name).help(*help)).into()
}

fn input_modes() -> PossibleValuesParser {
    INPUT_MODES.iter().map(|(name, _, help)| PossibleValue::new(*name).help(*help)).into()
}

fn report_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(|s| s.to_str()) {
        Some("json" | "html") => Ok(path),
        _ => Err("the name of a report ends in .json or .html".to_owned()),
    }
}

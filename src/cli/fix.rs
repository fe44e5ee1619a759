//! `fix`: sets inputs of a model to constants.

use std::path::PathBuf;

use clap::Args;

use super::Status;
use super::console::Console;
use crate::api::fix;
use crate::error::Result;

/// Set inputs of a model to constants, and keep the branches that these take
///
/// For inputs that decide what a model computes, such as a sampling rate or a switch for a cache. Layers inside
/// branches that an input decides about cannot be shared. The model that is written lacks the inputs and the other
/// branches, and computes the same as the given one with these values.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct FixArgs {
    /// The model, as an .onnx file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// An input with its value, e.g. sr=16000 or flag=true; repeatable
    ///
    /// One number stands for all elements; several have commas between.
    #[arg(short, long, value_name = "INPUT=VALUE", required = true, value_parser = valued)]
    input: Vec<(String, String)>,
    /// Where to write the model
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  onnx-zip fix silero_vad.onnx --input sr=16000 -o vad_16k.onnx

  Both rates of two such models in one, which computes one of them per run:
    onnx-zip merge a_16k.onnx a_8k.onnx b_16k.onnx b_8k.onnx -o joint.onnx --form switch";

/// Parses `INPUT=VALUE`.
fn valued(text: &str) -> std::result::Result<(String, String), String> {
    let parsed = text.rsplit_once('=').map(|(input, value)| (input.to_owned(), value.to_owned()));
    let parsed = parsed.filter(|(input, value)| !input.is_empty() && !value.is_empty());
    parsed.ok_or_else(|| "write INPUT=VALUE, e.g. sr=16000".to_owned())
}

impl FixArgs {
    pub(super) fn run(self, console: &Console) -> Result<Status> {
        fix(&self.model.into(), &self.input, &self.output, console)?;
        Ok(Status::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::valued;

    #[test]
    fn a_value_stands_behind_the_last_sign() {
        let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(valued("sr=16000"), pair("sr", "16000"));
        assert_eq!(valued("a=b=1,2"), pair("a=b", "1,2"));
        for text in ["sr", "=1", "sr="] {
            assert!(valued(text).is_err(), "{text}");
        }
    }
}

//! Options of commands for programs in other languages: names, defaults, help, and parsing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Args, Command};
use serde::Serialize;

use super::replay::{Added, Beside, Typed, parsed, refused, typed_options};
use super::worker;
use crate::api::options::{
    CalibrateOptions, FrontierOptions, MergeOptions, PlanOptions, PruneOptions, RetrainOptions,
    RuntimeOptions, VerifyOptions, WorkerOptions,
};
use crate::api::read_plan;
use crate::error::{Error, Result};
use crate::zipper::PlanFile;

/// One option of a command.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Keyword {
    /// Its flag, without the dashes.
    pub flag: String,
    /// The placeholder of its value in help; none for a switch.
    pub value: Option<String>,
    /// Its default, as typed; none if it depends on other options or there is no default.
    pub default: Option<String>,
    /// Its possible values, each with a line of help; empty if they cannot be listed.
    pub choices: Vec<(String, String)>,
    /// Whether it takes several values.
    pub is_list: bool,
    /// Whether it is required.
    pub is_required: bool,
    /// Its help.
    pub help: String,
}

/// The options of `command`; none if there is no such command.
pub fn keywords(command: &str) -> Vec<Keyword> {
    let empty = || Command::new("options");
    let command = match command {
        "merge" => MergeOptions::augment_args(empty()),
        "plan" => PlanOptions::augment_args(empty()),
        "frontier" => FrontierOptions::augment_args(empty()),
        "calibrate" => CalibrateOptions::augment_args(empty()),
        "prune" => PruneOptions::augment_args(empty()),
        "verify" => VerifyOptions::augment_args(empty()),
        "retrain" => RetrainOptions::augment_args(empty()),
        "worker" => worker::without_batch(WorkerOptions::augment_args(empty())),
        "run" => RuntimeOptions::augment_args(empty()),
        _ => empty(),
    };
    command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(keyword).collect()
}

fn keyword(arg: &Arg) -> Option<Keyword> {
    let flag = arg.get_long()?.to_owned();
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let name = arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string);
    let default = arg.get_default_values().first();
    let text = |text: Option<&StyledStr>| text.map(ToString::to_string).unwrap_or_default();
    let choices = arg.get_possible_values().into_iter().filter(|_| !is_switch);
    Some(Keyword {
        flag,
        value: name.filter(|_| !is_switch),
        default: default.map(|d| d.to_string_lossy().into_owned()).filter(|_| !is_switch),
        choices: choices.map(|v| (v.get_name().to_owned(), text(v.get_help()))).collect(),
        is_list: matches!(arg.get_action(), ArgAction::Append),
        is_required: arg.is_required_set(),
        help: text(arg.get_long_help().or(arg.get_help())),
    })
}

/// Reads options from arguments such as `--share=0.5`, as the command line does.
///
/// ```
/// use onnx_zip::{MergeOptions, cli::options};
/// let options: MergeOptions = options(["--target-size=60%".into()])?;
/// assert_eq!(options.goal.target_size, Some(0.6));
/// # Ok::<(), onnx_zip::Error>(())
/// ```
///
/// # Errors
/// [`crate::error::ErrorKind::Usage`] with the sentence of the command line.
pub fn options<T: Args>(arguments: impl IntoIterator<Item = OsString>) -> Result<T> {
    options_and_plan(arguments).map(|(options, _)| options)
}

/// [`options`], and a plan that holds those that were given.
///
/// # Errors
/// As [`options`].
pub fn options_and_plan<T: Args>(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<(T, PlanFile)> {
    let matches = parsed::<T>(arguments).map_err(in_fields)?;
    let plan = PlanFile { options: typed_options(&matches), ..PlanFile::default() };
    let options = T::from_arg_matches(&matches).map_err(|error| in_fields(refused(error)))?;
    Ok((options, plan))
}

/// A sentence of the command line that names options as fields: `'--target-size <F>'` as `'target_size'`.
fn in_fields(error: Error) -> Error {
    let text = error.to_string();
    let field = |part: &str| match part.strip_prefix("--") {
        Some(flag) => flag.split([' ', '=']).next().unwrap_or(flag).replace('-', "_"),
        None => part.to_owned(),
    };
    Error::new(error.kind(), text.split('\'').map(field).collect::<Vec<_>>().join("'"))
}

/// A merge as a plan and what is given beside it say.
#[derive(Debug)]
#[non_exhaustive]
pub struct Repeated {
    /// The options of both.
    pub options: MergeOptions,
    /// The same as typed.
    pub typed: PlanFile,
    /// The plan, without the parts that are replaced.
    pub plan: PlanFile,
    /// The plan's models, unless others are given.
    pub models: Vec<PathBuf>,
    /// The plan's names of tasks, unless models or names are given.
    pub names: Vec<String>,
    /// The plan's samples, unless others are given.
    pub data: Vec<PathBuf>,
}

/// Reads the plan at `path`, whose options come before `arguments` such as `--share=0.5`.
///
/// # Errors
/// As [`read_plan`] and [`options`]; [`crate::error::ErrorKind::Format`] for options that no plan holds.
pub fn repeated(path: &Path, arguments: Vec<OsString>, beside: Beside) -> Result<Repeated> {
    let matches = parsed::<MergeOptions>(arguments.iter().cloned()).map_err(in_fields)?;
    let mut plan = read_plan(path)?;
    let mut typed = Typed::of(&matches);
    typed.beside = beside;
    let Added { options, models, names, data } = typed.added(&mut plan, path)?;
    let (options, typed) = options_and_plan(options.into_iter().chain(arguments))?;
    Ok(Repeated { options, typed, plan, models, names, data })
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;
    use crate::error::ErrorKind;

    fn defaults<T: Args + Default + PartialEq + Debug>() {
        assert_eq!(options::<T>([]).unwrap(), T::default());
    }

    #[test]
    fn options_have_the_defaults_of_the_command_line() {
        defaults::<MergeOptions>();
        defaults::<PlanOptions>();
        defaults::<FrontierOptions>();
        defaults::<CalibrateOptions>();
        defaults::<VerifyOptions>();
        defaults::<RetrainOptions>();
        defaults::<WorkerOptions>();
        let pruning: PruneOptions = options(["--sparsity=0.5".into()]).unwrap();
        assert_eq!(pruning, PruneOptions::sparsity(0.5));
    }

    #[test]
    fn every_option_of_a_command_is_a_keyword_or_names_a_place() {
        // Models, data, outputs, and options of the command line only.
        let places = [
            "name",
            "data",
            "output",
            "report",
            "plan",
            "save-plan",
            "allow-changed",
            "plans",
            "keep",
            "json",
            "dry-run",
            "keep-rejected",
            "teacher",
            "export",
            "folder",
            "merge",
            "quiet",
            "verbose",
            "help",
            "version",
        ];
        let cli = Cli::command();
        for name in
            ["merge", "plan", "frontier", "calibrate", "prune", "verify", "retrain", "worker"]
        {
            let command = cli.find_subcommand(name).unwrap();
            let known: Vec<String> = keywords(name).into_iter().map(|k| k.flag).collect();
            assert!(!known.is_empty());
            let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
            let flags = shown.filter_map(Arg::get_long);
            for flag in flags.filter(|flag| !places.contains(flag)) {
                assert!(known.iter().any(|k| k == flag), "{name} --{flag}");
            }
        }
    }

    #[test]
    fn a_plan_is_read_as_by_the_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        let text = "version = 1\n[[model]]\npath = \"a.onnx\"\n[[data]]\npath = \"x.npz\"\n\
            [options]\nname = [\"a\"]\nseed = 3\nshare = 0.5\n\
            [[layer]]\nname = \"fc\"\nweights = \"own\"\n";
        std::fs::write(&path, text).unwrap();
        let merge = |arguments: &[&str], beside| {
            repeated(&path, arguments.iter().map(Into::into).collect(), beside).unwrap()
        };
        let all = merge(&["--damping=0.1"], Beside::default());
        assert_eq!((all.options.sharing.share, all.options.tuning.damping), (Some(0.5), 0.1));
        assert_eq!(all.models, [folder.path().join("a.onnx")]);
        assert_eq!(all.data, [folder.path().join("x.npz")]);
        assert_eq!((all.names, all.plan.layers.len()), (vec!["a".to_owned()], 1));
        assert_eq!(all.typed.options["seed"], ["3"]);
        let own = Beside { models: true, data: true, ..Beside::default() };
        let other = merge(&["--share=1"], own);
        assert_eq!(other.options.sharing.share, Some(1.0));
        assert!(other.models.is_empty() && other.names.is_empty() && other.data.is_empty());
        assert!(other.plan.models.is_empty() && other.plan.layers.is_empty());
        assert_eq!(other.options.tuning.statistics.seed, 3);
    }

    #[test]
    fn what_the_command_line_refuses_is_refused_with_its_sentence() {
        let error = options::<MergeOptions>(["--target-size=60".into()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(
            error.to_string(),
            "invalid value '60' for 'target_size': a part lies between 0 and 1, or 0% and 100%; for 60 percent, \
             write 60%"
        );
        let both = ["--share=1", "--target-size=0.5"].map(OsString::from);
        let error = options::<MergeOptions>(both).unwrap_err().to_string();
        assert!(error.contains("'share' cannot be used with 'target_size'"), "{error}");
    }
}

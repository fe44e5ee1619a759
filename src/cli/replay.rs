//! Inserts the options of a plan before the typed ones.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use indexmap::IndexMap;

use super::command_line;
use crate::api::options::MergeOptions;
use crate::api::{PREPROCESS, read_plan, resolved};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::zipper::{FileRecord, PlanFile};

/// The command that can follow plans.
const MERGE: &str = "merge";

/// Names of options that depend on the machine, and of those that have tables in a plan.
const NOT_IN_PLANS: [&str; 4] = ["gram", "runtime-library", "threads", "workers"];

/// Names of options that override a plan's decisions about layers.
const DECIDING: [&str; 5] = ["share", "target-size", "max-drop", "max-cost", "unit"];

/// A command line with the options of a plan.
pub(super) struct Expanded {
    pub(super) args: Vec<OsString>,
    /// The plan, without the parts that typed options replace.
    pub(super) plan: Option<PlanFile>,
}

/// Adds the options of the plan that a command line names, if it names one.
///
/// # Errors
/// As [`read_plan`]; [`ErrorKind::Format`] for options that no plan holds.
pub(super) fn expand(args: Vec<OsString>) -> Result<Expanded> {
    let lenient = command_line().ignore_errors(true);
    let matches = lenient.try_get_matches_from(&args).ok();
    let typed = matches.as_ref().and_then(|m| m.subcommand_matches(MERGE));
    let named = typed.and_then(|t| Some((t, t.try_get_one::<PathBuf>("plan").ok()??)));
    let Some((typed, path)) = named else { return Ok(Expanded { args, plan: None }) };
    let mut plan = read_plan(path)?;
    let added = Typed::of(typed).added(&mut plan, path)?.arguments();
    let place = args.iter().skip(1).position(|arg| arg == MERGE).map_or(args.len(), |at| at + 2);
    let (before, after) = args.split_at(place.min(args.len()));
    let args = before.iter().cloned().chain(added).chain(after.iter().cloned()).collect();
    Ok(Expanded { args, plan: Some(plan) })
}

/// What is given beside a plan, apart from options.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside {
    /// Whether models are given.
    pub models: bool,
    /// Whether names of tasks are given.
    pub names: bool,
    /// Whether samples are given.
    pub data: bool,
}

/// Arguments such as `--share=0.5` as options.
///
/// # Errors
/// As [`refused`].
pub(super) fn parsed<T: Args>(arguments: impl IntoIterator<Item = OsString>) -> Result<ArgMatches> {
    let command = T::augment_args(Command::new("options").no_binary_name(true));
    command.try_get_matches_from(arguments).map_err(refused)
}

/// The sentence of the command line about arguments.
pub(super) fn refused(error: clap::Error) -> Error {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let first = text.split("\n\n").next().unwrap_or(text);
    let line: Vec<&str> = first.split_whitespace().collect();
    Error::new(ErrorKind::Usage, line.join(" "))
}

/// The typed options of a merge, in the form of a plan.
pub(super) fn typed_options(matches: &ArgMatches) -> IndexMap<String, Vec<String>> {
    let mut options = IndexMap::new();
    for arg in merge_options().get_arguments() {
        let id = arg.get_id().as_str();
        let Some(name) = arg.get_long().filter(|name| !NOT_IN_PLANS.contains(name)) else {
            continue;
        };
        if !is_typed(matches, id) {
            continue;
        }
        let raw = matches.try_get_raw(id).ok().flatten().into_iter().flatten();
        let values: Vec<String> = match is_switch(arg) {
            true => vec!["true".to_owned()],
            false => raw.map(|value| value.to_string_lossy().into_owned()).collect(),
        };
        options.insert(name.to_owned(), values);
    }
    options
}

/// The options of a merge, without models, data and outputs.
fn merge_options() -> Command {
    MergeOptions::augment_args(Command::new("options"))
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn is_typed(matches: &ArgMatches, id: &str) -> bool {
    // Not every command has every option.
    matches.try_contains_id(id).unwrap_or(false)
        && matches.value_source(id) == Some(ValueSource::CommandLine)
}

/// The arguments typed beside a plan.
pub(super) struct Typed {
    options: Command,
    /// Identifiers.
    ids: BTreeSet<String>,
    pub(super) beside: Beside,
}

/// What a plan adds to the typed arguments.
pub(super) struct Added {
    pub(super) options: Vec<OsString>,
    pub(super) models: Vec<PathBuf>,
    pub(super) names: Vec<String>,
    pub(super) data: Vec<PathBuf>,
}

impl Added {
    /// The same as arguments.
    fn arguments(self) -> Vec<OsString> {
        let names = self.names.iter().map(|name| flag("name", name));
        let data = self.data.iter().map(|path| flag("data", path));
        // A value may begin with a dash.
        let models = self.models.iter().map(|path| Path::new(".").join(path).into_os_string());
        self.options.into_iter().chain(names).chain(data).chain(models).collect()
    }
}

fn flag(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value);
    flag
}

impl Typed {
    pub(super) fn of(matches: &ArgMatches) -> Typed {
        let options = merge_options();
        let ids = options.get_arguments().map(|arg| arg.get_id().to_string());
        let ids = ids.filter(|id| is_typed(matches, id)).collect();
        let is = |id: &str| is_typed(matches, id);
        let beside = Beside { models: is("paths"), names: is("names"), data: is("data") };
        Typed { ids, beside, options }
    }

    /// What the plan at `path` adds. Removes from it what typed arguments replace.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for options that no plan holds; [`ErrorKind::Usage`] for wrong values.
    pub(super) fn added(&self, plan: &mut PlanFile, path: &Path) -> Result<Added> {
        let mut options = self.added_options(plan, path).in_model(path.display())?;
        self.replace_files(plan);
        let paths = |files: &[FileRecord]| -> Vec<PathBuf> {
            files.iter().map(|file| resolved(path, &file.path)).collect()
        };
        // A wrong value is the plan's, not one of the command line.
        parsed::<MergeOptions>(options.iter().cloned()).in_model(path.display())?;
        options.extend(paths(&plan.gram).iter().map(|path| flag("gram", path)));
        let is_named = self.beside.names || self.beside.models;
        let names = plan.options.get("name").filter(|_| !is_named).cloned().unwrap_or_default();
        let typed =
            self.options.get_arguments().filter(|arg| self.ids.contains(arg.get_id().as_str()));
        if typed.filter_map(Arg::get_long).any(|name| DECIDING.contains(&name)) {
            plan.layers.clear();
        }
        Ok(Added { options, models: paths(&plan.models), names, data: paths(&plan.data) })
    }

    /// Options of the plan that are not typed.
    fn added_options(&self, plan: &PlanFile, path: &Path) -> Result<Vec<OsString>> {
        let mut added: Vec<OsString> = Vec::new();
        for (name, values) in plan.options.iter().filter(|(name, _)| *name != "name") {
            let arg = self.option(name)?;
            if self.replaces(arg) {
                continue;
            }
            match (is_switch(arg), values.as_slice()) {
                (false, values) if name == PREPROCESS => {
                    let file = |value: &String| resolved(path, Path::new(value));
                    added.extend(values.iter().map(|value| flag(name, file(value))));
                }
                (false, values) => added.extend(values.iter().map(|value| flag(name, value))),
                (true, [is]) if is == "true" => added.push(format!("--{name}").into()),
                (true, [is]) if is == "false" => {}
                (true, _) => {
                    let message = format!("option '{name}' is true or false");
                    return Err(Error::new(ErrorKind::Format, message).hint("correct the plan"));
                }
            }
        }
        Ok(added)
    }

    /// Removes from the plan the files in whose place others are typed.
    fn replace_files(&self, plan: &mut PlanFile) {
        let (data, gram) = (self.beside.data, self.ids.contains("gram"));
        if data || gram {
            plan.data.clear();
            plan.gram.clear();
        }
        if self.beside.models {
            plan.models.clear();
        }
    }

    fn option(&self, name: &str) -> Result<&Arg> {
        let found = self.options.get_arguments().find(|arg| arg.get_long() == Some(name));
        found.filter(|_| !NOT_IN_PLANS.contains(&name)).ok_or_else(|| {
            Error::new(ErrorKind::Format, format!("no plan has an option '{name}'"))
                .hint("`onnx-zip help merge` lists options; models, data and gram have tables")
        })
    }

    /// Whether an option was typed, or another one that excludes it.
    fn replaces(&self, arg: &Arg) -> bool {
        let excludes = |a: &Arg, b: &Arg| {
            self.options.get_arg_conflicts_with(a).iter().any(|other| other.get_id() == b.get_id())
        };
        let mut typed =
            self.options.get_arguments().filter(|a| self.ids.contains(a.get_id().as_str()));
        typed.any(|own| own.get_id() == arg.get_id() || excludes(own, arg) || excludes(arg, own))
    }
}

//! The joint model and its reports on their way into their places.

use std::path::{Path, PathBuf};

use super::MergeArgs;
use super::record::{Facts, Shape, Written};
use crate::cli::console::Console;
use crate::cli::verdict::{Place, Settled};
use crate::cli::{Status, models, output};
use crate::error::Result;
use crate::onnx::Draft;
use crate::report;
use crate::verify::Verification;

impl MergeArgs {
    /// Puts the joint model into its place, with its reports, unless its check failed; prints a report.
    pub(super) fn settle(
        &self,
        place: &Place<'_>,
        mut draft: Draft<'_>,
        facts: &Facts<'_>,
        shape: Shape,
        checked: Option<Verification>,
        console: &Console,
    ) -> Result<Status> {
        let passed = checked.as_ref().is_none_or(Verification::passed);
        let report;
        if passed {
            place.note(&mut draft, checked.as_ref(), self.data.is_synthetic())?;
            let settled = Settled { path: place.output.to_owned(), written: true };
            let (bytes, sha256) = (draft.bytes()?, models::sha256(draft.path())?);
            report = facts.report(&Written { bytes, sha256, settled, shape }, checked);
            for (path, text) in self.reports(&report)? {
                draft.add_text(path, &text)?;
            }
            draft.commit()?;
        } else {
            let (bytes, sha256) = (draft.bytes()?, models::sha256(draft.path())?);
            let settled = place.reject(draft, console)?;
            report = facts.report(&Written { bytes, sha256, settled, shape }, checked);
            let files = self.reports(&report)?;
            output::write(files.iter().map(|(path, text)| (*path, text.as_str())), console)?;
        }
        if self.result.json {
            output::print_beside(place.output, &output::json(&report)?)?;
        } else if !console.quiet {
            output::print_beside(place.output, &report::text(&report, console.verbose))?;
        }
        Ok(if passed { Status::Done } else { Status::VerificationFailed })
    }

    /// The reports that are wished for, each with its file.
    fn reports(&self, report: &report::Report) -> Result<Vec<(&Path, String)>> {
        let text = |path: &PathBuf| match path.extension().is_some_and(|suffix| suffix == "json") {
            true => output::json(report),
            false => Ok(report::html(report)),
        };
        self.result.report.iter().map(|path| Ok((path.as_path(), text(path)?))).collect()
    }
}

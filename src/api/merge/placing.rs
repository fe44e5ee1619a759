//! Puts the joint model and its reports into place.

use std::path::{Path, PathBuf};

use super::record::{Compared, Facts, Shape, Written};
use super::replay::Made;
use super::{Destination, Merged, Merger};
use crate::api::verdict::{Place, Settled};
use crate::api::{checksum, output};
use crate::error::Result;
use crate::onnx::Draft;
use crate::progress::Progress;
use crate::report::Report;
use crate::verify::Verification;

/// Results of the checks of a staged joint model.
pub(super) struct Findings {
    pub(super) shape: Shape,
    pub(super) checked: Option<Verification>,
    pub(super) compared: Compared,
}

impl Merger {
    /// Puts the joint model into place with its reports, unless its verification failed.
    pub(super) fn settle(
        &self,
        destination: &Destination<'_>,
        place: &Place<'_>,
        mut draft: Draft<'_>,
        facts: &Facts<'_>,
        findings: Findings,
        progress: &dyn Progress,
    ) -> Result<Merged> {
        let Findings { shape, checked, compared } = findings;
        let passed = checked.as_ref().is_none_or(Verification::passed);
        let biases = facts.options.budget.biases();
        let worse = compared.comparison.as_ref().and_then(|c| self.complaint(c, shape, biases));
        let unmet = passed.then(|| self.unmet(compared.comparison.as_ref())).flatten();
        if passed {
            place.note(&mut draft, checked.as_ref(), self.given().is_synthetic())?;
        }
        let (bytes, sha256) = (draft.bytes()?, checksum::of_file(draft.path())?);
        let of = |settled: Settled, sha256: String| {
            let written = Written { sha256, settled, shape };
            facts.report(&written, checked, compared, worse.as_ref())
        };
        let report;
        if passed {
            let path = place.output.to_owned();
            report = of(Settled { path, written: true, bytes }, sha256);
            for (path, text) in self.texts(destination, &report, facts)? {
                draft.add_text(path, &text)?;
            }
            draft.commit()?;
        } else {
            let settled = place.reject(draft, progress)?;
            // A model under another name calls its external data by that name.
            let sha256 = match settled.written {
                true => checksum::of_file(&settled.path)?,
                false => sha256,
            };
            report = of(settled, sha256);
            let files = self.texts(destination, &report, facts)?;
            output::write(files.iter().map(|(path, text)| (*path, text.as_str())), progress)?;
        }
        Ok(Merged { report, passed, unmet, worse })
    }

    /// The texts of the requested reports and of the plan, each with its file.
    fn texts<'a>(
        &'a self,
        destination: &Destination<'a>,
        report: &Report,
        facts: &Facts<'_>,
    ) -> Result<Vec<(&'a Path, String)>> {
        let text = |path: &'a PathBuf| Ok((path.as_path(), output::report(path, report)?));
        let mut texts: Vec<(&Path, String)> =
            destination.reports.iter().map(text).collect::<Result<_>>()?;
        if let Some((path, plan)) = &self.replay.written {
            let made = Made {
                files: &facts.files,
                runtime: facts.backend.describe(),
                memory: facts.memory,
                sites: &facts.sites,
                records: &facts.outcome.sites,
                decisions: &facts.outcome.decisions,
            };
            texts.push((path, self.plan_of(path, plan, &made)));
        }
        Ok(texts)
    }
}

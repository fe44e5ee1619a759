//! Finds the runtimes that can take part.

use std::sync::Arc;

use super::engine::Engine;
use super::{Joint, Subject, Verification};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::runtime::Backend;

/// Loads all models into the runtimes.
pub(super) struct Loading<'a, 'r> {
    pub(super) joint: Joint<'a>,
    pub(super) subjects: &'a [Subject<'a>],
    pub(super) batch: usize,
    pub(super) report: &'r mut Verification,
    pub(super) progress: &'a dyn Progress,
}

impl<'a> Loading<'a, '_> {
    /// One engine per backend that loads the original nets and the joint model, and the errors of
    /// backends that run the original nets but refuse the joint model.
    pub(super) fn engines(
        &mut self,
        backends: &'a [Arc<dyn Backend>],
    ) -> Result<(Vec<Engine<'a>>, Vec<String>)> {
        let (mut engines, mut refused) = (Vec::new(), Vec::new());
        let mut refusal = None;
        for backend in backends {
            self.progress.check()?;
            let backend = backend.as_ref();
            let error = match self.engine(backend) {
                Ok(engine) => {
                    engines.push(engine);
                    continue;
                }
                Err(e) if !is_refusal(&e) => return Err(e),
                Err(e) => e,
            };
            let (who, why) = (backend.describe(), self.by_name(&error));
            match Engine::try_originals(backend, self.subjects, self.batch) {
                // Without an engine so far, this runtime is the judge, and its error is a failure.
                Ok(()) if engines.is_empty() => {
                    self.report.failures.push(format!("{who} cannot run it: {why}"));
                }
                Ok(()) => refused.push(format!("{who}: {why}")),
                Err(e) if !is_refusal(&e) => return Err(e),
                Err(e) => {
                    self.report.unable.push(format!("{who}: {}", e.fault()));
                    refusal = refusal.or(Some(e));
                }
            }
        }
        match refusal {
            Some(e) if engines.is_empty() && self.report.failures.is_empty() => Err(e),
            _ => Ok((engines, refused)),
        }
    }

    fn engine(&self, backend: &'a dyn Backend) -> Result<Engine<'a>> {
        let ports = Engine::ports(backend, self.subjects)?;
        Engine::new(backend, self.joint, self.subjects, ports)
    }

    /// A runtime's message, with the temporary file name replaced.
    fn by_name(&self, error: &Error) -> String {
        error.fault().to_string().replace(&self.joint.path.display().to_string(), self.joint.name)
    }
}

/// Whether an error is the runtime's fault, not that of the files.
pub(super) fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Backend | ErrorKind::Unsupported)
}

/// `None` for what a runtime refuses: it is not the one to judge.
pub(super) fn able<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if is_refusal(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

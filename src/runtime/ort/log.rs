//! Captures ONNX Runtime's log. It is not printed, since errors reach the caller. But the reason of some
//! errors is only in the log.

use std::sync::{Mutex, PoisonError};

use ::ort::environment::Environment;
use ::ort::logging::LogLevel;

static KEPT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Records one message of the runtime.
pub(super) fn take(level: LogLevel, message: &str) {
    if level >= LogLevel::Error {
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(message.to_owned());
    }
}

/// Runs `work`; returns its result with the errors that were logged meanwhile.
pub(super) fn listening<T>(environment: &Environment, work: impl FnOnce() -> T) -> (T, String) {
    environment.set_log_level(LogLevel::Error);
    let outcome = work();
    environment.set_log_level(LogLevel::Fatal);
    let kept = std::mem::take(&mut *KEPT.lock().unwrap_or_else(PoisonError::into_inner));
    (outcome, kept.join("; "))
}

//! ONNX Runtime's log, kept instead of printed.
//!
//! Whatever goes wrong reaches the caller as an error, so printing the log too would say it twice.
//! Only where an error leaves out the reason (a provider's library that cannot be loaded) do its last
//! lines complete the message.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ::ort::logging::{LogLevel, LoggerFunction};

/// What is worth keeping.
pub(super) const LEVEL: LogLevel = LogLevel::Error;

const LINES: usize = 4;

static LAST: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// A logger that keeps the last few lines.
pub(super) fn keeper() -> LoggerFunction {
    Arc::new(|level, _category, _id, _location, message| {
        if level >= LEVEL {
            let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
            if last.len() == LINES {
                last.pop_front();
            }
            last.push_back(message.to_string());
        }
    })
}

/// Takes the lines that were kept.
pub(super) fn take() -> Vec<String> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_errors_are_kept_and_warnings_are_not() {
        let log = keeper();
        for number in 0..LINES + 2 {
            log(LogLevel::Error, "", "", "", &format!("probe {number}"));
            log(LogLevel::Warning, "", "", "", "warning");
        }
        let last = take();
        assert!(last.len() <= LINES && !last.contains(&"warning".to_string()));
        assert_eq!(last.last(), Some(&format!("probe {}", LINES + 1)));
    }
}

//! Turns a panic inside a runtime's crate into an error.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::error::{Error, ErrorKind, Result};

thread_local! {
    static SHIELDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic in it becomes an [`ErrorKind::Backend`] error that starts with `what`.
///
/// The error contains the panic's message, so the panic hook is silent on this thread meanwhile.
pub(crate) fn shielded<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    silence_shielded_threads();
    let outer = SHIELDED.replace(true);
    // State that a panic leaves unfinished is local to `work` or dropped by the caller.
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    SHIELDED.set(outer);
    outcome.unwrap_or_else(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Error::new(ErrorKind::Backend, format!("{what} panicked: {message}"))
            .hint("report this fault with the file that causes it"))
    })
}

fn silence_shielded_threads() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !SHIELDED.get() {
                previous(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_values_pass_through() {
        assert_eq!(shielded("adding", || Ok(1 + 1)).unwrap(), 2);
        let error = shielded::<()>("loading", || panic!("no such op: {}", "Foo")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend);
        assert_eq!(
            error.to_string(),
            "loading panicked: no such op: Foo; report this fault with the file that causes it"
        );
        assert!(!SHIELDED.get());
    }
}

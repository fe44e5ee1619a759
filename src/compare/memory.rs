//! Measures the memory of loading models, as the system reports it.

use crate::error::Result;
use crate::runtime::{Backend, ModelSource};

/// The status file of the process on Linux.
const STATUS: &str = "/proc/self/status";

/// Growth in bytes of this process's peak memory while it loads models and keeps them all; `None` if
/// the platform does not report it. Valid only in a process that has done nothing else.
///
/// # Errors
/// As [`Backend::load`].
pub fn growth(backend: &dyn Backend, sources: &[ModelSource<'_>]) -> Result<Option<u64>> {
    let before = peak();
    let sessions = sources.iter().map(|s| backend.load(*s)).collect::<Result<Vec<_>>>()?;
    let after = peak();
    drop(sessions);
    Ok(after.zip(before).map(|(after, before)| after.saturating_sub(before)))
}

/// The peak memory of this process, in bytes.
fn peak() -> Option<u64> {
    parse(&std::fs::read_to_string(STATUS).ok()?)
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_what_the_system_writes() {
        assert_eq!(parse("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2048 * 1024));
        assert_eq!(parse("VmHWM:\t x kB\n"), None);
        assert_eq!(parse(""), None);
    }
}

//! Finds the free memory of the machine.

use std::collections::TryReserveError;
use std::fs;
use std::path::{Path, PathBuf};

/// The default memory limit if free memory is unknown.
const DEFAULT: u64 = 4 << 30;

/// The default memory limit: half of the free memory.
pub(crate) fn default() -> u64 {
    room().map_or(DEFAULT, |free| free / 2)
}

/// Reserves so many blocks of `size` bytes at once, and gives them back.
///
/// # Errors
/// If there is too little memory.
pub(crate) fn try_blocks(count: usize, size: usize) -> Result<(), TryReserveError> {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for _ in 0..count {
        let mut block = Vec::new();
        block.try_reserve_exact(size)?;
        // What is not kept might not be reserved at all.
        blocks.push(std::hint::black_box(block));
    }
    Ok(())
}

/// Free bytes, as far as the system reports them.
pub(crate) fn room() -> Option<u64> {
    free(Path::new("/"))
}

/// Free bytes of the machine, or of the process's control group if that has less; `None` if the
/// system does not report it. `root` is the folder of /proc and /sys.
fn free(root: &Path) -> Option<u64> {
    let machine = field(&root.join("proc/meminfo"), "MemAvailable:").map(|kib| kib * 1024);
    let own = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let group = root.join("sys/fs/cgroup");
    // Limits of parent groups count, too. In a container the path may be that on the host.
    let folders = Path::new(path).ancestors().map(|part| group.join(part));
    let version_2 = folders.filter_map(|at| left(&at, "memory.max", "memory.current"));
    let at = group.join("memory");
    let version_1 = left(&at, "memory.limit_in_bytes", "memory.usage_in_bytes");
    machine.into_iter().chain(version_2).chain(version_1).min()
}

/// Free bytes within a control group's limit; reclaimable file pages count as free.
fn left(group: &Path, limit: &str, used: &str) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    let (limit, used) = (number(limit)?, number(used)?);
    let stat: PathBuf = group.join("memory.stat");
    let spare = field(&stat, "inactive_file").or_else(|| field(&stat, "total_inactive_file"));
    Some(limit.saturating_sub(used.saturating_sub(spare.unwrap_or(0))))
}

/// The number after a name at the beginning of a line.
fn field(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_machine_and_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(free(root.path()), None);
        put("proc/meminfo", "MemTotal: 900 kB\nMemAvailable:   500 kB\n");
        assert_eq!(free(root.path()), Some(500 * 1024));
        put("proc/self/cgroup", "0::/a/b\n");
        put("sys/fs/cgroup/a/b/memory.max", "max\n");
        put("sys/fs/cgroup/a/b/memory.current", "70000\n");
        assert_eq!(free(root.path()), Some(500 * 1024));
        put("sys/fs/cgroup/a/memory.max", "100000\n");
        put("sys/fs/cgroup/a/memory.current", "80000\n");
        put("sys/fs/cgroup/a/memory.stat", "anon 3\ninactive_file 5000\n");
        assert_eq!(free(root.path()), Some(25_000));
        put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9000\n");
        put("sys/fs/cgroup/memory/memory.usage_in_bytes", "8000\n");
        assert_eq!(free(root.path()), Some(1000));
    }

    #[test]
    fn there_is_some() {
        assert!(default() > 1 << 20);
    }
}

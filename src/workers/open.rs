//! Folders of merges that go on. A process that ends at once drops nothing, so it must be able to find
//! them.

use std::sync::{Mutex, PoisonError};

use super::layout::Layout;

/// Those of this process.
static OPEN: Open = Open::new();

/// Folders whose workers wait for requests.
struct Open(Mutex<Vec<Layout>>);

impl Open {
    const fn new() -> Open {
        Open(Mutex::new(Vec::new()))
    }

    fn add(&self, layout: &Layout) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(layout.clone());
    }

    /// Clears those that `is_over` names. Others wait meanwhile, so the process does not end in between.
    fn clear(&self, is_over: impl Fn(&Layout) -> bool) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|layout| {
            let ends = is_over(layout);
            if ends {
                layout.clear();
            }
            !ends
        });
    }
}

/// A merge begins to use a folder.
pub(super) fn begin(layout: &Layout) {
    OPEN.add(layout);
}

/// A merge has ended: clears its folder, and tells its workers.
pub(super) fn end(layout: &Layout) {
    OPEN.clear(|open| open.root() == layout.root());
}

/// Ends all merges of this process for their workers, before the process ends.
#[cfg(feature = "cli")]
pub(crate) fn end_all() {
    OPEN.clear(|_| true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_open_folders_are_cleared_and_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let layouts = ["a", "b", "c"].map(|name| Layout::new(&folder.path().join(name)));
        let open = Open::new();
        for layout in &layouts {
            layout.make().unwrap();
            std::fs::write(layout.nets(), "nets").unwrap();
            open.add(layout);
        }
        let has_ended = |layout: &Layout| {
            assert_ne!(layout.end().exists(), layout.nets().exists());
            layout.end().exists()
        };
        open.clear(|layout| layout.root() == layouts[1].root());
        assert_eq!(layouts.each_ref().map(has_ended), [false, true, false]);
        open.clear(|_| true);
        assert_eq!(layouts.each_ref().map(has_ended), [true; 3]);
    }
}

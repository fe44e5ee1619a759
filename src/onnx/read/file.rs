//! A model file as a buffer that is decoded while it is read.
//!
//! So each tensor gets memory of its own, which is free as soon as the tensor is replaced, and the file
//! is never in memory beside its tensors. What a message leaves out is not read at all.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use bytes::{Buf, Bytes};

/// Bytes read at a time, except those of tensors.
const WINDOW: usize = 1 << 16;

/// The rest of a file. After a failure nothing remains.
pub(super) struct FileBuffer {
    file: File,
    window: Vec<u8>,
    /// The place in the window.
    at: usize,
    /// Bytes behind the window.
    behind: usize,
    failure: Option<io::Error>,
}

impl FileBuffer {
    /// A file of `length` bytes, at its beginning.
    pub(super) fn new(file: File, length: usize) -> FileBuffer {
        let mut buffer =
            FileBuffer { file, window: Vec::new(), at: 0, behind: length, failure: None };
        buffer.fill();
        buffer
    }

    /// The reason why reading has failed, if it has.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Reads the next window if this one is used up.
    fn fill(&mut self) {
        if self.at < self.window.len() {
            return;
        }
        self.at = 0;
        self.window.resize(self.behind.min(WINDOW), 0);
        match self.file.read_exact(&mut self.window) {
            Ok(()) => self.behind -= self.window.len(),
            Err(failure) => self.fail(failure),
        }
    }

    /// Leaves out bytes behind the window, such as those of tensors in an outline of a model.
    fn skip(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        match self.file.seek(SeekFrom::Current(i64::try_from(count).unwrap_or(i64::MAX))) {
            Ok(_) => self.behind -= count,
            Err(failure) => self.fail(failure),
        }
    }

    fn fail(&mut self, failure: io::Error) {
        self.window.clear();
        (self.at, self.behind, self.failure) = (0, 0, Some(failure));
    }
}

impl Buf for FileBuffer {
    fn remaining(&self) -> usize {
        self.window.len() - self.at + self.behind
    }

    fn chunk(&self) -> &[u8] {
        self.window.get(self.at..).unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        let inside = count.min(self.window.len() - self.at);
        self.at += inside;
        self.skip((count - inside).min(self.behind));
        self.fill();
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        let length = length.min(self.remaining());
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(length).is_err() {
            self.fail(io::ErrorKind::OutOfMemory.into());
            return Bytes::new();
        }
        let read = length.min(self.window.len() - self.at);
        bytes.extend_from_slice(self.chunk().get(..read).unwrap_or_default());
        self.at += read;
        let missing = length - read;
        match Read::by_ref(&mut self.file).take(missing as u64).read_to_end(&mut bytes) {
            Ok(found) if found == missing => self.behind -= missing,
            Ok(_) => self.fail(io::ErrorKind::UnexpectedEof.into()),
            Err(failure) => self.fail(failure),
        }
        self.fill();
        bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn any_mixture_of_steps_reads_the_file() {
        let bytes: Vec<u8> = (0..5 * WINDOW + 170).map(|i| (i % 251) as u8).collect();
        let mut buffer = FileBuffer::new(file(&bytes), bytes.len());
        let mut at = 0;
        for step in [0, 5, WINDOW - 5, 1, WINDOW + 3, 7, WINDOW] {
            assert_eq!(buffer.remaining(), bytes.len() - at);
            assert_eq!(buffer.chunk()[0], bytes[at]);
            assert_eq!(buffer.copy_to_bytes(step), bytes[at..at + step]);
            at += step;
            buffer.advance(1);
            at += 1;
        }
        for step in [WINDOW - 20, WINDOW + 9] {
            assert_eq!(buffer.chunk()[0], bytes[at]);
            buffer.advance(step);
            at += step;
            assert_eq!(buffer.remaining(), bytes.len() - at);
        }
        assert_eq!(buffer.copy_to_bytes(bytes.len()), bytes[at..]);
        assert!(!buffer.has_remaining() && buffer.failure().is_none());
    }

    #[test]
    fn a_file_that_has_become_shorter_fails() {
        for length in [20, 2 * WINDOW] {
            let mut buffer = FileBuffer::new(file(&[1; 10]), length);
            buffer.copy_to_bytes(15);
            assert_eq!(buffer.failure().unwrap().kind(), io::ErrorKind::UnexpectedEof);
            assert!(!buffer.has_remaining());
        }
        let mut buffer = FileBuffer::new(file(&[1; WINDOW + 10]), WINDOW + 20);
        assert_eq!(buffer.copy_to_bytes(WINDOW + 15), [1; WINDOW + 10][..]);
        assert!(buffer.failure().is_some());
    }
}

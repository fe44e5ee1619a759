//! Reads safetensors files without trusting them.
//!
//! The header implies the length of the file. Only a file of that length is read as a whole, so
//! devices, sparse files and other formats do not fill the memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Limit of the header's length; the crate has the same limit.
const LONGEST_HEADER: u64 = 100_000_000;

/// The length of the header of a file of so many bytes, from its first eight. The error is the length that
/// it claims.
pub(super) fn header_length(start: [u8; 8], file: u64) -> Result<u64, u64> {
    let claimed = u64::from_le_bytes(start);
    let fits = claimed <= LONGEST_HEADER && claimed <= file.saturating_sub(8);
    if fits { Ok(claimed) } else { Err(claimed) }
}

/// The header's entry of an array.
#[derive(Deserialize)]
struct Entry {
    data_offsets: (u64, u64),
}

/// The bytes of a file whose header fits its length.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for a file of another kind or length; else errors of reading.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a file"));
    }
    let length = metadata.len();
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(|_| foreign())?;
    let header = header_length(start, length).map_err(|_| foreign())?;
    let mut bytes = start.to_vec();
    file.by_ref().take(header).read_to_end(&mut bytes)?;
    let data = bytes.get(8..).and_then(end_of_data).ok_or_else(foreign)?;
    if header.checked_add(8).and_then(|n| n.checked_add(data)) != Some(length) {
        return Err(foreign());
    }
    let rest = usize::try_from(data).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    bytes.try_reserve_exact(rest).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    file.take(data).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The end of the last array's data, counted from the end of the header.
fn end_of_data(header: &[u8]) -> Option<u64> {
    let entries: Map<String, Value> = serde_json::from_slice(header).ok()?;
    let arrays = entries.into_iter().filter(|(name, _)| name != "__metadata__");
    let ends = arrays.map(|(_, entry)| {
        serde_json::from_value(entry).map(|entry: Entry| entry.data_offsets.1).ok()
    });
    ends.collect::<Option<Vec<u64>>>().map(|ends| ends.into_iter().max().unwrap_or(0))
}

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is of another kind, or cut off")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_whole_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let header =
            br#"{"__metadata__":{"k":"v"},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let mut whole = (header.len() as u64).to_le_bytes().to_vec();
        whole.extend(header);
        whole.extend([7; 8]);
        fs::write(&path, &whole).unwrap();
        assert_eq!(read(&path).unwrap(), whole);
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_header_has_the_same_limits_for_models_and_for_samples() {
        let of = |claimed: u64, file: u64| header_length(claimed.to_le_bytes(), file);
        assert_eq!((of(92, 100), of(93, 100), of(1, 3)), (Ok(92), Err(93), Err(1)));
        let long = LONGEST_HEADER + 1;
        assert_eq!((of(long - 1, u64::MAX), of(long, u64::MAX)), (Ok(long - 1), Err(long)));
    }

    #[test]
    fn holes_and_devices_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        File::create(&path).unwrap().set_len(1 << 42).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(read(folder.path()).is_err());
        if cfg!(unix) {
            assert!(read(Path::new("/dev/zero")).is_err());
        }
    }
}

//! Recognises the format of a file that is not an ONNX model.

/// Signatures of files that are confused with models: offset, bytes, format, next step.
const SIGNATURES: [(usize, &[u8], &str, &str); 8] = [
    (0, b"PK\x03\x04", "a zip archive", "unpack it; a PyTorch checkpoint must be exported to ONNX"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", "export the network to ONNX"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the real file with `git lfs pull`"),
    (0, b"\x80\x02", "a Python pickle", "export the network to ONNX"),
    (4, b"TFL3", "a TensorFlow Lite model", "convert it to ONNX"),
    (4, b"ORTM", "a model in ORT format", "give the .onnx file that it was converted from"),
    (8, b"{\"", "a safetensors file", "export the whole network to ONNX"),
];

/// The known format of the bytes, and the next step.
pub(super) fn describe(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let known = SIGNATURES
        .iter()
        .find(|(at, magic, ..)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    if let Some((.., what, hint)) = known {
        return Some((what, hint));
    }
    let head = beginning_as_text(bytes)?.trim_start().to_ascii_lowercase();
    Some(if head.starts_with("<!doctype html") || head.starts_with("<html") {
        ("an HTML page", "download the file itself instead of its web page")
    } else {
        ("a text file", "give the binary .onnx file")
    })
}

/// The beginning of a file that consists of printable text.
fn beginning_as_text(bytes: &[u8]) -> Option<&str> {
    let head = bytes.get(..512).unwrap_or(bytes);
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character cut off by the end of the beginning is no reason against text.
        Err(e) if e.error_len().is_none() => {
            std::str::from_utf8(head.get(..e.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let printable = |c: char| !c.is_control() || c.is_ascii_whitespace();
    (!text.is_empty() && text.chars().all(printable)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_taken_for_models_are_recognised() {
        for (bytes, what) in [
            (&b"PK\x03\x04rest"[..], "a zip archive"),
            (b"\n <!DOCTYPE html><p>404", "an HTML page"),
            (b"<html lang=en>", "an HTML page"),
            (b"# Read me\n", "a text file"),
            (b"\x1c\0\0\0TFL3", "a TensorFlow Lite model"),
            (b"\x10\0\0\0\0\0\0\0{\"__metadata__\"", "a safetensors file"),
        ] {
            assert_eq!(describe(bytes).map(|d| d.0), Some(what));
        }
        let cut = format!("{}é", "a".repeat(511));
        assert_eq!(describe(cut.as_bytes()).map(|d| d.0), Some("a text file"));
    }

    #[test]
    fn anything_else_is_not() {
        for bytes in [&b""[..], b"\x08\x07\x12\x00", b"\xff\xfe\x00"] {
            assert_eq!(describe(bytes), None);
        }
    }
}

//! Names from files: how to show them, and whether they may name a task or a file. Numbers of things.
//!
//! A model may be hostile or broken: a name in it may be a path out of a folder, hold sequences that
//! move a terminal's cursor, or be as long as the file.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;

/// Characters of a name that are shown.
const NAME: usize = 200;

/// Characters of a sentence that are shown.
const SENTENCE: usize = 700;

/// Bytes of a task's name: with a suffix it still names a file on every file system.
const TASK: usize = 200;

/// A name as one line, shortened if it is too long to read.
pub(crate) fn shown(name: &str) -> Cow<'_, str> {
    cut(escaped(name), NAME)
}

/// A sentence with names, as one line, in which names are shortened as by [`shown`].
pub(crate) fn sentence(text: &str) -> Cow<'_, str> {
    let line = escaped(text);
    if line.split(' ').all(|word| is_short(word, NAME)) {
        return cut(line, SENTENCE);
    }
    let words: Vec<Cow<'_, str>> = line.split(' ').map(|w| cut(Cow::Borrowed(w), NAME)).collect();
    Cow::Owned(cut(Cow::Owned(words.join(" ")), SENTENCE).into_owned())
}

/// A number with its noun: `1 sample`, `2 samples`.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(n: N, noun: &str) -> String {
    let plural = if n == N::from(1) { "" } else { "s" };
    format!("{n} {noun}{plural}")
}

/// Text without control characters; line breaks stay.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c != '\n' && is_active(c), |c| c.escape_default().collect())
}

/// JSON with control characters escaped; its value stays the same.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    let escape = |c: char| {
        let mut units = [0; 2];
        c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
    };
    // Such characters are never part of JSON's own syntax, line breaks excepted.
    replaced(text, |c| c != '\n' && is_active(c), escape)
}

/// The reason why `name` cannot name a task, and so outputs and files; `None` if it can.
pub(crate) fn task_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name == "." || name == ".." {
        Some("it is a folder's own name")
    } else if name.contains(['/', '\\']) {
        Some("it holds a '/' or a '\\'")
    } else if name.chars().any(char::is_control) {
        Some("it holds a control character")
    } else if name.len() > TASK {
        Some("it is longer than 200 bytes")
    } else {
        None
    }
}

/// The reason why `name` with a suffix cannot name a file; `None` if it can.
pub(crate) fn file_fault(name: &str) -> Option<&'static str> {
    task_fault(name).or_else(|| if cfg!(windows) { windows_fault(name) } else { None })
}

/// `name` with all invalid parts replaced.
pub(crate) fn to_task(name: &str) -> String {
    let plain = |c: char| if c.is_control() || c == '/' || c == '\\' { '_' } else { c };
    let mut task: String = name.chars().map(plain).collect();
    // A number may have to be appended.
    task.truncate(task.floor_char_boundary(TASK - 20));
    if task_fault(&task).is_some() { "model".to_owned() } else { task }
}

/// Names that Windows does not accept.
fn windows_fault(name: &str) -> Option<&'static str> {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = |kind| stem.strip_prefix(kind).is_some_and(|n: &str| n.len() == 1 && n != "0");
    let is_port = ["COM", "LPT"].into_iter().any(numbered);
    let is_device = is_port || ["CON", "PRN", "AUX", "NUL"].contains(&stem.as_str());
    if name.contains(['<', '>', ':', '"', '|', '?', '*']) {
        Some("it holds one of < > : \" | ? *")
    } else if is_device {
        Some("it is the name of a device")
    } else {
        None
    }
}

/// Control characters, and those that change the direction or the breaks of the text around them.
pub(crate) fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{61c}')
}

fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, is_active, |c| c.escape_default().collect())
}

fn replaced(text: &str, which: fn(char) -> bool, by: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.chars().any(which) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match which(c) {
            true => out.push_str(&by(c)),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn is_short(text: &str, limit: usize) -> bool {
    text.len() <= limit || text.chars().nth(limit).is_none()
}

/// Shortens a text to `limit` characters by leaving out its middle.
fn cut(text: Cow<'_, str>, limit: usize) -> Cow<'_, str> {
    if is_short(&text, limit) {
        return text;
    }
    let (head, tail) = (limit * 2 / 3, limit / 4);
    let length = text.chars().count();
    let mut out: String = text.chars().take(head).collect();
    out.push('…');
    out.extend(text.chars().skip(length - tail));
    Cow::Owned(out)
}

/// Bytes, such as those of a checksum, as hexadecimal digits.
pub(crate) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Gives every name once: to names that are taken it appends numbers.
#[derive(Default)]
pub(crate) struct UniqueNames {
    /// Names that are never made up, although they may be claimed as they are.
    reserved: HashSet<String>,
    taken: HashSet<String>,
    /// The last number appended to each name.
    last: HashMap<String, u32>,
}

impl UniqueNames {
    /// No name is taken yet, and numbered names are none of `reserved`.
    pub(crate) fn reserving(reserved: impl IntoIterator<Item = String>) -> UniqueNames {
        UniqueNames { reserved: reserved.into_iter().collect(), ..UniqueNames::default() }
    }

    /// The names `taken` are taken.
    pub(crate) fn beside(taken: impl IntoIterator<Item = String>) -> UniqueNames {
        UniqueNames { taken: taken.into_iter().collect(), ..UniqueNames::default() }
    }

    /// `name`, or a name like it that is free.
    pub(crate) fn claim(&mut self, name: &str) -> String {
        if self.taken.insert(name.to_owned()) {
            return name.to_owned();
        }
        let last = self.last.entry(name.to_owned()).or_default();
        loop {
            *last += 1;
            let candidate = format!("{name}.{last}");
            if !self.reserved.contains(&candidate) && self.taken.insert(candidate.clone()) {
                return candidate;
            }
        }
    }
}

/// For each name of `own`, its place among `theirs`. Names that `theirs` lacks take the places that are
/// left, in order; `None` if one place is left over.
pub(crate) fn counterparts(theirs: &[&str], own: &[&str]) -> Option<Vec<usize>> {
    let mut places: Vec<Option<usize>> =
        own.iter().map(|name| theirs.iter().position(|other| other == name)).collect();
    let mut left = (0..theirs.len())
        .filter(|place| !places.contains(&Some(*place)))
        .collect::<Vec<_>>()
        .into_iter();
    for place in places.iter_mut().filter(|place| place.is_none()) {
        *place = left.next();
    }
    places.into_iter().collect::<Option<Vec<_>>>().filter(|_| left.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_on_one_line_of_a_sane_length() {
        assert_eq!(shown("größer/conv_1"), "größer/conv_1");
        assert_eq!(shown("a\u{1b}[2J\nb\u{9b}\u{202e}"), "a\\u{1b}[2J\\nb\\u{9b}\\u{202e}");
        for c in ['\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}', '\u{61c}'] {
            assert_eq!(shown(&format!("a{c}")), format!("a{}", c.escape_default()));
        }
        let long = shown(&"é".repeat(100_000)).into_owned();
        assert!(long.chars().count() <= NAME && long.contains('…'));
    }

    #[test]
    fn sentences_keep_their_words_and_cut_their_names() {
        let long = "x".repeat(100_000);
        let text = format!("node '{long}' has\nno input '{long}'; export the model again");
        let line = sentence(&text);
        assert!(line.chars().count() <= SENTENCE && line.ends_with("'; export the model again"));
        assert!(line.starts_with("node 'xxx") && line.contains("has\\nno input 'xx"));
        let words = sentence(&"word ".repeat(10_000)).into_owned();
        assert!(words.chars().count() <= SENTENCE);
        assert!(matches!(sentence("an ordinary sentence"), Cow::Borrowed(_)));
    }

    #[test]
    fn one_is_no_plural() {
        let texts = [0_usize, 1, 2].map(|n| counted(n, "sample"));
        assert_eq!(texts, ["0 samples", "1 sample", "2 samples"]);
    }

    #[test]
    fn lines_and_json_keep_their_breaks() {
        assert_eq!(lines("a\u{7}\nb"), "a\\u{7}\nb");
        let text = "{\n  \"a\u{7f}\u{202e}\": 1\n}";
        assert_eq!(json(text), "{\n  \"a\\u007f\\u202e\": 1\n}");
        let value: serde_json::Value = serde_json::from_str(&json(text)).unwrap();
        assert_eq!(value, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }

    #[test]
    fn paths_and_control_characters_name_no_task() {
        for name in ["cats", "größe 2", "..hidden", "a:b", ".x"] {
            assert_eq!(task_fault(name), None, "{name}");
        }
        let long = "x".repeat(201);
        for name in ["", ".", "..", "../evil", "/etc/x", "a\\b", "a\0", "a\n", long.as_str()] {
            assert!(task_fault(name).is_some() && file_fault(name).is_some(), "{name:?}");
            assert_eq!(task_fault(&to_task(name)), None, "{name:?}");
        }
        assert_eq!(to_task("a/b\u{1b}c"), "a_b_c");
    }

    #[test]
    fn windows_has_names_of_its_own() {
        for name in ["con", "Nul.b", "COM1", "lpt9.x", "a:b", "what?"] {
            assert!(windows_fault(name).is_some(), "{name}");
        }
        for name in ["console", "com", "lpt", "a.con", "nul1"] {
            assert_eq!(windows_fault(name), None, "{name}");
        }
    }

    #[test]
    fn equal_names_are_counterparts_and_the_rest_follows_in_order() {
        assert_eq!(counterparts(&["x", "y"], &["y", "x"]), Some(vec![1, 0]));
        assert_eq!(counterparts(&["x", "y", "z"], &["a", "x", "b"]), Some(vec![1, 0, 2]));
        assert_eq!(counterparts(&["x"], &["y"]), Some(vec![0]));
        assert_eq!(counterparts(&["x"], &["x", "y"]), None);
        assert_eq!(counterparts(&["x", "y"], &["y"]), None);
    }
}

//! Files of `src/` as code without comments, literals and tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of `src/` without comments, literals and tests.
pub struct Source {
    /// Path below `src/`.
    pub path: String,
    pub code: String,
}

impl Source {
    /// The top-level module that the file belongs to.
    pub fn module(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// How many modules deep the file is.
    pub fn depth(&self) -> usize {
        let segments = self.path.trim_end_matches(".rs").split('/');
        segments.filter(|segment| *segment != "mod").count()
    }

    /// The path of the file's module, from the crate's root.
    pub fn path_of_module(&self) -> Vec<String> {
        let segments = self.path.trim_end_matches(".rs").split('/');
        segments.filter(|segment| *segment != "mod").map(str::to_owned).collect()
    }
}

/// Every file that is compiled into the library or the binary, except the list of modules itself.
pub fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut tests: BTreeSet<String> = BTreeSet::new();
    for (path, text) in all_files() {
        let (code, names) = without_tests(&code_of(&text));
        let folder = match path.rsplit_once('/') {
            Some((folder, "mod.rs")) => format!("{folder}/"),
            _ => format!("{}/", path.trim_end_matches(".rs")),
        };
        tests.extend(names.iter().map(|name| format!("{folder}{name}")));
        sources.push(Source { path, code });
    }
    let is_test = |path: &str| {
        let stem = path.trim_end_matches(".rs");
        tests.iter().any(|t| stem == t || stem.starts_with(&format!("{t}/")))
    };
    sources.retain(|s| s.path != "lib.rs" && !is_test(&s.path));
    assert!(sources.len() > 50, "only {} files were found", sources.len());
    sources
}

/// All files below `src/`, by path.
pub fn all_files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|suffix| suffix == "rs") {
                let below = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                files.push((below, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// The text with comments and literals replaced by blanks; lines stay the same.
pub fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = end_of_text(&chars, at);
        for c in &chars[at..end.unwrap_or(at + 1)] {
            code.push(if end.is_none() || *c == '\n' { *c } else { ' ' });
        }
        at = end.unwrap_or(at + 1);
    }
    code
}

/// The end of the comment or literal that begins at `at`; `None` if none begins there.
fn end_of_text(chars: &[char], at: usize) -> Option<usize> {
    let find = |from: usize, what: &str| -> usize {
        let what: Vec<char> = what.chars().collect();
        let place = chars.get(from..).and_then(|r| r.windows(what.len()).position(|w| w == what));
        place.map_or(chars.len(), |n| from + n + what.len())
    };
    let next = |n: usize| chars.get(at + n).copied().unwrap_or(' ');
    match chars[at] {
        '/' if next(1) == '/' => Some(find(at, "\n") - 1),
        '/' if next(1) == '*' => Some(find(at + 2, "*/")),
        '\'' if next(1) == '\\' => Some(find(at + 3, "'")),
        '\'' if next(2) == '\'' => Some(at + 3),
        '"' => {
            let mut end = at + 1;
            while chars.get(end).is_some_and(|c| *c != '"') {
                end += if chars[end] == '\\' { 2 } else { 1 };
            }
            Some(end + 1)
        }
        'r' if at == 0 || !is_word(chars[at - 1]) => {
            let hashes = (1..).take_while(|n| next(*n) == '#').count();
            let raw = next(1 + hashes) == '"';
            raw.then(|| find(at + 2 + hashes, &format!("\"{}", "#".repeat(hashes))))
        }
        _ => None,
    }
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Code with test-only parts replaced by blanks, and the names of test modules in other files.
pub fn without_tests(code: &str) -> (String, Vec<String>) {
    let mark = |code: &str| {
        let marks = ["#[cfg(test)]", "#[cfg(all(test,"];
        marks.iter().filter_map(|mark| Some((code.find(mark)?, mark.len()))).min()
    };
    let mut kept = code.to_owned();
    let mut modules = Vec::new();
    while let Some((start, length)) = mark(&kept) {
        let body = start + length;
        let open = kept[body..].find(['{', ';']).map_or(kept.len(), |n| body + n);
        let end = if kept[open..].starts_with('{') { closing_brace(&kept, open) } else { open };
        let item = &kept[body..open];
        if let Some((_, name)) = item.split_once("mod ").filter(|_| end == open) {
            modules.push(name.trim().to_owned());
        }
        let blank: String =
            kept[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        kept.replace_range(start..end, &blank);
    }
    (kept, modules)
}

/// The position after the brace that closes the one at `open`.
pub fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 {
            return open + at + 1;
        }
    }
    code.len()
}

//! Searches ONNX Runtime's shared library.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The environment of the search, separate from the process for testing.
#[derive(Debug, Clone, Default)]
pub(super) struct Surroundings {
    /// The library or folder named by the caller.
    pub(super) option: Option<PathBuf>,
    /// `ORT_DYLIB_PATH`.
    pub(super) variable: Option<PathBuf>,
    /// Folders registered by the host program.
    pub(super) host_dirs: Vec<PathBuf>,
    pub(super) executable_dir: Option<PathBuf>,
    pub(super) working_dir: Option<PathBuf>,
    /// `VIRTUAL_ENV`.
    pub(super) virtual_env: Option<PathBuf>,
    /// The Python whose module path is searched.
    pub(super) python: Option<&'static str>,
    pub(super) system_dirs: Vec<PathBuf>,
}

/// See [`look_in`].
static HOST_DIRS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Adds a folder to search first, unless the user names one. For host programs such as Python, which
/// know their packages.
pub fn look_in(folder: PathBuf) {
    let mut folders = HOST_DIRS.lock().unwrap_or_else(PoisonError::into_inner);
    if !folders.contains(&folder) {
        folders.push(folder);
    }
}

/// A place that was searched, and the libraries in it, newest first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) libraries: Vec<PathBuf>,
}

/// Depth of the search in a folder: enough for unpacked archives, and for packages that sort binaries
/// by system and processor.
const OWN_FOLDER_DEPTH: usize = 6;

impl Surroundings {
    pub(super) fn of_process(option: Option<&Path>) -> Self {
        let path = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Surroundings {
            option: option.map(Path::to_path_buf),
            variable: path("ORT_DYLIB_PATH"),
            host_dirs: HOST_DIRS.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            executable_dir: env::current_exe()
                .ok()
                .and_then(|exe| Some(exe.canonicalize().ok()?.parent()?.to_path_buf())),
            working_dir: env::current_dir().ok(),
            virtual_env: path("VIRTUAL_ENV"),
            python: Some(if cfg!(windows) { "python" } else { "python3" }),
            system_dirs: system_dirs(),
        }
    }

    /// The library that the user named; no other one may replace it.
    pub(super) fn demanded(&self) -> Option<Place> {
        let (name, path) = match (&self.option, &self.variable) {
            (Some(path), _) => ("the given path", path),
            (None, Some(path)) => ("ORT_DYLIB_PATH", path),
            (None, None) => return None,
        };
        let libraries = if path.is_dir() {
            libraries_in(path, OWN_FOLDER_DEPTH)
        } else {
            path.is_file().then(|| path.clone()).into_iter().collect()
        };
        Some(Place { name: format!("{name} {}", path.display()), libraries })
    }

    /// The places to search, in order. Lazy, because querying Python starts a process.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        type Search = fn(&Surroundings) -> Vec<PathBuf>;
        const SEARCHES: [(&str, Search); 6] = [
            ("the host's packages", Surroundings::in_host),
            ("the program's folder", Surroundings::beside_executable),
            (".onnxruntime/", Surroundings::in_project),
            ("VIRTUAL_ENV", Surroundings::in_virtual_env),
            ("Python's module path", Surroundings::in_python),
            ("the system's library path", Surroundings::in_system),
        ];
        SEARCHES
            .into_iter()
            .map(|(name, search)| Place { name: name.to_string(), libraries: search(self) })
    }

    fn in_host(&self) -> Vec<PathBuf> {
        self.host_dirs.iter().flat_map(|dir| libraries_in(dir, 0)).collect()
    }

    fn beside_executable(&self) -> Vec<PathBuf> {
        self.executable_dir.iter().flat_map(|dir| libraries_in(dir, 0)).collect()
    }

    fn in_project(&self) -> Vec<PathBuf> {
        let ancestors = self.working_dir.iter().flat_map(|dir| dir.ancestors());
        ancestors
            .flat_map(|dir| libraries_in(&dir.join(".onnxruntime"), OWN_FOLDER_DEPTH))
            .collect()
    }

    fn in_virtual_env(&self) -> Vec<PathBuf> {
        let Some(root) = &self.virtual_env else { return Vec::new() };
        let mut module_dirs = vec![root.join("Lib").join("site-packages")];
        let pythons = entries(&root.join("lib"));
        module_dirs.extend(pythons.iter().map(|python| python.join("site-packages")));
        module_dirs.iter().flat_map(|dir| libraries_in(&package_dir(dir), 0)).collect()
    }

    fn in_python(&self) -> Vec<PathBuf> {
        let module_dirs = self.python.map(module_path).unwrap_or_default();
        module_dirs.iter().flat_map(|dir| libraries_in(&package_dir(dir), 0)).collect()
    }

    fn in_system(&self) -> Vec<PathBuf> {
        self.system_dirs.iter().flat_map(|dir| libraries_in(dir, 0)).collect()
    }
}

/// The version in a library's file name, e.g. 1.31.1 of `libonnxruntime.so.1.31.1`; links are
/// followed, because the plain name usually points to the full one.
pub(super) fn version(library: &Path) -> Option<String> {
    let resolved = library.canonicalize().unwrap_or_else(|_| library.to_path_buf());
    let name = resolved.file_name()?.to_str()?;
    let from_digit = name.get(name.find(|c: char| c.is_ascii_digit())?..)?;
    let version = from_digit.trim_end_matches(".dylib");
    version.split('.').all(|part| part.parse::<u32>().is_ok()).then(|| version.to_string())
}

/// Python's module path. Queried once, because it starts a process.
fn module_path(python: &str) -> &'static [PathBuf] {
    static PATH: OnceLock<Vec<PathBuf>> = OnceLock::new();
    PATH.get_or_init(|| {
        let output = Command::new(python)
            .args(["-c", r"import sys; print('\n'.join(sys.path))"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let Ok(output) = output else { return Vec::new() };
        let lines = String::from_utf8_lossy(&output.stdout);
        lines.lines().filter(|line| !line.is_empty()).map(PathBuf::from).collect()
    })
}

fn package_dir(module_dir: &Path) -> PathBuf {
    module_dir.join("onnxruntime").join("capi")
}

fn system_dirs() -> Vec<PathBuf> {
    let variable = if cfg!(windows) {
        "PATH"
    } else if cfg!(target_os = "macos") {
        "DYLD_LIBRARY_PATH"
    } else {
        "LD_LIBRARY_PATH"
    };
    let listed = env::var_os(variable).unwrap_or_default();
    let mut dirs: Vec<PathBuf> =
        env::split_paths(&listed).filter(|dir| !dir.as_os_str().is_empty()).collect();
    if cfg!(unix) {
        let multiarch = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
        let fixed = ["/usr/local/lib", "/opt/homebrew/lib", &multiarch, "/usr/lib64", "/usr/lib"];
        dirs.extend(fixed.map(PathBuf::from));
    }
    dirs
}

/// The libraries in `dir` and up to `depth` folders below it, each file once: those for this
/// processor first, the newest first.
fn libraries_in(dir: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect_libraries(dir, depth, &mut found);
    found.sort_by_key(|path| {
        let parts = version(path).unwrap_or_default();
        let parts: Vec<u32> = parts.split('.').filter_map(|part| part.parse().ok()).collect();
        (is_for_another_processor(path), std::cmp::Reverse(parts))
    });
    let mut files = Vec::new();
    found.retain(|path| {
        let file = path.canonicalize().unwrap_or_else(|_| path.clone());
        let new = !files.contains(&file);
        files.push(file);
        new
    });
    found
}

/// Whether a folder of the path names another processor, as in packages for several processors.
fn is_for_another_processor(path: &Path) -> bool {
    const PROCESSORS: [(&str, &[&str]); 2] =
        [("x86_64", &["x64", "x86_64", "amd64"]), ("aarch64", &["arm64", "aarch64"])];
    let others = PROCESSORS.iter().filter(|(processor, _)| *processor != env::consts::ARCH);
    let others: Vec<&str> = others.flat_map(|(_, names)| names.iter().copied()).collect();
    path.iter().any(|folder| others.iter().any(|name| folder == *name))
}

fn collect_libraries(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for path in entries(dir) {
        if path.is_dir() {
            if depth > 0 {
                collect_libraries(&path, depth - 1, found);
            }
        } else if path.file_name().is_some_and(is_library) {
            found.push(path);
        }
    }
}

/// The entries of `dir` in the order of their names; none where it cannot be read.
pub(super) fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Whether a file of this name is ONNX Runtime itself, rather than one of its execution providers.
fn is_library(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    if cfg!(windows) {
        name.eq_ignore_ascii_case("onnxruntime.dll")
    } else if cfg!(target_os = "macos") {
        name.starts_with("libonnxruntime.") && name.ends_with(".dylib")
    } else {
        name == "libonnxruntime.so" || name.starts_with("libonnxruntime.so.")
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }

    fn found(surroundings: &Surroundings) -> Vec<PathBuf> {
        surroundings.places().flat_map(|place| place.libraries).collect()
    }

    #[test]
    fn places_are_searched_in_order() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let expected = [
            "host/libonnxruntime.so.1.29.0",
            "bin/libonnxruntime.so",
            "work/.onnxruntime/onnxruntime-linux-x64-1.31.1/lib/libonnxruntime.so.1.31.1",
            "venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.30.0",
            "system/libonnxruntime.so.1.20.0",
        ]
        .map(at);
        expected.iter().for_each(|path| touch(path));
        touch(&at("bin/libonnxruntime_providers_shared.so"));
        fs::create_dir_all(at("work/deep/inside")).unwrap();

        let surroundings = Surroundings {
            host_dirs: vec![at("host")],
            executable_dir: Some(at("bin")),
            working_dir: Some(at("work/deep/inside")),
            virtual_env: Some(at("venv")),
            system_dirs: vec![at("system"), at("not/there")],
            ..Default::default()
        };
        assert_eq!(found(&surroundings), expected);
        assert_eq!(surroundings.demanded(), None);
    }

    #[test]
    fn the_newest_library_of_a_folder_comes_first_and_links_count_once() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for name in ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.31.1"] {
            touch(&at(name));
        }
        std::os::unix::fs::symlink("libonnxruntime.so.1.31.1", at("libonnxruntime.so")).unwrap();

        let libraries = libraries_in(root.path(), 0);
        assert_eq!(libraries, [at("libonnxruntime.so"), at("libonnxruntime.so.1.9.0")]);
        assert_eq!(version(&at("libonnxruntime.so")).as_deref(), Some("1.31.1"));
    }

    #[test]
    fn libraries_for_other_processors_come_last() {
        let root = tempfile::tempdir().unwrap();
        let at = |folder: &str| root.path().join(folder).join("libonnxruntime.so.1.31.1");
        let (here, elsewhere) =
            if cfg!(target_arch = "aarch64") { ("arm64", "x64") } else { ("x64", "arm64") };
        touch(&at(here));
        touch(&at(elsewhere));
        assert_eq!(libraries_in(root.path(), 1), [at(here), at(elsewhere)]);
    }

    #[test]
    fn a_demanded_path_may_be_a_file_or_a_folder_and_the_option_wins() {
        let root = tempfile::tempdir().unwrap();
        let library = root.path().join("lib/libonnxruntime.so.1.31.1");
        touch(&library);
        for option in [library.clone(), root.path().to_path_buf()] {
            let surroundings = Surroundings {
                option: Some(option),
                variable: Some("/not/there".into()),
                ..Default::default()
            };
            assert_eq!(surroundings.demanded().unwrap().libraries, std::slice::from_ref(&library));
        }
        let surroundings =
            Surroundings { variable: Some("/not/there".into()), ..Default::default() };
        let place = surroundings.demanded().unwrap();
        assert_eq!(place.name, "ORT_DYLIB_PATH /not/there");
        assert!(place.libraries.is_empty());
    }

    #[test]
    fn versions_are_read_from_file_names() {
        let cases = [
            ("libonnxruntime.so.1.17.0", Some("1.17.0")),
            ("libonnxruntime.1.31.1.dylib", Some("1.31.1")),
            ("libonnxruntime.so", None),
            ("libonnxruntime.so.1.x", None),
        ];
        for (name, expected) in cases {
            assert_eq!(version(Path::new(name)).as_deref(), expected);
        }
    }
}

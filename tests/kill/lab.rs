//! Runs a command many times, and breaks it at another system call each time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use safetensors::SafeTensors;
use tempfile::TempDir;

use crate::nets;

/// System calls that change files. Some of them exist on some machines only.
const CALLS: &str = "?write,?pwrite64,?writev,?sendfile,?copy_file_range,?fsync,?fdatasync,?ftruncate,\
    ?rename,?renameat,?renameat2,?link,?linkat,?unlink,?unlinkat,?rmdir,?mkdir,?mkdirat,?fchmod";

/// Those of them that fail on a full disk.
const FILLING: [&str; 7] =
    ["write", "pwrite64", "writev", "sendfile", "copy_file_range", "fsync", "mkdir"];

/// The contents of files by path.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Files that must change in one step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// All files of the command.
    All,
    /// Each file by itself: the user has chosen their places.
    Each,
    /// All files of the command, which replaces none.
    Once,
}

/// Two pairs of nets, `OLD` and `NEW`, each with the input files of commands.
pub struct Lab {
    folder: TempDir,
}

impl Lab {
    pub fn new() -> Self {
        let probe = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
        assert!(
            probe.is_ok_and(|status| status.success()),
            "strace does not work here: install it (scripts/setup.sh does) and allow ptrace"
        );
        let lab = Lab { folder: tempfile::tempdir().unwrap() };
        for (nets, seed) in [("OLD", 1), ("NEW", 3)] {
            let folder = lab.path(nets);
            fs::create_dir(&folder).unwrap();
            nets::write(&folder, seed);
            let [a, b, joint] = ["a", "b", "joint"].map(|name| format!("{nets}/{name}.onnx"));
            let merge = ["merge", &a, &b, "-o", &joint, "--name", "a", "--name", "b", "--runtime"];
            lab.done(&[&merge[..], &["tract", "--samples", "4", "--share", "0.5"]].concat());
            let (data, gram) = (format!("{nets}/x.npy"), format!("{nets}/a.gram"));
            let calibrate = ["calibrate", &a, "--data", &data, "-o", &gram];
            lab.done(&[&calibrate[..], &["--runtime", "tract", "--samples", "4"]].concat());
            let training = format!("{nets}/training");
            lab.done(&exporting(nets, &training));
            let [from, to] =
                ["forward", "trained"].map(|n| folder.join(format!("training/{n}.onnx")));
            fs::copy(from, to).unwrap();
        }
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, tracer: &[String], args: &[impl AsRef<str>]) -> Command {
        let tool = env!("CARGO_BIN_EXE_onnx-zip").to_owned();
        let words: Vec<String> = tracer.iter().cloned().chain([tool]).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args.iter().map(AsRef::as_ref));
        command.arg("--quiet").current_dir(self.folder.path()).stdin(Stdio::null());
        // With one thread, the order of calls is fixed.
        command.env("RAYON_NUM_THREADS", "1").env("OPENBLAS_NUM_THREADS", "1");
        command
    }

    /// Runs the tool, which must succeed.
    fn done(&self, args: &[impl AsRef<str>]) {
        let output = self.command(&[], args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs the tool with one of its calls broken: the `at`-th `call`.
    fn broken(&self, args: &[String], call: &str, at: usize, how: &str) -> Output {
        let inject = format!("inject={call}:{how}:when={at}");
        let trace = format!("trace={call}");
        let tracer = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        self.command(&tracer.map(str::to_owned), args).output().unwrap()
    }

    /// How often the command makes each call.
    fn calls(&self, args: &[String]) -> BTreeMap<String, usize> {
        let log = self.path("log");
        let trace = format!("trace={CALLS}");
        let tracer = ["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", &trace];
        let output = self.command(&tracer.map(str::to_owned), args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut calls = BTreeMap::new();
        for line in fs::read_to_string(&log).unwrap().lines() {
            let call = line.split_whitespace().nth(1).and_then(|rest| rest.split_once('('));
            if let Some((call, _)) = call {
                *calls.entry(call.to_owned()).or_insert(0) += 1;
            }
        }
        fs::remove_file(log).unwrap();
        calls
    }

    /// Breaks the command `new` at each of its calls, working on the files that `old` has left.
    pub fn endure(&self, old: Option<&[String]>, new: &[String], together: Together) {
        if let Some(old) = old {
            self.done(old);
        }
        let before = self.files();
        let calls = self.calls(new);
        let after = self.files();
        assert!(before != after && calls.values().sum::<usize>() > 4, "{calls:?}");
        let whole = |files: &Files| match together {
            Together::All | Together::Once => *files == before || *files == after,
            Together::Each => files.iter().all(|(path, bytes)| {
                let known = [&before, &after].iter().any(|set| set.get(path) == Some(bytes));
                known || is_checkpoint(path, bytes)
            }),
        };
        for (call, count) in &calls {
            for at in 1..=*count {
                let place = format!("{call} {at} of {count}, {new:?}");
                self.restore(&before);
                self.broken(new, call, at, "signal=KILL");
                let mut left = self.files();
                left.retain(|path, _| !is_hidden(path));
                assert!(whole(&left), "killed at {place}: {:?}", left.keys());
                if together == Together::Once && left == after {
                    continue;
                }
                self.done(new);
                let files = self.files();
                assert!(files == after, "run after one killed at {place}: {:?}", files.keys());
                if FILLING.contains(&call.as_str()) {
                    self.restore(&before);
                    let output = self.broken(new, call, at, "error=ENOSPC");
                    let said = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(!said.contains("panicked"), "full disk at {place}: {said}");
                    let files = self.files();
                    assert!(whole(&files), "full disk at {place}: {:?}: {said}", files.keys());
                }
            }
        }
        self.restore(&Files::new());
    }

    /// All files except those of the nets, and all hidden folders.
    fn files(&self) -> Files {
        let mut files = Files::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let below = path.strip_prefix(self.folder.path()).unwrap().to_owned();
                if below == Path::new("OLD") || below == Path::new("NEW") {
                    continue;
                }
                match path.is_dir() {
                    true => {
                        if is_hidden(&below) {
                            files.insert(below, Vec::new());
                        }
                        folders.push(path);
                    }
                    false => {
                        files.insert(below, without_times(fs::read(path).unwrap()));
                    }
                }
            }
        }
        files
    }

    fn restore(&self, files: &Files) {
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("OLD") || path.ends_with("NEW") => {}
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
        for (path, bytes) in files {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

/// The command that exports the nets' joint model for training.
pub fn exporting(nets: &str, folder: &str) -> Vec<String> {
    let [joint, a, b] = ["joint", "a", "b"].map(|name| format!("{nets}/{name}.onnx"));
    let args = ["retrain", &joint, "--teacher", &a, "--teacher", &b, "--data", "OLD/x.npy"];
    let more = ["--export", folder, "--samples", "4", "--runtime", "tract"];
    [&args[..], &more].concat().into_iter().map(str::to_owned).collect()
}

/// Whether a file is a checkpoint, of which a command writes several.
fn is_checkpoint(path: &Path, bytes: &[u8]) -> bool {
    path.extension().is_some_and(|e| e == "ckpt") && SafeTensors::deserialize(bytes).is_ok()
}

/// Whether a path is in a hidden folder of the tool.
fn is_hidden(path: &Path) -> bool {
    path.iter().any(|part| part.to_string_lossy().starts_with(".onnx-zip-"))
}

/// Replaces a report by a placeholder: it holds times, which differ from run to run.
fn without_times(bytes: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(bytes) {
        Ok(text) if text.starts_with("<!DOCTYPE html>") => b"a report".to_vec(),
        Ok(text) => text.into_bytes(),
        Err(e) => e.into_bytes(),
    }
}

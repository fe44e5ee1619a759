//! Runs the tool.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assert_cmd::cargo::CommandCargoExt;
use tempfile::TempDir;

/// A folder for one test, and the tool to run in it.
pub struct Tool {
    folder: TempDir,
}

/// A file of the fixtures.
pub fn fixture(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path);
    path.to_str().unwrap().to_owned()
}

/// LeNet-300-100, trained on MNIST.
pub fn mnist() -> String {
    fixture("models/lenet300_mnist_a.onnx")
}

/// LeNet-300-100, trained on Fashion-MNIST.
pub fn fashion() -> String {
    fixture("models/lenet300_fashion.onnx")
}

/// Training images of MNIST.
pub fn images() -> String {
    fixture("data/mnist_train.npz")
}

/// Training images of Fashion-MNIST.
pub fn fashion_images() -> String {
    fixture("data/fashion_train.npz")
}

impl Tool {
    pub fn new() -> Self {
        Tool { folder: tempfile::tempdir().unwrap() }
    }

    /// A path in the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the test's folder and returns its name.
    pub fn write<'n>(&self, name: &'n str, bytes: &[u8]) -> &'n str {
        std::fs::write(self.path(name), bytes).unwrap();
        name
    }

    /// The command that runs the tool in the test's folder with these arguments.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::cargo_bin("onnx-zip").unwrap();
        command.args(args).current_dir(self.folder.path());
        for variable in ["ORT_DYLIB_PATH", "VIRTUAL_ENV"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs the tool, which must end with `code` and print no panic.
    pub fn run(&self, code: i32, args: &[&str]) -> Output {
        ended(code, &mut self.command(args))
    }

    /// Merges the two LeNet-300-100 on few samples into `joint.onnx`.
    pub fn merge(&self, more: &[&str]) -> Output {
        let (a, b) = (mnist(), fashion());
        let mut args = vec!["merge", &a, &b, "-o", "joint.onnx", "--runtime", "tract"];
        if !more.contains(&"--samples") {
            args.extend(["--samples", "300"]);
        }
        args.extend(more);
        self.run(0, &args)
    }

    /// Runs the tool, which must refuse with one sentence, write no file and not panic. Returns the
    /// sentence.
    pub fn refused(&self, args: &[&str]) -> String {
        refused(&mut self.command(args), self.folder.path())
    }
}

/// Runs a command, which must end with `code` and not panic.
pub fn ended(code: i32, command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let stderr = stderr(&output);
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(output.status.code(), Some(code), "{}\n{stderr}", stdout(&output));
    output
}

/// Runs a command that must refuse with one sentence and leave `folder` as it is.
pub fn refused(command: &mut Command, folder: &Path) -> String {
    let before = files(folder);
    let output = ended(2, command);
    assert_eq!(files(folder), before);
    assert_eq!(stdout(&output), "");
    let stderr = stderr(&output);
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors.as_slice() else { panic!("not one error: {stderr}") };
    (*error).to_owned()
}

/// What a command wrote to standard output.
pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a command wrote to standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The files of a folder with their sizes.
pub fn files(folder: &Path) -> Vec<(String, u64)> {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
    };
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(entry).collect();
    files.sort();
    files
}

use std::io::Write;

use super::*;
use crate::progress::Silent;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[cfg(unix)]
#[test]
fn all_files_have_the_permissions_of_ordinary_ones() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("ordinary"), "x").unwrap();
    let mut stage = Stage::new(&Silent);
    stage.write(&path("a"), |out| out.write_all(b"ab")).unwrap();
    // A writer that has its own private temporary file.
    let replace = |at: &Path| -> io::Result<()> {
        let mut own = tempfile::NamedTempFile::new_in(folder_of(at))?;
        own.write_all(b"cde")?;
        own.persist(at)?;
        Ok(())
    };
    stage.write_by_path(&path("b"), replace).unwrap();
    assert_eq!(stage.commit().unwrap(), 5);
    let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode();
    assert_eq!([mode("a"), mode("b")], [mode("ordinary"); 2]);
    assert_eq!(fs::read(path("b")).unwrap(), b"cde");
    assert_eq!(names(folder.path()), ["a", "b", "ordinary"]);
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(&Silent);
    let refuse = |_: &Path| Err(io::Error::other("no"));
    assert!(stage.write_by_path(&folder.path().join("a"), refuse).is_err());
    drop(stage);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn files_that_cannot_all_be_put_into_place_stay_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("old"), "old").unwrap();
    let mut stage = Stage::new(&Silent);
    for name in ["old", "new", "taken"] {
        stage.write(&path(name), |out| out.write_all(b"x")).unwrap();
    }
    fs::create_dir(path("taken")).unwrap();
    assert_eq!(stage.commit().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(fs::read(path("old")).unwrap(), b"old");
    assert_eq!(names(folder.path()), ["old", "taken"]);
}

#[test]
fn no_file_is_written_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(&Silent);
    let path = folder.path().join("a");
    stage.write(&path, |out| out.write_all(b"x")).unwrap();
    let error = stage.write(&path, |out| out.write_all(b"y")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[cfg(unix)]
#[test]
fn links_stay_links() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("far")).unwrap();
    fs::write(path("far/real"), "old").unwrap();
    for (link, to) in [("link", "far/real"), ("dangling", "far/new")] {
        std::os::unix::fs::symlink(to, path(link)).unwrap();
        let mut stage = Stage::new(&Silent);
        stage.write(&path(link), |out| out.write_all(b"new")).unwrap();
        stage.commit().unwrap();
        assert!(fs::symlink_metadata(path(link)).unwrap().is_symlink());
        assert_eq!(fs::read(path(to)).unwrap(), b"new");
    }
    assert_eq!(names(&path("far")), ["new", "real"]);
}

#[test]
fn made_folders_that_stay_empty_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("old")).unwrap();
    let made = ["old", "new/inner", "used"].map(|name| MadeFolder::at(&path(name)).unwrap());
    assert!(path("new/inner").is_dir());
    fs::write(path("used/file"), "x").unwrap();
    drop(made);
    assert_eq!(names(folder.path()), ["old", "used"]);
}

#[test]
fn what_is_no_folder_takes_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("file"), "x").unwrap();
    let mut refused = vec![path("file")];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", path("dangling")).unwrap();
        refused.push(path("dangling"));
    }
    for target in refused {
        let error = MadeFolder::at(&target).map(drop).unwrap_err().to_string();
        assert!(error.starts_with("cannot write '"), "{error}");
        assert!(error.ends_with("; name a folder"), "{error}");
    }
}

#[test]
fn the_remedy_is_that_of_the_cause() {
    let of = |kind: io::ErrorKind| remedy(&kind.into());
    assert!(of(io::ErrorKind::PermissionDenied).contains("that you may write to"));
    assert!(of(io::ErrorKind::StorageFull).contains("make room"));
    assert!(of(io::ErrorKind::FileTooLarge).contains("ulimit -f"));
    if cfg!(target_os = "linux") {
        assert!(remedy(&io::Error::from_raw_os_error(24)).contains("ulimit -n"));
    }
}

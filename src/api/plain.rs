//! Commands that change one model do not take joint models.

use crate::emit;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::Model;

/// Refuses a joint model, with or without its recipe, to which `fault` would be done. Its recipe holds the tasks'
/// nets and the places of their weights, and both would no longer fit.
///
/// # Errors
/// [`ErrorKind::Usage`] with the next step `hint`.
pub(super) fn check_plain(model: &Model, fault: &str, hint: &str) -> Result<()> {
    if !emit::is_emitted(model) {
        return Ok(());
    }
    let message = format!("{fault}, since its tasks could not be recovered afterwards");
    Err(Error::new(ErrorKind::Usage, message).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::{FORM_KEY, RECIPE_KEY};

    #[test]
    fn joint_models_are_refused_with_and_without_a_recipe() {
        let check = |model: &Model| check_plain(model, "it cannot be changed", "change others");
        let marked = |keys: &[&str]| {
            let metadata = keys.iter().map(|key| ((*key).to_owned(), String::new())).collect();
            Model { metadata, ..Model::default() }
        };
        assert!(check(&marked(&[])).is_ok() && check(&marked(&["other"])).is_ok());
        for keys in [&[FORM_KEY][..], &[RECIPE_KEY], &[FORM_KEY, RECIPE_KEY]] {
            let error = check(&marked(keys)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().ends_with("recovered afterwards; change others"), "{error}");
        }
    }
}

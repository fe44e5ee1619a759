//! The reasons why a plan or a merge shares no layer, or fewer than it could.

use super::Structure;
use crate::error::Hint;
use crate::naming::shown;

/// The reason why no layer is shared, as a clause; `None` if any layer is shared. `sites` has the name of
/// each corresponding layer, and the reason why it is not shared.
pub(crate) fn apart<'a>(
    structure: &Structure,
    sites: impl Iterator<Item = (Option<&'a String>, Option<&'a String>)>,
) -> Option<String> {
    let reasons: Option<Vec<(&str, &str)>> = sites
        .map(|(name, reason)| Some((name.map_or("", String::as_str), reason?.as_str())))
        .collect();
    let why = match (reasons?.first(), structure.divergences.iter().flatten().next()) {
        (Some((layer, reason)), _) => {
            format!(", from the first one on ('{}': {reason})", shown(layer))
        }
        (None, Some(first)) => format!(
            ": the models first differ at '{}' against '{}' ({})",
            shown(first.a.as_deref().unwrap_or("the end")),
            shown(first.b.as_deref().unwrap_or("the end")),
            first.difference,
        ),
        (None, None) => ": there are no layers with weights".to_owned(),
    };
    Some(format!("no layer is shared{why}; weights that are equal bit for bit are stored once"))
}

/// The option that shares layers whose inputs are model outputs, too, as in encoders; `None` if there are
/// none. `reasons` has the reason why each corresponding layer is not shared.
pub(crate) fn at_outputs<'a>(reasons: impl Iterator<Item = Option<&'a String>>) -> Option<Hint> {
    let is_behind = |reason: &&String| reason.starts_with("no input is shared: a model output");
    let count = reasons.flatten().filter(is_behind).count();
    (count > 0).then(|| {
        let layers =
            if count == 1 { "1 layer reads".into() } else { format!("{count} layers read") };
        Hint::from(format!("{layers} channels that are model outputs, too, and are not shared; "))
            .option("share-outputs")
            .then(" shares them, and the outputs keep their order")
    })
}

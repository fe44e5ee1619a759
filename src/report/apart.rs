//! The reason why a plan or a merge shares no layer.

use super::Structure;
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

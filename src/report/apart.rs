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

/// The option that shares layers that read or make channels of model outputs; `None` if no layer reads such channels,
/// as those of encoders do. `reasons` has the reason why each corresponding layer is not shared.
pub(crate) fn at_outputs<'a>(reasons: impl Iterator<Item = Option<&'a String>>) -> Option<Hint> {
    const MADE: &str = "a model output";
    let is_read = |reason: &str| {
        reason.strip_prefix("no input is shared: ").is_some_and(|why| why.starts_with(MADE))
    };
    let (mut read, mut made) = (0, 0);
    for reason in reasons.flatten() {
        read += usize::from(is_read(reason));
        made += usize::from(reason.starts_with(MADE));
    }
    (read > 0).then(|| {
        let layers = match read + made {
            1 => "1 layer reads or makes".to_owned(),
            count => format!("{count} layers read or make"),
        };
        Hint::from(format!("{layers} channels that are model outputs, too, and are not shared; "))
            .option("share-outputs")
            .then(" shares them, and the outputs keep their order")
    })
}

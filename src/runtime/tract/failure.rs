//! Errors of tract as one sentence. They name the node and its operator first, but may go on with a dump of
//! a whole graph.

use tract_core::prelude::TractError;

use super::super::remedy::next_step;
use crate::error::{Error, ErrorKind};

/// Characters that are shown.
const ENOUGH: usize = 400;

/// Converts an error of tract.
pub(super) fn failed(error: TractError) -> Error {
    let causes = error.chain().map(|cause| plain(&cause.to_string()));
    let causes: Vec<String> = causes.filter(|cause| !cause.is_empty()).collect();
    let text = match causes.is_empty() {
        true => "it gives no reason".to_owned(),
        false => causes.join(": "),
    };
    let hint = next_step(&text, "ort");
    let short: String = text.chars().take(ENOUGH).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    Error::new(ErrorKind::Backend, format!("tract: {short}{more}")).hint(hint)
}

/// The first line of a message, up to the first structure in the form of `Name { field: … }`.
fn plain(message: &str) -> String {
    let line = message.trim_start().lines().next().unwrap_or_default();
    let said = match line.split_once(" {") {
        Some((before, _)) => before.rsplit_once(' ').map_or("", |(said, _)| said),
        None => line,
    };
    let words: Vec<&str> = said.split_whitespace().collect();
    words.join(" ").trim_end_matches(['.', ':', ',']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(messages: &[&str]) -> String {
        let mut messages = messages.iter().rev().map(|message| (*message).to_owned());
        let first = TractError::msg(messages.next().unwrap());
        failed(messages.fold(first, TractError::context)).fault().to_string()
    }

    #[test]
    fn an_error_of_a_runtime_holds_no_dump() {
        let dump = "Cannot replace 8,16,F32 by 8,1,F32 as output #0 of #7 \"conv\" EinSum.\n\
                    ModelPatch { context: [] }";
        let dumped = dump.replace('\n', " ");
        let wanted = "tract: running pass declutter: Cannot replace 8,16,F32 by 8,1,F32 as output #0 of \
                      #7 \"conv\" EinSum";
        for dump in [dump, &dumped] {
            assert_eq!(text(&["running pass declutter", dump]), wanted);
        }
        assert_eq!(text(&["Graph { nodes: [] }"]), "tract: it gives no reason");
    }

    #[test]
    fn an_error_of_a_runtime_is_short() {
        let long = "node ".repeat(1000);
        assert!(text(&[&long]).chars().count() < 420);
    }
}

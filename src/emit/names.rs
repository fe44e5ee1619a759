//! Shortens names of nodes.

/// Drops the segments of a name that the next segment begins with. Exporters write the path of a module
/// as `/features/features.2/features.2.0/Conv`, which becomes `features.2.0/Conv`.
pub(super) fn short(name: &str) -> String {
    let segments: Vec<&str> = name.split('/').filter(|segment| !segment.is_empty()).collect();
    let next = segments.iter().skip(1).map(Some).chain([None]);
    let kept = segments.iter().zip(next).filter(|(segment, next)| {
        let goes_on = |next: &&&str| {
            next.strip_prefix(**segment)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        next.as_ref().is_none_or(|next| !goes_on(next))
    });
    let kept: Vec<&str> = kept.map(|(segment, _)| *segment).collect();
    if kept.is_empty() { name.to_owned() } else { kept.join("/") }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn repeated_segments_are_left_out() {
        for (name, expected) in [
            ("/features/features.2/features.2.0/features.2.0.0/Conv", "features.2.0.0/Conv"),
            ("/layer1/layer1.0/conv1/Conv_output_0", "layer1.0/conv1/Conv_output_0"),
            ("conv/conv", "conv"),
            ("conv/conv1", "conv/conv1"),
            ("fc1.weight", "fc1.weight"),
            ("/", "/"),
            ("", ""),
        ] {
            assert_eq!(short(name), expected);
        }
    }
}

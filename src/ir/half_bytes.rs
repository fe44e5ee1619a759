//! Integers of four bits, two in each byte. The first is in the lower half.

/// Packs integers; `None` if one of them is out of range.
pub(super) fn packed(signed: bool, values: impl Iterator<Item = i64>) -> Option<Vec<u8>> {
    let range = if signed { -8..8 } else { 0..16 };
    let halves: Vec<u8> =
        values.map(|v| range.contains(&v).then_some((v & 15) as u8)).collect::<Option<_>>()?;
    let byte = |pair: &[u8]| match pair {
        [low, high] => low | (high << 4),
        _ => pair.first().copied().unwrap_or(0),
    };
    Some(halves.chunks(2).map(byte).collect())
}

/// Unpacks `count` integers; `None` if there are fewer.
pub(super) fn unpacked(signed: bool, bytes: &[u8], count: usize) -> Option<Vec<i64>> {
    let value = |half: u8| match signed && half > 7 {
        true => i64::from(half) - 16,
        false => i64::from(half),
    };
    let halves = bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]);
    let values: Vec<i64> = halves.take(count).map(value).collect();
    (values.len() == count).then_some(values)
}

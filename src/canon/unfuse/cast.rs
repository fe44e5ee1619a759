//! Casts to the type of another value.

use crate::ir::{Attribute, ValueId};

use super::{Site, types};

/// A cast to a type by its number.
pub(super) fn like(site: &mut Site<'_>) -> Option<ValueId> {
    let to = types::of(site.graph, site.input(1)?)?.dtype.code();
    let mut attributes = site.attributes_but(&[]);
    attributes.insert("to".to_owned(), Attribute::Int(i64::from(to)));
    let input = site.input(0)?;
    Some(site.add("Cast", &[Some(input)], attributes))
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::DataType;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn casts_to_the_type_of_another_value_name_their_type_or_vanish() {
        for dtype in [DataType::F32, DataType::F64] {
            let mut b = GraphBuilder::new("net", 17);
            let (x, like) = (b.input("x", "n,4"), b.typed_input("like", dtype, "n,4"));
            let cast = b.op("CastLike", "cast", &[x, like], []);
            let y = b.op("Add", "y", &[cast, like], []);
            let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
            let found: Vec<&str> = model.graph.nodes().map(|(_, node)| node.op.as_str()).collect();
            assert!(!found.contains(&"CastLike"), "{found:?}");
            assert_eq!(found.contains(&"Cast"), dtype == DataType::F64, "{found:?}");
        }
    }
}

//! Imports trained weights into the joint model.

use super::forward::{plain, trainable};
use crate::emit::{emit_like, restore};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Model, Tensor, ValueId};
use crate::verify::DEVIATION_KEY;

/// The joint model with the weights of `trained`. Form, inputs, recipe and other metadata stay.
///
/// Weights are found by their names in the form `heads`; other contents of `trained` are ignored.
///
/// # Errors
/// [`ErrorKind::Format`] for what is not a joint model, or weights that are missing or of another type
/// or shape; [`ErrorKind::Numeric`] for weights that are not finite.
pub fn trained(joint: &Model, trained: &Model) -> Result<Model> {
    let plan = restore(joint)?;
    let mut heads = plain(&plan)?;
    for id in trainable(&heads.graph) {
        let tensor = weight(&heads, id, trained).in_model(&trained.name)?;
        heads.graph.set_initializer(id, tensor);
    }
    let plan = restore(&heads)?;
    let mut model = emit_like(&plan, joint)?;
    // Measurements of the old weights.
    model.metadata.remove(DEVIATION_KEY);
    model.name.clone_from(&joint.name);
    Ok(model)
}

/// The trained tensor for an initializer.
fn weight(heads: &Model, id: ValueId, trained: &Model) -> Result<Tensor> {
    let name = &heads.graph.value(id).name;
    let found = trained.graph.value_named(name).and_then(|v| trained.graph.initializer(v));
    let Some(found) = found else {
        return Err(Error::new(ErrorKind::Format, format!("initializer '{name}' is missing"))
            .hint("import the model that was trained from this joint model"));
    };
    let expected = heads.graph.initializer(id);
    if expected.is_none_or(|own| (own.dtype, &own.dims) != (found.dtype, &found.dims)) {
        let shape = format!("{:?}", expected.map(|own| own.dims.as_slice()).unwrap_or_default());
        let message = format!("initializer '{name}' has the shape {:?}, not {shape}", found.dims);
        return Err(Error::new(ErrorKind::Format, message)
            .hint("import the model that was trained from this joint model"));
    }
    if found.to_f32()?.iter().any(|v| !v.is_finite()) {
        let message = format!("initializer '{name}' is not finite");
        return Err(Error::new(ErrorKind::Numeric, message)
            .hint("train again with a smaller learning rate"));
    }
    Ok(found.clone())
}

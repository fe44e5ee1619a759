//! The values that hold a layer's inputs and pre-activations, and rows of them.

use std::sync::Arc;

use ndarray::{Array3, ArrayViewD, CowArray, IxDyn};

use super::im2col::{Positions, Rows};
use super::recurrent;
use super::window::Window;
use crate::couple::CoupledLayer;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Model, ValueId};
use crate::ops::{ConvGeometry, LayerKind, Pads};
use crate::runtime::HostArray;

/// A layer's inputs or pre-activations.
pub(super) type View<'x> = ArrayViewD<'x, f32>;

/// Whether a layer is a gate of a recurrent one.
pub(super) fn is_gate(layer: &CoupledLayer) -> bool {
    matches!(layer.layer.kind, LayerKind::Gate(_))
}

/// The values to probe for a layer's rows.
pub(super) fn input_taps(layer: &CoupledLayer, model: &Model) -> Vec<ValueId> {
    match &layer.layer.kind {
        LayerKind::Gate(gate) => recurrent::taps(&layer.layer, gate, &model.graph),
        _ => vec![layer.layer.input],
    }
}

/// The values to probe for a layer's pre-activations. The net has no value for those of a gate.
pub(super) fn target_taps(layer: &CoupledLayer, model: &Model) -> Vec<ValueId> {
    match is_gate(layer) {
        true => input_taps(layer, model),
        false => vec![layer.layer.output],
    }
}

/// A layer's inputs, from its probed values.
pub(super) fn activations<'x>(
    layer: &CoupledLayer,
    model: &Model,
    taps: &'x [Arc<HostArray>],
) -> Result<CowArray<'x, f32, IxDyn>> {
    match gate_rows(layer, model, taps)? {
        Some(rows) => Ok(rows.into_dyn().into()),
        None => floats(tapped(taps)?),
    }
}

/// A layer's pre-activations, from its probed values.
pub(super) fn pre_activations<'x>(
    layer: &CoupledLayer,
    model: &Model,
    taps: &'x [Arc<HostArray>],
) -> Result<CowArray<'x, f32, IxDyn>> {
    match gate_rows(layer, model, taps)? {
        Some(rows) => {
            Ok(recurrent::pre_activations(&layer.layer, &model.graph, &rows)?.into_dyn().into())
        }
        None => floats(tapped(taps)?),
    }
}

/// The rows of a gate; `None` for other layers.
fn gate_rows(
    layer: &CoupledLayer,
    model: &Model,
    taps: &[Arc<HostArray>],
) -> Result<Option<Array3<f32>>> {
    match &layer.layer.kind {
        LayerKind::Gate(gate) => recurrent::rows(&layer.layer, gate, &model.graph, taps).map(Some),
        _ => Ok(None),
    }
}

/// The only probed value.
fn tapped(taps: &[Arc<HostArray>]) -> Result<&HostArray> {
    match taps {
        [tap] => Ok(tap),
        _ => Err(Error::new(ErrorKind::Backend, "the runtime did not compute a layer's input")),
    }
}

/// The elements as floats, copied only if they have another type.
fn floats(array: &HostArray) -> Result<CowArray<'_, f32, IxDyn>> {
    match array.f32_view() {
        Some(view) => Ok(view.into()),
        None => array.as_f32().map(CowArray::from),
    }
}

/// The side of a layer that rows belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Input,
    Output,
}

/// The rows of a layer's inputs, or of its pre-activations.
pub(super) fn rows_of<'x>(
    end: End,
    kind: &LayerKind,
    values: ArrayViewD<'x, f32>,
    positions: Positions,
) -> Result<Rows<'x>> {
    let channels = 0..values.shape().get(1).copied().unwrap_or(0);
    match (kind, end) {
        (LayerKind::Gemm | LayerKind::MatMul | LayerKind::Gate(_) | LayerKind::Table { .. }, _) => {
            Rows::features(values, positions)
        }
        (_, End::Output) => Rows::channels(values, channels, positions),
        (LayerKind::Conv(g), End::Input) => Rows::patches(values, &window(g)?, channels, positions),
        (LayerKind::ConvTranspose(g), End::Input) => {
            let window = window(g)?.transposed(&g.output_padding)?;
            Rows::patches(values, &window, channels, positions)
        }
    }
}

fn window(geometry: &ConvGeometry) -> Result<Window> {
    let ConvGeometry { kernel, strides, dilations, .. } = geometry;
    let window = |pads: &[usize]| Window::new(kernel, strides, dilations, pads);
    match &geometry.pads {
        Pads::Same { lower } => Ok(window(&vec![0; 2 * kernel.len()])?.same(*lower)),
        Pads::Fixed(pads) => {
            let (begins, ends) = (pads.iter().map(|pad| pad.0), pads.iter().map(|pad| pad.1));
            window(&begins.chain(ends).collect::<Vec<_>>())
        }
    }
}

//! The movement of a convolution's kernel over its input, or of a transposed one over its output.

use rayon::prelude::*;

use crate::error::{Error, ErrorKind, Result};
use crate::ops::same_pads;

/// A source in the padding: outside of every plane.
const PADDING: usize = usize::MAX;

/// The movement of a convolution's kernel over the spatial axes, in the terms of ONNX `Conv`; see
/// [`Window::transposed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub(super) axes: Vec<WindowAxis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowAxis {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    pub(super) pads: AxisPads,
    /// Positions added at the end of a transposed convolution's output; `None` for a convolution.
    pub(super) transposed: Option<usize>,
}

/// Padding of one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AxisPads {
    Fixed {
        begin: usize,
        end: usize,
    },
    /// As by [`same_pads`].
    Same {
        lower: bool,
    },
}

impl WindowAxis {
    /// Positions that the kernel spans.
    fn reach(&self) -> Option<usize> {
        self.dilation.checked_mul(self.kernel - 1)?.checked_add(1)
    }

    /// Positions before and after an axis of `input` positions.
    pub(super) fn pads(&self, input: usize) -> Option<(usize, usize)> {
        match self.pads {
            AxisPads::Fixed { begin, end } => Some((begin, end)),
            AxisPads::Same { lower } => same_pads(Some(input), self.reach()?, self.stride, lower),
        }
    }

    fn output(&self, input: usize) -> Option<usize> {
        let reach = self.reach()?;
        let (begin, end) = self.pads(input)?;
        if let Some(more) = self.transposed {
            let spread = input.checked_sub(1)?.checked_mul(self.stride)?.checked_add(reach)?;
            return spread.checked_add(more)?.checked_sub(begin.checked_add(end)?);
        }
        let padded = input.checked_add(begin)?.checked_add(end)?;
        Some(padded.checked_sub(reach)? / self.stride + 1)
    }

    /// The input position that tap `tap` of output position `at` reads; `None` in the padding.
    fn source(&self, at: usize, tap: usize, input: usize) -> Option<usize> {
        let (begin, _) = self.pads(input)?;
        let source = match self.transposed {
            None => (at * self.stride + tap * self.dilation).checked_sub(begin)?,
            // Input i reaches the outputs i · stride + tap · dilation − begin.
            Some(_) => {
                let spread = (at + begin).checked_sub(tap * self.dilation)?;
                (spread % self.stride == 0).then_some(spread / self.stride)?
            }
        };
        (source < input).then_some(source)
    }
}

impl Window {
    /// A window with one entry per spatial axis in each argument; `pads` holds all begins, then all
    /// ends, as in ONNX.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where the lengths differ, or a kernel, stride or dilation is zero.
    pub fn new(
        kernel: &[usize],
        strides: &[usize],
        dilations: &[usize],
        pads: &[usize],
    ) -> Result<Self> {
        let rank = kernel.len();
        if strides.len() != rank || dilations.len() != rank || pads.len() != 2 * rank {
            return Err(Error::new(
                ErrorKind::Format,
                format!("strides, dilations or pads do not have the kernel's {rank} spatial axes"),
            ));
        }
        if kernel.iter().chain(strides).chain(dilations).any(|v| *v == 0) {
            return Err(Error::new(ErrorKind::Format, "a kernel size, stride or dilation is zero"));
        }
        let (begins, ends) = pads.split_at(rank);
        let sizes = kernel.iter().zip(strides).zip(dilations).zip(begins.iter().zip(ends));
        let axes = sizes.map(|(((&kernel, &stride), &dilation), (&begin, &end))| WindowAxis {
            kernel,
            stride,
            dilation,
            pads: AxisPads::Fixed { begin, end },
            transposed: None,
        });
        Ok(Window { axes: axes.collect() })
    }

    /// The window with padding by `auto_pad` in place of its own: `SAME_LOWER` if `lower`, else `SAME_UPPER`.
    pub fn same(mut self, lower: bool) -> Self {
        self.axes.iter_mut().for_each(|axis| axis.pads = AxisPads::Same { lower });
        self
    }

    /// The window of a transposed convolution, in the terms of ONNX `ConvTranspose`, with
    /// `output_padding` positions added at the end of the output's axes.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where the lengths differ.
    pub fn transposed(mut self, output_padding: &[usize]) -> Result<Self> {
        if output_padding.len() != self.axes.len() {
            let message = "an output padding does not have the kernel's spatial axes";
            return Err(Error::new(ErrorKind::Format, message));
        }
        let axes = self.axes.iter_mut().zip(output_padding);
        axes.for_each(|(axis, more)| axis.transposed = Some(*more));
        Ok(self)
    }

    /// The window that covers one position.
    pub fn pointwise(rank: usize) -> Self {
        let (kernel, stride, dilation) = (1, 1, 1);
        let pads = AxisPads::Fixed { begin: 0, end: 0 };
        let axis = WindowAxis { kernel, stride, dilation, pads, transposed: None };
        Window { axes: vec![axis; rank] }
    }

    /// Number of positions under the kernel.
    pub fn taps(&self) -> usize {
        self.axes.iter().map(|axis| axis.kernel).product()
    }

    /// Spatial sizes of the output for spatial sizes of the input.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where the input has another rank or is smaller than the kernel.
    pub fn output(&self, input: &[usize]) -> Result<Vec<usize>> {
        let sizes = self.axes.iter().zip(input).map(|(axis, size)| axis.output(*size));
        let sizes: Option<Vec<usize>> = sizes.collect();
        sizes.filter(|_| self.axes.len() == input.len()).ok_or_else(|| {
            Error::new(
                ErrorKind::Calibration,
                format!("the kernel does not fit an input with spatial sizes {input:?}"),
            )
        })
    }

    /// For each output position (outermost) and each tap, the offset that it reads inside a channel's
    /// plane. Offsets outside the plane are padding.
    ///
    /// # Errors
    /// As [`Window::output`].
    pub(super) fn sources(&self, input: &[usize]) -> Result<Vec<usize>> {
        let output = self.output(input)?;
        let positions = (0..output.iter().product()).into_par_iter();
        Ok(positions.flat_map_iter(|at| self.sources_at(input, &output, at)).collect())
    }

    fn sources_at(&self, input: &[usize], output: &[usize], mut position: usize) -> Vec<usize> {
        let mut sources = vec![0];
        let mut stride = 1;
        for (axis, (&input, &output)) in self.axes.iter().zip(input.iter().zip(output)).rev() {
            let at = position % output;
            position /= output;
            let outer = (0..axis.kernel).flat_map(|tap| {
                let offset = axis.source(at, tap, input).map(|source| source * stride);
                sources.iter().map(move |inner| match offset {
                    Some(offset) if *inner != PADDING => offset + inner,
                    _ => PADDING,
                })
            });
            sources = outer.collect();
            stride *= input;
        }
        sources
    }
}

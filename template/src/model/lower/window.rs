//! How a window moves over the spatial axes, for convolutions and pools alike:
//! `https://onnx.ai/onnx/operators/onnx__Conv.html`, `https://onnx.ai/onnx/operators/onnx__MaxPool.html`.

use std::ops::Range;

use anyhow::{Context as _, Result, ensure};

use super::Node;
use crate::model::tensor::{MAX_ELEMENTS, dim};

/// What a node's attributes say of its window.
#[derive(Debug, Clone)]
pub(in crate::model) struct Window {
    kernel: Option<Vec<usize>>,
    strides: Option<Vec<usize>>,
    dilations: Option<Vec<usize>>,
    padding: Padding,
    /// Windows that reach past the end count too.
    ceil: bool,
}

#[derive(Debug, Clone)]
enum Padding {
    /// So many before each axis, then so many after each.
    Explicit(Option<Vec<usize>>),
    /// As many as make the output ⌈input / stride⌉ long; the odd one after, or before.
    Same { odd_before: bool },
}

/// One spatial axis: output `o` sees the inputs `o · stride + tap · dilation − before`.
#[derive(Debug, Clone)]
pub(in crate::model) struct Axis {
    pub input: usize,
    pub output: usize,
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    pub before: i64,
    pub after: i64,
}

impl Window {
    pub fn of(node: &Node) -> Result<Self> {
        let sizes = |name: &str, least: usize| -> Result<Option<Vec<usize>>> {
            let Some(sizes) = node.ints(name)? else { return Ok(None) };
            let sizes = sizes.iter().map(|size| dim(*size)).collect::<Result<Vec<_>>>()?;
            let fits = sizes.iter().all(|size| (least..=MAX_ELEMENTS).contains(size));
            ensure!(fits, "its attribute {name:?} is {sizes:?}");
            Ok(Some(sizes))
        };
        let padding = match node.text_or("auto_pad", "NOTSET")? {
            "SAME_UPPER" => Padding::Same { odd_before: false },
            "SAME_LOWER" => Padding::Same { odd_before: true },
            "VALID" => Padding::Explicit(None),
            "NOTSET" | "" => Padding::Explicit(sizes("pads", 0)?),
            other => anyhow::bail!("its attribute \"auto_pad\" is {other:?}, which is not known"),
        };
        Ok(Self {
            kernel: sizes("kernel_shape", 1)?,
            strides: sizes("strides", 1)?,
            dilations: sizes("dilations", 1)?,
            padding,
            ceil: node.flag("ceil_mode", false)?,
        })
    }

    /// The attribute that pools cannot do without.
    pub fn kernel(&self) -> Result<&[usize]> {
        self.kernel.as_deref().context("its attribute \"kernel_shape\" is missing")
    }

    /// The axes of an input with these sizes under a kernel of these.
    pub fn axes(&self, input: &[usize], kernel: &[usize]) -> Result<Vec<Axis>> {
        self.check(input, kernel)?;
        (0..input.len()).map(|at| self.axis(at, input[at], kernel[at])).collect()
    }

    /// The axes of a transposed convolution, whose roles are exchanged: `input` is what it makes. `sizes` states that,
    /// `extra` makes it longer.
    pub fn transposed_axes(
        &self,
        given: &[usize],
        kernel: &[usize],
        extra: &[usize],
        sizes: Option<&[usize]>,
    ) -> Result<Vec<Axis>> {
        self.check(given, kernel)?;
        (0..given.len())
            .map(|at| {
                let (stride, dilation) = (nth(&self.strides, at), nth(&self.dilations, at));
                ensure!(given[at] > 0 && kernel[at] > 0, "axis {at} of its input or its kernel is empty");
                let reach = (stride * (given[at] - 1) + extra[at] + (kernel[at] - 1) * dilation + 1) as i64;
                let size = sizes.map(|sizes| sizes[at]);
                let (before, after) = match (&self.padding, size) {
                    (Padding::Explicit(_), None) => self.explicit(at),
                    (padding, size) => {
                        let odd_before = !matches!(padding, Padding::Same { odd_before: false });
                        let total = reach - size.unwrap_or(given[at] * stride) as i64;
                        halves(total, odd_before)
                    }
                };
                let input = dim(reach - before - after)?;
                ensure!(input <= MAX_ELEMENTS, "axis {at} of its output would be {input} long");
                Ok(Axis { input, output: given[at], kernel: kernel[at], stride, dilation, before, after })
            })
            .collect()
    }

    fn check(&self, input: &[usize], kernel: &[usize]) -> Result<()> {
        let stated = self.kernel.as_deref().unwrap_or(kernel);
        ensure!(stated == kernel, "its attribute \"kernel_shape\" is {stated:?}, its kernel {kernel:?}");
        let lengths = [Some(kernel.len()), self.strides.as_ref().map(Vec::len), self.dilations.as_ref().map(Vec::len)];
        let fits = lengths.iter().flatten().all(|length| *length == input.len());
        let pads = match &self.padding {
            Padding::Explicit(Some(pads)) => pads.len() == 2 * input.len(),
            _ => true,
        };
        ensure!(fits && pads, "its window is not one for {} spatial axes", input.len());
        Ok(())
    }

    fn explicit(&self, at: usize) -> (i64, i64) {
        match &self.padding {
            Padding::Explicit(Some(pads)) => (pads[at] as i64, pads[at + pads.len() / 2] as i64),
            _ => (0, 0),
        }
    }

    fn axis(&self, at: usize, input: usize, kernel: usize) -> Result<Axis> {
        let (stride, dilation) = (nth(&self.strides, at), nth(&self.dilations, at));
        ensure!(kernel > 0, "axis {at} of its kernel is empty");
        let extent = ((kernel - 1) * dilation + 1) as i64;
        let (before, after) = match self.padding {
            Padding::Explicit(_) => self.explicit(at),
            Padding::Same { odd_before } => {
                let outputs = input.div_ceil(stride) as i64;
                halves(((outputs - 1) * stride as i64 + extent - input as i64).max(0), odd_before)
            }
        };
        let padded = input as i64 + before + after;
        ensure!(
            extent <= padded && padded <= MAX_ELEMENTS as i64,
            "its window of {extent} does not fit axis {at} of length {input}, padded to {padded}"
        );
        let room = (padded - extent) as usize;
        let mut output = room / stride + 1;
        // One more that reaches past the end, unless it begins there.
        if self.ceil && !room.is_multiple_of(stride) && (output * stride) as i64 - before < input as i64 {
            output += 1;
        }
        Ok(Axis { input, output, kernel, stride, dilation, before, after })
    }
}

fn nth(sizes: &Option<Vec<usize>>, at: usize) -> usize {
    sizes.as_ref().map_or(1, |sizes| sizes[at])
}

/// A padding in two, before and after.
fn halves(total: i64, odd_before: bool) -> (i64, i64) {
    let small = total.div_euclid(2);
    if odd_before { (total - small, small) } else { (small, total - small) }
}

impl Axis {
    /// The outputs that see an input through this tap, and not padding.
    pub fn inside(&self, tap: usize) -> Range<usize> {
        let stride = self.stride as i64;
        let first = self.before - (tap * self.dilation) as i64;
        let up = |from: i64| (from.max(0) + stride - 1) / stride;
        let (start, end) = (up(first) as usize, up(first + self.input as i64) as usize);
        start.min(self.output)..end.min(self.output).max(start.min(self.output))
    }

    /// The input that an output sees through a tap; only for outputs that are inside.
    pub fn place(&self, output: usize, tap: usize) -> usize {
        ((output * self.stride + tap * self.dilation) as i64 - self.before) as usize
    }

    /// How many inputs an output sees, with those of the padding or without.
    pub fn seen(&self, output: usize, padding: bool) -> usize {
        let start = (output * self.stride) as i64 - self.before;
        let (low, high) = if padding { (-self.before, self.input as i64 + self.after) } else { (0, self.input as i64) };
        let taps = (0..self.kernel).map(|tap| start + (tap * self.dilation) as i64);
        taps.filter(|place| (low..high).contains(place)).count()
    }
}

/// How many outputs there are, over all axes.
pub(super) fn outputs(axes: &[Axis]) -> Vec<usize> {
    axes.iter().map(|axis| axis.output).collect()
}

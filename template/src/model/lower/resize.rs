//! Other sizes of the same picture: `https://onnx.ai/onnx/operators/onnx__Resize.html`, `onnx__Upsample.html`.
//!
//! Each axis is resized by itself: an output place lies at a point between input places, and is a weighted sum of those
//! around it.

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{Tensor, WithDType as _};

use super::{Family, Kernel, Node, kernel};
use crate::model::tensor::{axes_in_order, bounded, dim, each_float, floats, take, tensor, with_elements};

pub(super) const OPS: Family = &[("Resize", resize), ("Upsample", upsample)];

/// Where an output place lies.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    CropAndResize,
}

/// Which of two neighbours is the nearest.
#[derive(Debug, Clone, Copy)]
enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
    /// What Resize of opset 10 does, whose page does not say: the higher one of a picture that shrinks, else the lower one.
    Opset10,
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    Nearest(Nearest),
    Linear,
    /// With its coefficient a.
    Cubic(f64),
}

/// Which size wins where both axes keep their proportion.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Proportion {
    Stretch,
    NotLarger,
    NotSmaller,
}

#[derive(Debug, Clone, Copy)]
struct Resize {
    mode: Mode,
    coordinates: Coordinates,
    proportion: Proportion,
    /// Smaller pictures see all that they stand for, not only the neighbours.
    antialias: bool,
    /// What lies outside counts nothing, instead of like the edge.
    exclude_outside: bool,
    /// The value of what is outside when cropping.
    outside: f64,
}

/// One axis: its sizes, the scale between them, the part of it that is cropped. In single precision, as exporters and other
/// runtimes have it: half-way between two places is then where it is for them.
#[derive(Debug, Clone, Copy)]
struct Axis {
    at: usize,
    input: usize,
    output: usize,
    scale: f32,
    crop: (f32, f32),
}

/// Where an output place takes from: from this place on, with these weights. `None` is outside.
type Taps = Option<(i64, Vec<f64>)>;

fn resize(node: &Node) -> Result<Kernel> {
    let old = node.opset < 11;
    let nearest = node.choice(
        "nearest_mode",
        &[
            ("round_prefer_floor", Nearest::RoundPreferFloor),
            ("round_prefer_ceil", Nearest::RoundPreferCeil),
            ("floor", Nearest::Floor),
            ("ceil", Nearest::Ceil),
        ],
    )?;
    let nearest = if old { Nearest::Opset10 } else { nearest };
    let cubic = Mode::Cubic(node.float_or("cubic_coeff_a", -0.75)?);
    let modes = [("nearest", Mode::Nearest(nearest)), ("linear", Mode::Linear), ("cubic", cubic)];
    let coordinates = [
        ("half_pixel", Coordinates::HalfPixel),
        ("half_pixel_symmetric", Coordinates::HalfPixelSymmetric),
        ("pytorch_half_pixel", Coordinates::PytorchHalfPixel),
        ("align_corners", Coordinates::AlignCorners),
        ("asymmetric", Coordinates::Asymmetric),
        ("tf_crop_and_resize", Coordinates::CropAndResize),
    ];
    let proportions = [
        ("stretch", Proportion::Stretch),
        ("not_larger", Proportion::NotLarger),
        ("not_smaller", Proportion::NotSmaller),
    ];
    let resize = Resize {
        mode: node.choice("mode", &modes)?,
        coordinates: if old {
            Coordinates::Asymmetric
        } else {
            node.choice("coordinate_transformation_mode", &coordinates)?
        },
        proportion: node.choice("keep_aspect_ratio_policy", &proportions)?,
        antialias: node.flag("antialias", false)?,
        exclude_outside: node.flag("exclude_outside", false)?,
        outside: node.float_or("extrapolation_value", 0.0)?,
    };
    let chosen = node.ints("axes")?;
    // Before opset 11 there was no region, and the scales came second.
    let (region, scales, sizes) = if old { (usize::MAX, 1, usize::MAX) } else { (1, 2, 3) };
    kernel(move |args| {
        let x = args.get(0)?;
        let along: Vec<usize> = match &chosen {
            Some(axes) => axes_in_order(axes, x.rank())?,
            None => (0..x.rank()).collect(),
        };
        let given = |at: usize| args.optional(at).filter(|x| x.elem_count() > 0).map(floats).transpose();
        let axes = resize.axes(x.dims(), &along, given(scales)?, given(sizes)?, given(region)?)?;
        resize.run(x, &axes)
    })
}

/// `https://onnx.ai/onnx/operators/onnx__Upsample.html`: what Resize was before opset 10.
fn upsample(node: &Node) -> Result<Kernel> {
    let mode = node.choice("mode", &[("nearest", Mode::Nearest(Nearest::Opset10)), ("linear", Mode::Linear)])?;
    let fixed = node.floats("scales")?;
    let resize = Resize {
        mode,
        coordinates: Coordinates::Asymmetric,
        proportion: Proportion::Stretch,
        antialias: false,
        exclude_outside: false,
        outside: 0.0,
    };
    kernel(move |args| {
        let x = args.get(0)?;
        let scales = match &fixed {
            Some(scales) => scales.clone(),
            None => floats(args.get(1)?)?,
        };
        let along: Vec<usize> = (0..x.rank()).collect();
        resize.run(x, &resize.axes(x.dims(), &along, Some(scales), None, None)?)
    })
}

impl Resize {
    fn axes(
        &self,
        dims: &[usize],
        along: &[usize],
        scales: Option<Vec<f64>>,
        sizes: Option<Vec<f64>>,
        region: Option<Vec<f64>>,
    ) -> Result<Vec<Axis>> {
        let (scales, sizes) = match (scales, sizes) {
            (Some(scales), None) => {
                ensure!(scales.len() == along.len(), "it has {} scales for {} axes", scales.len(), along.len());
                let sizes = along.iter().zip(&scales).map(|(at, scale)| (dims[*at] as f64 * scale).floor()).collect();
                (scales, sizes)
            }
            (None, Some(sizes)) => {
                ensure!(sizes.len() == along.len(), "it has {} sizes for {} axes", sizes.len(), along.len());
                let scales: Vec<f64> = along.iter().zip(&sizes).map(|(at, size)| size / dims[*at] as f64).collect();
                self.in_proportion(dims, along, scales, sizes)
            }
            _ => bail!("takes either scales or sizes"),
        };
        if let Some(region) = region.as_ref().filter(|_| self.coordinates == Coordinates::CropAndResize) {
            ensure!(
                region.len() == 2 * along.len(),
                "its region has {} numbers for {} axes",
                region.len(),
                along.len()
            );
        }
        let axis = |nth: usize| {
            let at = along[nth];
            let scale = scales[nth] as f32;
            ensure!(
                scale > 0.0 && scale.is_finite() && dims[at] > 0,
                "scales axis {at} of length {} by {scale}",
                dims[at]
            );
            let crop = region.as_ref().filter(|_| self.coordinates == Coordinates::CropAndResize);
            let crop = crop.map_or((0.0, 1.0), |region| (region[nth] as f32, region[nth + along.len()] as f32));
            Ok(Axis { at, input: dims[at], output: dim(sizes[nth] as i64)?, scale, crop })
        };
        (0..along.len()).map(axis).collect()
    }

    /// One scale for all axes, where they keep their proportion.
    fn in_proportion(
        &self,
        dims: &[usize],
        along: &[usize],
        scales: Vec<f64>,
        sizes: Vec<f64>,
    ) -> (Vec<f64>, Vec<f64>) {
        let scale = match self.proportion {
            Proportion::Stretch => return (scales, sizes),
            Proportion::NotLarger => scales.iter().copied().fold(f64::INFINITY, f64::min),
            Proportion::NotSmaller => scales.iter().copied().fold(0.0, f64::max),
        };
        let sizes = along.iter().map(|at| (scale * dims[*at] as f64 + 0.5).floor()).collect();
        (vec![scale; along.len()], sizes)
    }

    fn run(&self, x: &Tensor, axes: &[Axis]) -> Result<Tensor> {
        let mut dims = x.dims().to_vec();
        axes.iter().for_each(|axis| dims[axis.at] = axis.output);
        bounded(&dims)?;
        let changed =
            axes.iter().filter(|axis| axis.input != axis.output || axis.scale != 1.0 || axis.crop != (0.0, 1.0));
        changed.into_iter().try_fold(x.clone(), |x, axis| {
            let taps: Vec<Taps> = (0..axis.output).map(|output| self.taps(axis, output)).collect();
            let place = |at: i64| at.clamp(0, axis.input as i64 - 1) as usize;
            if let (Mode::Nearest(_), true) = (self.mode, taps.iter().all(Option::is_some)) {
                let nearest: Option<Vec<usize>> = taps
                    .iter()
                    .map(|taps| {
                        let (first, weights) = taps.as_ref()?;
                        Some(place(first + i64::from(weights[0] == 0.0)))
                    })
                    .collect();
                return take(&x, axis.at, &nearest.context("a place is outside")?);
            }
            weighted(&x, axis, &taps, self.outside)
        })
    }

    /// Where on the input an output place lies.
    fn point(&self, axis: &Axis, output: usize) -> f32 {
        let (at, input) = (output as f32, axis.input as f32);
        let length = axis.scale * input;
        match self.coordinates {
            Coordinates::HalfPixel => (at + 0.5) / axis.scale - 0.5,
            Coordinates::PytorchHalfPixel if axis.output == 1 => 0.0,
            Coordinates::PytorchHalfPixel => (at + 0.5) / axis.scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = axis.output as f32 / length;
                input / 2.0 * (1.0 - adjustment) + (at + 0.5) / axis.scale - 0.5
            }
            Coordinates::AlignCorners if length == 1.0 => 0.0,
            Coordinates::AlignCorners => at * (input - 1.0) / (length - 1.0),
            Coordinates::Asymmetric => at / axis.scale,
            Coordinates::CropAndResize => {
                let (start, end) = axis.crop;
                let inside = if length == 1.0 { 0.5 } else { at / (length - 1.0) };
                (start + inside * (end - start)) * (input - 1.0)
            }
        }
    }

    fn taps(&self, axis: &Axis, output: usize) -> Taps {
        let point = self.point(axis, output);
        let inside = 0.0..=axis.input as f32 - 1.0;
        if self.coordinates == Coordinates::CropAndResize && !inside.contains(&point) {
            return None;
        }
        // A point on a place is that place's, seen from the one before.
        let base = point.ceil() - 1.0;
        let ratio = point - base;
        let (first, mut weights) = self.weights(f64::from(ratio), f64::from(axis.scale));
        let first = base as i64 + first;
        if self.exclude_outside {
            for (at, weight) in (first..).zip(&mut weights) {
                if !(0..axis.input as i64).contains(&at) {
                    *weight = 0.0;
                }
            }
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        Some((first, weights))
    }

    /// Weights of the places around a point that lies `ratio` after a place, and how far from that place they begin.
    fn weights(&self, ratio: f64, scale: f64) -> (i64, Vec<f64>) {
        let shrink = if self.antialias { scale.min(1.0) } else { 1.0 };
        let spread = |reach: f64, f: &dyn Fn(f64) -> f64| {
            let first = (-reach / shrink).floor() as i64 + 1;
            let weights: Vec<f64> = (first..2 - first).map(|at| f(shrink * (at as f64 - ratio))).collect();
            let sum: f64 = weights.iter().sum();
            (first, weights.iter().map(|weight| weight / sum).collect())
        };
        match self.mode {
            Mode::Nearest(nearest) => {
                let floor = ratio < 1.0
                    && match nearest {
                        Nearest::RoundPreferFloor => ratio <= 0.5,
                        Nearest::RoundPreferCeil => ratio < 0.5,
                        Nearest::Floor => true,
                        Nearest::Ceil => false,
                        Nearest::Opset10 => scale >= 1.0,
                    };
                (0, if floor { vec![1.0, 0.0] } else { vec![0.0, 1.0] })
            }
            Mode::Linear => spread(1.0, &|x| (1.0 - x.abs()).max(0.0)),
            Mode::Cubic(a) => spread(2.0, &|x| cubic(x.abs(), a)),
        }
    }
}

/// The cubic convolution kernel: `https://en.wikipedia.org/wiki/Bicubic_interpolation#Bicubic_convolution_algorithm`.
fn cubic(x: f64, a: f64) -> f64 {
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

/// The weighted sums along an axis.
fn weighted(x: &Tensor, axis: &Axis, taps: &[Taps], outside: f64) -> Result<Tensor> {
    let (outer, inner): (usize, usize) =
        (x.dims()[..axis.at].iter().product(), x.dims()[axis.at + 1..].iter().product());
    let mut dims = x.dims().to_vec();
    dims[axis.at] = axis.output;
    let total = bounded(&dims)?;
    each_float!(x.dtype(), T => {
        let resized = with_elements(x, |all: &[T]| {
            let mut resized: Vec<T> = Vec::with_capacity(total);
            let mut line = vec![0.0; inner];
            for block in 0..outer {
                for taps in taps {
                    line.fill(if taps.is_some() { 0.0 } else { outside });
                    let (first, weights) = taps.as_ref().map_or((0, [].as_slice()), |(at, weights)| (*at, weights));
                    for (at, weight) in (first..).zip(weights) {
                        let at = at.clamp(0, axis.input as i64 - 1) as usize;
                        let seen = &all[(block * axis.input + at) * inner..][..inner];
                        line.iter_mut().zip(seen).for_each(|(sum, one)| *sum += weight * one.to_f64());
                    }
                    resized.extend(line.iter().map(|one| *one as T));
                }
            }
            Ok(resized)
        })?;
        tensor(resized, dims)
    })
}

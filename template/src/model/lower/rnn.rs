//! Recurrent layers, in all directions: `https://onnx.ai/onnx/operators/onnx__RNN.html`, `onnx__LSTM.html`, `onnx__GRU.html`.
//!
//! The products of the whole input with its weights are taken at once, those of the state step by step, both by candle;
//! gates are computed in double precision.

use anyhow::{Context as _, Result, ensure};
use candle_core::{DType, Tensor};

use super::rnn_gates::{Activation, Cell, Gates};
use super::{Family, Kernel, Node, multi_output_kernel};
use crate::model::node::Args;
use crate::model::tensor::{bounded, dim, floats, require_float, tensor_of, whole_numbers};

pub(super) const OPS: Family = &[
    ("GRU", |node| layer(node, Cell::Gru { linear_first: node.flag("linear_before_reset", false)? })),
    ("LSTM", |node| layer(node, Cell::Lstm { coupled: node.flag("input_forget", false)? })),
    ("RNN", |node| layer(node, Cell::Rnn)),
];

/// A recurrent layer, as its attributes have it.
struct Layer {
    cell: Cell,
    /// Whether each direction runs backwards.
    directions: Vec<bool>,
    activations: Vec<Vec<Activation>>,
    clip: Option<f64>,
    hidden: Option<usize>,
    /// The batch is the first axis, not the second.
    batch_first: bool,
}

/// The sizes that one run has.
#[derive(Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    hidden: usize,
    directions: usize,
}

/// What a direction has computed: the states of all steps, the last state and memory.
struct Run {
    states: Vec<f64>,
    state: Vec<f64>,
    memory: Vec<f64>,
}

fn layer(node: &Node, cell: Cell) -> Result<Kernel> {
    let directions = node.choice("direction", &[("forward", 0), ("reverse", 1), ("bidirectional", 2)])?;
    let directions = match directions {
        0 => vec![false],
        1 => vec![true],
        _ => vec![false, true],
    };
    let layer = Layer {
        cell,
        activations: Activation::of_node(node, directions.len(), cell.activations())?,
        clip: node.float("clip")?.filter(|clip| *clip > 0.0),
        hidden: node.int("hidden_size")?.map(dim).transpose()?,
        batch_first: node.flag("layout", false)?,
        directions,
    };
    multi_output_kernel(move |args| layer.run(args))
}

impl Layer {
    fn run(&self, args: &Args) -> Result<Vec<Tensor>> {
        let x = args.get(0)?;
        let dtype = x.dtype();
        require_float(dtype)?;
        let x = if self.batch_first { x.transpose(0, 1)? } else { x.clone() };
        let (steps, batch, inputs) = x.dims3().context("its input has no three axes")?;
        let (w, r) = (args.get(1)?, args.get(2)?);
        let hidden = self.hidden.map_or_else(|| r.dims().last().copied().context("its weights have no axes"), Ok)?;
        let sizes = Sizes { steps, batch, hidden, directions: self.directions.len() };
        let rows = self.cell.gates() * bounded(&[hidden])?;
        let weights = |x: &Tensor, columns: usize| {
            let dims = [sizes.directions, rows, columns];
            ensure!(x.dims() == dims, "its weights have the shape {:?}, and should have {dims:?}", x.dims());
            Ok(())
        };
        weights(w, inputs)?;
        weights(r, hidden)?;
        bounded(&[steps, batch, sizes.directions, rows])?;
        args.budget.spend(&[steps, batch, sizes.directions, rows, hidden + inputs])?;
        let lengths = self.lengths(args, sizes)?;
        let bias = optional(args, 3, 2 * sizes.directions * rows)?;
        let (states, memories) = (self.start(args, 5, sizes)?, self.start(args, 6, sizes)?);
        let peepholes = optional(args, 7, 3 * sizes.directions * hidden)?;
        let x = x.contiguous()?.reshape((steps * batch, inputs))?;
        let runs = (0..sizes.directions).map(|at| {
            let part = |all: &[f64], length: usize| all[at * length..][..length].to_vec();
            let bias = bias.as_ref().map_or(vec![0.0; 2 * rows], |bias| part(bias, 2 * rows));
            let products = floats(&x.matmul(&w.get(at)?.t()?)?)?;
            let products = products.iter().enumerate().map(|(at, one)| one + bias[at % rows]).collect::<Vec<_>>();
            let gates = Gates {
                cell: self.cell,
                activations: self.activations[at].clone(),
                clip: self.clip,
                peepholes: peepholes.as_ref().map(|all| part(all, 3 * hidden)),
                bias: bias[rows..].to_vec(),
            };
            let begin = Run {
                states: vec![0.0; steps * batch * hidden],
                state: part(&states, batch * hidden),
                memory: part(&memories, batch * hidden),
            };
            direction(begin, &gates, &products, &r.get(at)?, &lengths, self.directions[at], sizes)
        });
        self.outputs(&runs.collect::<Result<Vec<_>>>()?, sizes, dtype)
    }

    /// How many steps each row of the batch has.
    fn lengths(&self, args: &Args, sizes: Sizes) -> Result<Vec<usize>> {
        let Some(lengths) = args.optional(4) else { return Ok(vec![sizes.steps; sizes.batch]) };
        let lengths = whole_numbers(lengths)?.iter().map(|length| dim(*length)).collect::<Result<Vec<_>>>()?;
        let fits = lengths.len() == sizes.batch && lengths.iter().all(|length| *length <= sizes.steps);
        ensure!(fits, "its sequence lengths {lengths:?} do not fit {} steps of {}", sizes.steps, sizes.batch);
        Ok(lengths)
    }

    /// The first states, direction by direction; zeros where none are given.
    fn start(&self, args: &Args, at: usize, sizes: Sizes) -> Result<Vec<f64>> {
        let Sizes { directions, batch, hidden, .. } = sizes;
        let dims = if self.batch_first { [batch, directions, hidden] } else { [directions, batch, hidden] };
        match args.optional(at) {
            None => Ok(vec![0.0; directions * batch * hidden]),
            Some(given) => {
                ensure!(
                    given.dims() == dims,
                    "its input {at} has the shape {:?}, and should have {dims:?}",
                    given.dims()
                );
                floats(&if self.batch_first { given.transpose(0, 1)? } else { given.clone() })
            }
        }
    }

    /// All states, the last states, and of an LSTM the last memories.
    fn outputs(&self, runs: &[Run], sizes: Sizes, dtype: DType) -> Result<Vec<Tensor>> {
        let Sizes { steps, batch, hidden, directions } = sizes;
        let stacked = |part: fn(&Run) -> &Vec<f64>, dims: Vec<usize>| {
            tensor_of(runs.iter().flat_map(part).copied().collect(), dims, dtype)
        };
        let all = stacked(|run| &run.states, vec![directions, steps, batch, hidden])?;
        let last = stacked(|run| &run.state, vec![directions, batch, hidden])?;
        let memory = stacked(|run| &run.memory, vec![directions, batch, hidden])?;
        let mut outputs = if self.batch_first {
            vec![all.permute((2, 1, 0, 3))?, last.transpose(0, 1)?, memory.transpose(0, 1)?]
        } else {
            vec![all.permute((1, 0, 2, 3))?, last, memory]
        };
        if !matches!(self.cell, Cell::Lstm { .. }) {
            outputs.pop();
        }
        Ok(outputs)
    }
}

fn optional(args: &Args, at: usize, count: usize) -> Result<Option<Vec<f64>>> {
    let Some(given) = args.optional(at) else { return Ok(None) };
    let given = floats(given)?;
    ensure!(given.len() == count, "its input {at} has {} numbers, and {count} are needed", given.len());
    Ok(Some(given))
}

/// All steps of one direction. A row of the batch that has ended keeps its state, and its further outputs are 0.
fn direction(
    mut run: Run,
    gates: &Gates,
    products: &[f64],
    weights: &Tensor,
    lengths: &[usize],
    backwards: bool,
    sizes: Sizes,
) -> Result<Run> {
    let Sizes { steps, batch, hidden, .. } = sizes;
    let rows = gates.cell.gates() * hidden;
    let turned = weights.t()?;
    // The GRU multiplies its reset state with the last of the weights by itself.
    let of_hidden = match gates.cell {
        Cell::Gru { linear_first: false } => Some(weights.narrow(0, 2 * hidden, hidden)?.t()?),
        _ => None,
    };
    let times = |state: &[f64], rows: usize, weights: &Tensor| {
        let state = tensor_of(state.to_vec(), [rows, hidden], weights.dtype())?;
        floats(&state.matmul(weights)?)
    };
    for step in 0..steps {
        let recurrent = times(&run.state, batch, &turned)?;
        for (row, length) in lengths.iter().enumerate().filter(|(_, length)| step < **length) {
            let time = if backwards { length - 1 - step } else { step };
            let place = time * batch + row;
            let state = &mut run.state[row * hidden..][..hidden];
            gates.step(
                &products[place * rows..][..rows],
                &recurrent[row * rows..][..rows],
                state,
                &mut run.memory[row * hidden..][..hidden],
                |reset| times(reset, 1, of_hidden.as_ref().context("has no weights to reset")?),
            )?;
            run.states[place * hidden..][..hidden].copy_from_slice(state);
        }
    }
    Ok(run)
}

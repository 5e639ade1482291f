//! Recurrent layers, written out step by step: EZKL ignores direction, clip and activations, and mixes up an LSTM's last states.
//! The formulas are those of `https://onnx.ai/onnx/operators/onnx__LSTM.html`, `onnx__GRU.html` and `onnx__RNN.html`.

use anyhow::{Context as _, Result, ensure};
use candle_core::DType;
use prost::Message as _;

use super::signature::cut;
use super::site::{Replacement, Site, float, int};
use super::{Change, CircuitOnnx, Family, MAX_STEPS, read_again, replaced_by, rewrite};
use crate::model::lower::rnn_gates::{Activation, Cell, Kind};
use crate::model::tensor::tensor_of;

pub(super) const RULES: Family =
    &[("GRU", kept_or_written_out), ("LSTM", kept_or_written_out), ("RNN", kept_or_written_out)];

/// One direction of a layer, with its weights as constants of the graph.
struct Direction {
    cell: Cell,
    backwards: bool,
    activations: Vec<Activation>,
    clip: Option<f64>,
    /// For each gate: the weights [inputs, hidden] and the bias, of the input and of the state.
    of_input: Vec<String>,
    of_state: Vec<String>,
    input_bias: Vec<String>,
    state_bias: Vec<String>,
    /// The LSTM's, for the gates i, o, f.
    peepholes: Option<Vec<String>>,
}

fn kept_or_written_out(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    if is_known(site, cell(site)?)? { Ok(None) } else { written_out(site, to) }
}

fn cell(site: &Site) -> Result<Cell> {
    Ok(match site.operator() {
        "GRU" => Cell::Gru { linear_first: site.node.flag("linear_before_reset", false)? },
        "LSTM" => Cell::Lstm { coupled: site.node.flag("input_forget", false)? },
        _ => Cell::Rnn,
    })
}

/// A circuit's ONNX with all its recurrent layers written out, where EZKL does not get past one: where a layer's states are reshaped, and
/// maybe elsewhere, tract's pass ChangeAxes stops at the loop that it makes of the layer.
///
/// # Errors
/// What is no circuit's ONNX; a layer that cannot be written out.
pub fn write_out_layers(circuit: &[u8]) -> Result<CircuitOnnx> {
    let (mut proto, facts, opset) = read_again(circuit)?;
    let graph = proto.graph.get_or_insert_default();
    let mut rewritten = Vec::new();
    rewrite(graph, &mut rewritten, |node| {
        let is_layer = RULES.iter().any(|(operator, _)| *operator == node.op_type);
        if is_layer { replaced_by(written_out, node, &facts, opset) } else { Ok(None) }
    })?;
    cut(graph);
    Ok(CircuitOnnx { bytes: proto.encode_to_vec(), rewritten })
}

/// True if a node takes an output, or it is the model's.
fn is_taken(site: &Site, at: usize) -> bool {
    let name = site.node.proto().output.get(at).filter(|name| !name.is_empty());
    name.is_some_and(|name| site.facts.is_output(name) || !site.facts.takers(name).is_empty())
}

/// True if the activations are those that the operator has where none are named.
fn has_usual_activations(site: &Site, cell: Cell) -> Result<bool> {
    let named = site.node.texts("activations")?;
    Ok(named.is_none_or(|named| named == cell.activations()))
}

/// What EZKL computes as ONNX says: forwards, with the activations that it knows; of an LSTM one output alone.
fn is_known(site: &Site, cell: Cell) -> Result<bool> {
    let node = &site.node;
    let plain = node.text_or("direction", "forward")? == "forward"
        && node.float("clip")?.is_none()
        && has_usual_activations(site, cell)?
        && !node.flag("layout", false)?
        && site.optional(4).is_none();
    Ok(plain
        && match cell {
            Cell::Lstm { coupled } => {
                !coupled && site.optional(7).is_none() && (is_taken(site, 0) != is_taken(site, 1)) && !is_taken(site, 2)
            }
            _ => true,
        })
}

fn written_out(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let cell = cell(site)?;
    let batch_first = site.node.flag("layout", false)?;
    let backwards = match site.node.text_or("direction", "forward")? {
        "forward" => vec![false],
        "reverse" => vec![true],
        _ => vec![false, true],
    };
    let dims = site.shape(0)?;
    let (time_axis, batch_axis) = if batch_first { (1, 0) } else { (0, 1) };
    let (steps, batch) = (dims[time_axis], dims[batch_axis]);
    ensure!(steps <= MAX_STEPS, "it has {steps} steps: a circuit writes out {MAX_STEPS} at most");
    if site.optional(4).is_some() {
        let lengths = site.known(4, "the length of its sequences")?;
        ensure!(
            lengths.iter().all(|length| *length == steps as f64),
            "its sequences are shorter than its input: cut the input"
        );
    }
    let activations = Activation::of_node(&site.node, backwards.len(), cell.activations())?;
    let steps_in = (0..steps).map(|step| {
        let slice = to.gather(site.input(0)?, &[step], time_axis)?;
        to.reshape(&slice, &[batch, dims[2]])
    });
    let inputs = steps_in.collect::<Result<Vec<_>>>()?;
    let hidden = site.shape(2)?[2];
    let (mut states, mut last, mut memories) = (Vec::new(), Vec::new(), Vec::new());
    for (at, backwards) in backwards.iter().enumerate() {
        let direction = Direction::of(site, to, cell, at, *backwards, activations[at].clone())?;
        let state = start(site, to, 5, at, batch_first, [batch, hidden])?;
        let memory = start(site, to, 6, at, batch_first, [batch, hidden])?;
        let run = direction.run(to, &inputs, state, memory)?;
        last.push(run.state);
        memories.push(run.memory);
        states.push(run.states);
    }
    let count = backwards.len();
    let all = all_states(to, &states, [steps, count, batch, hidden], batch_first)?;
    let mut outputs = vec![all];
    for parts in [last, memories] {
        // [directions, batch, hidden], or with the batch first.
        let shape = if batch_first { [batch, 1, hidden] } else { [1, batch, hidden] };
        let parts = parts.iter().map(|part| to.reshape(part, &shape)).collect::<Result<Vec<_>>>()?;
        outputs.push(joined(to, &parts, usize::from(batch_first)));
    }
    if !matches!(cell, Cell::Lstm { .. }) {
        outputs.pop();
    }
    Change::of_all(outputs, "written out step by step: EZKL would read some of it otherwise, or not at all")
}

/// The first state of a direction; zeros where none is given.
fn start(
    site: &Site,
    to: &mut Replacement,
    input: usize,
    at: usize,
    batch_first: bool,
    dims: [usize; 2],
) -> Result<String> {
    match site.optional(input) {
        Some(given) => {
            let slice = to.gather(given, &[at], usize::from(batch_first))?;
            to.reshape(&slice, &dims)
        }
        None => to.constant(&tensor_of(vec![0.0; dims[0] * dims[1]], dims, DType::F32)?),
    }
}

/// [steps, directions, batch, hidden], or [batch, steps, directions, hidden].
fn all_states(to: &mut Replacement, states: &[Vec<String>], sizes: [usize; 4], batch_first: bool) -> Result<String> {
    let [steps, _, batch, hidden] = sizes;
    let shape = if batch_first { [batch, 1, 1, hidden] } else { [1, 1, batch, hidden] };
    let (of_steps, of_directions) = if batch_first { (1, 2) } else { (0, 1) };
    let mut rows = Vec::with_capacity(steps);
    for step in 0..steps {
        let parts = states.iter().map(|all| to.reshape(&all[step], &shape)).collect::<Result<Vec<_>>>()?;
        rows.push(joined(to, &parts, of_directions));
    }
    Ok(joined(to, &rows, of_steps))
}

pub(super) fn joined(to: &mut Replacement, parts: &[String], axis: usize) -> String {
    if let [only] = parts {
        return only.clone();
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    to.op("Concat", &parts, vec![int("axis", axis as i64)])
}

/// What a direction has computed.
struct Run {
    states: Vec<String>,
    state: String,
    memory: String,
}

impl Direction {
    fn of(
        site: &Site,
        to: &mut Replacement,
        cell: Cell,
        at: usize,
        backwards: bool,
        activations: Vec<Activation>,
    ) -> Result<Self> {
        let hidden = site.shape(2)?[2];
        let gates = cell.gates();
        let weights = |to: &mut Replacement, input: usize| -> Result<Vec<String>> {
            let all = site
                .constant(input)
                .with_context(|| format!("its weights, input {input}, are computed: the circuit needs them fixed"))?;
            let turned = all.get(at)?.to_dtype(DType::F32)?.t()?.contiguous()?;
            (0..gates).map(|gate| to.constant(&turned.narrow(1, gate * hidden, hidden)?.contiguous()?)).collect()
        };
        let vectors =
            |to: &mut Replacement, input: usize, first: usize, count: usize, length: usize| -> Result<Vec<String>> {
                let all = if site.optional(input).is_some() {
                    site.known(input, "its bias")?
                } else {
                    vec![0.0; (at + 1) * length * hidden]
                };
                let own = &all[at * length * hidden..][..length * hidden];
                (first..first + count)
                    .map(|gate| to.constant(&tensor_of(own[gate * hidden..][..hidden].to_vec(), [hidden], DType::F32)?))
                    .collect()
            };
        let peepholes = site.optional(7).map(|_| vectors(to, 7, 0, 3, 3)).transpose()?;
        Ok(Self {
            cell,
            backwards,
            activations,
            clip: site.node.float("clip")?.filter(|clip| *clip > 0.0),
            of_input: weights(to, 1)?,
            of_state: weights(to, 2)?,
            input_bias: vectors(to, 3, 0, gates, 2 * gates)?,
            state_bias: vectors(to, 3, gates, gates, 2 * gates)?,
            peepholes,
        })
    }

    fn run(&self, to: &mut Replacement, inputs: &[String], state: String, memory: String) -> Result<Run> {
        let mut run = Run { states: vec![String::new(); inputs.len()], state, memory };
        for step in 0..inputs.len() {
            let time = if self.backwards { inputs.len() - 1 - step } else { step };
            let x = &inputs[time];
            match self.cell {
                Cell::Rnn => run.state = self.gate(to, x, &run.state, 0, 0, None)?,
                Cell::Lstm { coupled } => self.lstm(to, x, &mut run, coupled)?,
                Cell::Gru { linear_first } => run.state = self.gru(to, x, &run.state, linear_first)?,
            }
            run.states[time].clone_from(&run.state);
        }
        Ok(run)
    }

    /// What the input adds to a gate, with its bias.
    fn input_product(&self, to: &mut Replacement, x: &str, gate: usize) -> String {
        let product = to.op("MatMul", &[x, &self.of_input[gate]], Vec::new());
        to.add(&product, &self.input_bias[gate])
    }

    fn state_product(&self, to: &mut Replacement, state: &str, gate: usize) -> String {
        let product = to.op("MatMul", &[state, &self.of_state[gate]], Vec::new());
        to.add(&product, &self.state_bias[gate])
    }

    fn gate(
        &self,
        to: &mut Replacement,
        x: &str,
        state: &str,
        gate: usize,
        activation: usize,
        peep: Option<(&str, usize)>,
    ) -> Result<String> {
        let (own, recurrent) = (self.input_product(to, x, gate), self.state_product(to, state, gate));
        let mut sum = to.add(&own, &recurrent);
        if let (Some(weights), Some((memory, at))) = (&self.peepholes, peep) {
            let seen = to.mul(&weights[at], memory);
            sum = to.add(&sum, &seen);
        }
        self.activated(to, &sum, activation)
    }

    fn activated(&self, to: &mut Replacement, x: &str, activation: usize) -> Result<String> {
        let x = match self.clip {
            Some(clip) => to.within(x, clip)?,
            None => x.to_owned(),
        };
        applied(to, &x, self.activations[activation])
    }

    fn lstm(&self, to: &mut Replacement, x: &str, run: &mut Run, coupled: bool) -> Result<()> {
        let memory = run.memory.clone();
        let input = self.gate(to, x, &run.state, 0, 0, Some((&memory, 0)))?;
        let forget =
            if coupled { complement(to, &input)? } else { self.gate(to, x, &run.state, 2, 0, Some((&memory, 2)))? };
        let new = self.gate(to, x, &run.state, 3, 1, None)?;
        let (kept, taken) = (to.mul(&forget, &memory), to.mul(&input, &new));
        run.memory = to.add(&kept, &taken);
        let output = self.gate(to, x, &run.state, 1, 0, Some((&run.memory, 1)))?;
        let seen = applied(to, &run.memory, self.activations[2])?;
        run.state = to.mul(&output, &seen);
        Ok(())
    }

    fn gru(&self, to: &mut Replacement, x: &str, state: &str, linear_first: bool) -> Result<String> {
        let update = self.gate(to, x, state, 0, 0, None)?;
        let reset = self.gate(to, x, state, 1, 0, None)?;
        let recurrent = if linear_first {
            let product = self.state_product(to, state, 2);
            to.mul(&reset, &product)
        } else {
            let state = to.mul(&reset, state);
            self.state_product(to, &state, 2)
        };
        let own = self.input_product(to, x, 2);
        let sum = to.add(&own, &recurrent);
        let new = self.activated(to, &sum, 1)?;
        let rest = complement(to, &update)?;
        let (taken, kept) = (to.mul(&rest, &new), to.mul(&update, state));
        Ok(to.add(&taken, &kept))
    }
}

/// 1 − x
fn complement(to: &mut Replacement, x: &str) -> Result<String> {
    let one = to.number(1.0, DType::F32)?;
    Ok(to.sub(&one, x))
}

fn applied(to: &mut Replacement, x: &str, activation: Activation) -> Result<String> {
    let Activation { kind, alpha, beta } = activation;
    let (a, b) = (float("alpha", alpha), float("beta", beta));
    Ok(match kind {
        Kind::Affine => {
            let scaled = to.times(x, alpha)?;
            to.plus(&scaled, beta)?
        }
        Kind::Elu => to.op("Elu", &[x], vec![a]),
        Kind::HardSigmoid => to.op("HardSigmoid", &[x], vec![a, b]),
        Kind::LeakyRelu => to.op("LeakyRelu", &[x], vec![a]),
        Kind::Relu => to.one("Relu", x),
        Kind::ScaledTanh => {
            let scaled = to.times(x, beta)?;
            let bent = to.one("Tanh", &scaled);
            to.times(&bent, alpha)?
        }
        Kind::Sigmoid => to.one("Sigmoid", x),
        Kind::Softplus => super::activation::softplus_of(to, x)?,
        Kind::Softsign => to.one("Softsign", x),
        Kind::Tanh => to.one("Tanh", x),
        Kind::ThresholdedRelu => to.op("ThresholdedRelu", &[x], vec![a]),
    })
}

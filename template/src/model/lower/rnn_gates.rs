//! What a recurrent cell does with its gates in one step.

use anyhow::{Context as _, Result, bail, ensure};

use super::Node;
use super::activation::{elu_of, hard_sigmoid_of, sigmoid, softplus};

/// An activation with its parameters.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct Activation {
    pub kind: Kind,
    pub alpha: f64,
    pub beta: f64,
}

/// Its function; `alpha` and `beta` are its parameters, where it has any.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) enum Kind {
    Affine,
    Elu,
    HardSigmoid,
    LeakyRelu,
    Relu,
    ScaledTanh,
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
    ThresholdedRelu,
}

impl Activation {
    /// The activation of this name; those that take parameters take the next given ones, or their defaults.
    fn of(name: &str, alphas: &mut impl Iterator<Item = f64>, betas: &mut impl Iterator<Item = f64>) -> Result<Self> {
        // The defaults are those of `https://onnx.ai/onnx/operators/onnx__LSTM.html`.
        let (kind, alpha, beta) = match name.to_ascii_lowercase().as_str() {
            "affine" => (Kind::Affine, Some(1.0), Some(0.0)),
            "elu" => (Kind::Elu, Some(1.0), None),
            "hardsigmoid" => (Kind::HardSigmoid, Some(0.2), Some(0.5)),
            "leakyrelu" => (Kind::LeakyRelu, Some(0.01), None),
            "relu" => (Kind::Relu, None, None),
            "scaledtanh" => (Kind::ScaledTanh, Some(1.0), Some(1.0)),
            "sigmoid" => (Kind::Sigmoid, None, None),
            "softplus" => (Kind::Softplus, None, None),
            "softsign" => (Kind::Softsign, None, None),
            "tanh" => (Kind::Tanh, None, None),
            "thresholdedrelu" => (Kind::ThresholdedRelu, Some(1.0), None),
            _ => bail!("its activation {name:?} is not known"),
        };
        let parameter = |default: Option<f64>, given: &mut dyn Iterator<Item = f64>| {
            default.map_or(0.0, |default| given.next().unwrap_or(default))
        };
        Ok(Self { kind, alpha: parameter(alpha, alphas), beta: parameter(beta, betas) })
    }

    /// The activations of each direction, `defaults` where the node names none.
    pub fn of_node(node: &Node, directions: usize, defaults: &[&str]) -> Result<Vec<Vec<Self>>> {
        let names = node
            .texts("activations")?
            .unwrap_or_else(|| (0..directions).flat_map(|_| defaults.iter().map(|name| (*name).to_owned())).collect());
        ensure!(
            names.len() == directions * defaults.len(),
            "it has {} activations for {directions} directions of {}",
            names.len(),
            defaults.len()
        );
        let mut alphas = node.floats("activation_alpha")?.unwrap_or_default().into_iter();
        let mut betas = node.floats("activation_beta")?.unwrap_or_default().into_iter();
        let all = names.iter().map(|name| Self::of(name, &mut alphas, &mut betas)).collect::<Result<Vec<_>>>()?;
        Ok(all.chunks(defaults.len()).map(<[Self]>::to_vec).collect())
    }

    fn apply(self, x: f64) -> f64 {
        match self.kind {
            Kind::Affine => self.alpha * x + self.beta,
            Kind::Elu => elu_of(x, self.alpha),
            Kind::HardSigmoid => hard_sigmoid_of(x, self.alpha, self.beta),
            Kind::LeakyRelu => {
                if x < 0.0 {
                    self.alpha * x
                } else {
                    x
                }
            }
            Kind::Relu => x.max(0.0),
            Kind::ScaledTanh => self.alpha * (self.beta * x).tanh(),
            Kind::Sigmoid => sigmoid(x),
            Kind::Softplus => softplus(x),
            Kind::Softsign => x / (1.0 + x.abs()),
            Kind::Tanh => x.tanh(),
            Kind::ThresholdedRelu => {
                if x > self.alpha {
                    x
                } else {
                    0.0
                }
            }
        }
    }
}

/// The kinds of cell, with what only they have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::model) enum Cell {
    Rnn,
    /// `coupled`: forgets as much as it takes in.
    Lstm {
        coupled: bool,
    },
    /// `linear_first`: resets after the product with the recurrent weights, not before.
    Gru {
        linear_first: bool,
    },
}

impl Cell {
    /// How many gates it has.
    pub fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Lstm { .. } => 4,
            Self::Gru { .. } => 3,
        }
    }

    pub fn activations(self) -> &'static [&'static str] {
        match self {
            Self::Rnn => &["Tanh"],
            Self::Lstm { .. } => &["Sigmoid", "Tanh", "Tanh"],
            Self::Gru { .. } => &["Sigmoid", "Tanh"],
        }
    }
}

/// One direction's cell, but for its weights.
#[derive(Debug, Clone)]
pub(super) struct Gates {
    pub cell: Cell,
    pub activations: Vec<Activation>,
    pub clip: Option<f64>,
    /// The LSTM's weights of its memory in its gates.
    pub peepholes: Option<Vec<f64>>,
    /// The biases of the recurrent products.
    pub bias: Vec<f64>,
}

impl Gates {
    fn activate(&self, nth: usize, x: f64) -> f64 {
        let x = self.clip.map_or(x, |clip| x.max(-clip).min(clip));
        self.activations[nth].apply(x)
    }

    /// One row of the batch: `x` and `r` are what input and state contribute to the gates, `state` and `memory` change.
    /// `reset` gives the recurrent product of the GRU's reset state.
    pub fn step(
        &self,
        x: &[f64],
        r: &[f64],
        state: &mut [f64],
        memory: &mut [f64],
        reset: impl FnOnce(&[f64]) -> Result<Vec<f64>>,
    ) -> Result<()> {
        match self.cell {
            Cell::Rnn => self.rnn(x, r, state),
            Cell::Lstm { coupled } => self.lstm(x, r, state, memory, coupled),
            Cell::Gru { linear_first } => return self.gru(x, r, state, linear_first, reset),
        }
        Ok(())
    }

    /// `https://onnx.ai/onnx/operators/onnx__RNN.html`: Hₜ = f(Xₜ Wᵀ + Hₜ₋₁ Rᵀ + Wb + Rb)
    fn rnn(&self, x: &[f64], r: &[f64], state: &mut [f64]) {
        for (at, state) in state.iter_mut().enumerate() {
            *state = self.activate(0, x[at] + r[at] + self.bias[at]);
        }
    }

    /// `https://onnx.ai/onnx/operators/onnx__LSTM.html`: gates in the order i, o, f, c; peepholes in the order i, o, f.
    fn lstm(&self, x: &[f64], r: &[f64], state: &mut [f64], memory: &mut [f64], coupled: bool) {
        let size = state.len();
        for at in 0..size {
            let sum = |gate: usize| {
                let at = gate * size + at;
                x[at] + r[at] + self.bias[at]
            };
            let peep = |gate: usize| self.peepholes.as_ref().map_or(0.0, |weights| weights[gate * size + at]);
            let input = self.activate(0, sum(0) + peep(0) * memory[at]);
            let forget = if coupled { 1.0 - input } else { self.activate(0, sum(2) + peep(2) * memory[at]) };
            memory[at] = forget * memory[at] + input * self.activate(1, sum(3));
            let output = self.activate(0, sum(1) + peep(1) * memory[at]);
            // The last activation is of the memory itself, which is not clipped.
            state[at] = output * self.activations[2].apply(memory[at]);
        }
    }

    /// `https://onnx.ai/onnx/operators/onnx__GRU.html`: gates in the order z, r, h.
    fn gru(
        &self,
        x: &[f64],
        r: &[f64],
        state: &mut [f64],
        linear_first: bool,
        product: impl FnOnce(&[f64]) -> Result<Vec<f64>>,
    ) -> Result<()> {
        let size = state.len();
        let gate = |gate: usize, at: usize| {
            let at = gate * size + at;
            self.activate(0, x[at] + r[at] + self.bias[at])
        };
        let reset: Vec<f64> = (0..size).map(|at| gate(1, at)).collect();
        let bias = self.bias.get(2 * size..).context("a bias is missing")?;
        let recurrent: Vec<f64> = if linear_first {
            (0..size).map(|at| reset[at] * (r[2 * size + at] + bias[at])).collect()
        } else {
            let reset: Vec<f64> = state.iter().zip(&reset).map(|(state, reset)| state * reset).collect();
            product(&reset)?.iter().zip(bias).map(|(product, bias)| product + bias).collect()
        };
        for at in 0..size {
            let update = gate(0, at);
            let hidden = self.activate(1, x[2 * size + at] + recurrent[at]);
            state[at] = (1.0 - update) * hidden + update * state[at];
        }
        Ok(())
    }
}

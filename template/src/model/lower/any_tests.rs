//! Every operator, given whatever there is: it may refuse, it may not panic.

use candle_core::{DType, Device, Tensor};
use candle_onnx::onnx::attribute_proto::AttributeType;
use candle_onnx::onnx::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::{lower, operators};
use crate::model::budget::Budget;
use crate::model::node::{Args, Node};
use crate::model::tensor::bounded;
use crate::panics::message;

const ROUNDS: usize = 600;
const NAMES: &[&str] = &[
    "axis",
    "axes",
    "keepdims",
    "kernel_shape",
    "pads",
    "strides",
    "dilations",
    "group",
    "auto_pad",
    "perm",
    "alpha",
    "size",
    "blocksize",
    "to",
    "equation",
    "k",
    "mode",
    "direction",
    "hidden_size",
    "layout",
    "num_outputs",
    "split",
    "batch_dims",
    "ceil_mode",
    "output_padding",
    "output_shape",
    "num_groups",
    "p",
    "exclusive",
    "reverse",
    "epsilon",
    "antialias",
    "num_scan_inputs",
];
const TEXTS: &[&str] = &[
    "SAME_UPPER",
    "VALID",
    "reflect",
    "wrap",
    "edge",
    "linear",
    "cubic",
    "LEFT",
    "reverse",
    "bidirectional",
    "ij,jk",
    "ii",
];

struct Random(TestRng);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        (self.0.next_u64() % limit as u64) as usize
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Mostly small, sometimes absurd.
    fn number(&mut self) -> i64 {
        match self.below(12) {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => 1 << 40,
            _ => self.below(7) as i64 - 3,
        }
    }

    fn tensor(&mut self) -> Tensor {
        let rank = self.below(5);
        let dims: Vec<usize> = (0..rank).map(|_| *self.pick(&[0, 1, 1, 2, 2, 3, 4])).collect();
        let dtype = *self.pick(&[DType::F32, DType::F32, DType::F64, DType::I64, DType::I32, DType::U8]);
        let count = bounded(&dims).unwrap();
        let numbers: Vec<i64> = (0..count).map(|_| self.number()).collect();
        let tensor = Tensor::from_vec(numbers, dims, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        if dtype == DType::U8 { tensor.ne(&tensor.zeros_like().unwrap()).unwrap() } else { tensor }
    }

    fn attribute(&mut self) -> AttributeProto {
        let mut attribute = AttributeProto { name: (*self.pick(NAMES)).to_owned(), ..Default::default() };
        match self.below(6) {
            5 => {
                attribute.name = (*self.pick(&["then_branch", "else_branch", "body"])).to_owned();
                attribute.g = Some(self.graph());
            }
            0 => attribute.f = self.number() as f32,
            1 => attribute.s = self.pick(TEXTS).as_bytes().to_vec(),
            2 => attribute.i = self.number(),
            _ => attribute.ints = (0..self.below(5)).map(|_| self.number()).collect(),
        }
        attribute.r#type = AttributeType::Undefined as i32;
        attribute
    }

    /// A graph that may or may not fit the node that it is in.
    fn graph(&mut self) -> GraphProto {
        let value = |name: &&str| ValueInfoProto { name: (*name).to_owned(), ..Default::default() };
        let names = ["i", "c", "v", "w"];
        let mut graph = GraphProto {
            input: names[..self.below(4)].iter().map(value).collect(),
            output: (0..self.below(4)).map(|_| value(self.pick(&names))).collect(),
            ..Default::default()
        };
        for at in 0..self.below(3) {
            let op_type = (*self.pick(&["Identity", "Add", "Not", "Concat", "Reshape"])).to_owned();
            let input = (0..=self.below(2)).map(|_| (*self.pick(&["i", "c", "v", "0", "1"])).to_owned()).collect();
            graph.node.push(NodeProto { op_type, input, output: vec![names[3 - at].to_owned()], ..Default::default() });
        }
        graph
    }
}

#[test]
fn no_operator_panics_whatever_it_is_given() {
    let seed = std::env::var("NOVA_FUZZ_SEED").ok().map_or(1, |seed| seed.parse::<u64>().unwrap());
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = Random(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let (mut ran, mut panics) = (0, 0);
    for operator in operators() {
        println!("{operator}");
        for _ in 0..ROUNDS {
            let tensors: Vec<Tensor> = (0..random.below(6)).map(|_| random.tensor()).collect();
            let node = NodeProto {
                op_type: operator.to_owned(),
                input: (0..tensors.len()).map(|at| at.to_string()).collect(),
                output: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
                attribute: (0..random.below(4)).map(|_| random.attribute()).collect(),
                ..Default::default()
            };
            let opset = *random.pick(&[7, 9, 10, 11, 12, 13, 18, 21]);
            let inputs: Vec<Option<&Tensor>> = tensors.iter().map(Some).collect();
            let run = std::panic::AssertUnwindSafe(|| {
                let budget = Budget::new();
                lower(&Node::new(&node, opset, &budget))?(&Args { inputs: &inputs, budget: &budget })
            });
            match std::panic::catch_unwind(run) {
                Ok(done) => ran += usize::from(done.is_ok()),
                Err(panic) => {
                    let shapes: Vec<_> = tensors.iter().map(|tensor| (tensor.dims(), tensor.dtype())).collect();
                    let attributes =
                        node.attribute.iter().map(|one| (&one.name, one.i, one.f, &one.ints)).collect::<Vec<_>>();
                    println!("{operator} in opset {opset} of {shapes:?} with {attributes:?}: {}", message(&*panic));
                    panics += 1;
                    break;
                }
            }
        }
    }
    assert_eq!(panics, 0, "NOVA_FUZZ_SEED={seed}");
    println!("{ran} of {} ran", ROUNDS * operators().count());
    assert!(ran > operators().count(), "only {ran} ran");
}

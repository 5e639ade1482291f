//! Other models than the one that the circuit was made of.

use candle_onnx::onnx::{ModelProto, NodeProto};
use prost::Message as _;

/// The same network with other weights: its answers differ, its shapes do not.
pub fn with_other_weights(model: Vec<u8>) -> Vec<u8> {
    changed(&model, |model| {
        let graph = model.graph.as_mut().unwrap();
        let weights = graph.initializer.iter_mut().max_by_key(|tensor| tensor.raw_data.len()).unwrap();
        for value in weights.raw_data.as_chunks_mut::<4>().0 {
            *value = (-f32::from_le_bytes(*value)).to_le_bytes();
        }
    })
}

/// The same network, trained a little longer: its answers differ a little, its circuit's constants with them.
pub fn with_slightly_other_weights(model: Vec<u8>) -> Vec<u8> {
    changed(&model, |model| {
        let graph = model.graph.as_mut().unwrap();
        let weights = graph.initializer.iter_mut().max_by_key(|tensor| tensor.raw_data.len()).unwrap();
        for value in weights.raw_data.as_chunks_mut::<4>().0 {
            *value = (f32::from_le_bytes(*value) * 0.9).to_le_bytes();
        }
    })
}

/// The same network with an op that nobody can repeat.
pub fn with_unsupported_op(model: Vec<u8>) -> Vec<u8> {
    changed(&model, |model| {
        let graph = model.graph.as_mut().unwrap();
        let sigmoid = graph.node.iter_mut().find(|node| node.op_type == "Sigmoid").unwrap();
        sigmoid.op_type = "Bernoulli".to_owned();
        sigmoid.name = "last_layer".to_owned();
    })
}

/// The sigmoid of the network's first hidden value: as many inputs, and a circuit that is proven in no time.
pub fn of_one_neuron(model: Vec<u8>) -> Vec<u8> {
    changed(&model, |model| {
        let graph = model.graph.as_mut().unwrap();
        let (input, output) = (graph.input[0].name.clone(), graph.output[0].name.clone());
        let node = |op: &str, input: &[&str], output: &str| NodeProto {
            op_type: op.to_owned(),
            name: op.to_lowercase(),
            input: input.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        };
        let weights = graph.initializer.iter_mut().max_by_key(|tensor| tensor.raw_data.len()).unwrap();
        let (inputs, neurons) = (weights.dims[0] as usize, weights.dims[1] as usize);
        weights.raw_data = (0..inputs).flat_map(|row| weights.raw_data[row * neurons * 4..][..4].to_vec()).collect();
        weights.dims[1] = 1;
        let weights = weights.clone();
        graph.node = vec![node("MatMul", &[&input, &weights.name], "neuron"), node("Sigmoid", &["neuron"], &output)];
        graph.initializer = vec![weights];
        graph.value_info.clear();
    })
}

pub fn truncated(mut model: Vec<u8>) -> Vec<u8> {
    model.truncate(model.len() / 2);
    model
}

fn changed(model: &[u8], change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut model = ModelProto::decode(model).unwrap();
    change(&mut model);
    model.encode_to_vec()
}

//! Other models than the one that the circuit was made of.

use candle_onnx::onnx::ModelProto;
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

pub fn truncated(mut model: Vec<u8>) -> Vec<u8> {
    model.truncate(model.len() / 2);
    model
}

fn changed(model: &[u8], change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut model = ModelProto::decode(model).unwrap();
    change(&mut model);
    model.encode_to_vec()
}

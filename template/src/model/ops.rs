//! Which ONNX ops candle evaluates, so that a model it cannot run is refused when it is loaded, with all that is in the way.

use candle_onnx::onnx::attribute_proto::AttributeType;
use candle_onnx::onnx::{GraphProto, NodeProto};

/// The ops of candle-onnx 0.11.1, but its two random ones: what they answer can be neither repeated nor proven.
#[rustfmt::skip]
const EVALUATED: &[&str] = &[
    "Abs", "Add", "And", "ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat",
    "Constant", "ConstantOfShape", "Conv", "Cos", "CumSum", "Div", "Dropout", "Equal", "Erf", "Exp", "Expand",
    "Flatten", "Floor", "Gather", "GatherElements", "Gelu", "Gemm", "Greater", "GreaterOrEqual", "HardSwish",
    "Identity", "If", "LSTM", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "MaxPool", "Min",
    "Mul", "Neg", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow", "RNN", "Range", "ReduceL2", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceSum", "Relu", "Reshape", "Resize", "ScatterND", "Selu", "Shape", "Sigmoid", "Sign", "Sin",
    "Size", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze",
    "Where", "Xor",
];

/// Every op of the graph that candle cannot evaluate, with the names of its nodes: `Elu (elu_1, elu_2)`.
pub fn unsupported(graph: &GraphProto) -> Vec<String> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (obstacle, node) in obstacles(graph) {
        match found.iter_mut().find(|(known, _)| *known == obstacle) {
            Some((_, nodes)) => nodes.push(node),
            None => found.push((obstacle, vec![node])),
        }
    }
    found.into_iter().map(|(obstacle, nodes)| format!("{obstacle} (nodes: {})", nodes.join(", "))).collect()
}

/// What is in the way, and at which node; in the branches of an `If` too.
fn obstacles(graph: &GraphProto) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for node in &graph.node {
        if let Some(obstacle) = obstacle(node) {
            found.push((obstacle, name_of(node)));
        }
        for branch in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
            found.extend(obstacles(branch));
        }
    }
    found
}

fn obstacle(node: &NodeProto) -> Option<String> {
    let op = node.op_type.as_str();
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        return Some(format!("{}.{op}", node.domain));
    }
    if !EVALUATED.contains(&op) {
        return Some(op.to_string());
    }
    let attribute = |name| node.attribute.iter().find(|attribute| attribute.name == name);
    let input = |at: usize| node.input.get(at).is_some_and(|name| !name.is_empty());
    match op {
        "Constant" => {
            let tensor = attribute("value").is_some_and(|value| value.r#type() == AttributeType::Tensor);
            (!tensor).then(|| "Constant that is no tensor".to_string())
        }
        // candle overlooks axes that stand where another opset has them, and computes something else.
        "ReduceSum" | "ReduceL2" | "Squeeze" => {
            attribute("axes").map(|_| format!("{op} with axes as an attribute: export with opset 18"))
        }
        "ReduceMean" => input(1).then(|| "ReduceMean with axes as an input: export with opset 17 or lower".to_string()),
        _ => None,
    }
}

/// A node's name; exporters may leave it empty, then what it computes.
pub fn name_of(node: &NodeProto) -> String {
    match node.output.first() {
        Some(output) if node.name.is_empty() => output.clone(),
        _ => node.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::panic::catch_unwind;

    use super::*;
    use candle_onnx::onnx::ModelProto;

    fn node(op: &str, name: &str) -> NodeProto {
        NodeProto {
            op_type: op.to_string(),
            name: name.to_string(),
            output: vec![format!("{name}_out")],
            ..Default::default()
        }
    }

    fn graph(node: Vec<NodeProto>) -> GraphProto {
        GraphProto { node, ..Default::default() }
    }

    /// Asks candle itself: an op it does not know is refused before its inputs are looked at.
    #[test]
    fn candle_knows_every_op_of_the_table() {
        for op in EVALUATED {
            let model = ModelProto { graph: Some(graph(vec![node(op, "n")])), ..Default::default() };
            let tried = catch_unwind(|| candle_onnx::simple_eval(&model, HashMap::new()));
            if let Ok(Err(error)) = tried {
                let text = error.to_string();
                assert!(!text.contains("unsupported op_type"), "{op}: {text}");
            }
        }
    }

    #[test]
    fn all_that_candle_lacks_is_listed_with_its_nodes() {
        let mut foreign = node("Gelu", "");
        foreign.domain = "com.microsoft".to_string();
        let mut branching = node("If", "if");
        branching.attribute.push(candle_onnx::onnx::AttributeProto {
            name: "then_branch".to_string(),
            g: Some(graph(vec![node("TopK", "inner")])),
            ..Default::default()
        });
        let mut summing = node("ReduceSum", "sum");
        summing.attribute.push(candle_onnx::onnx::AttributeProto { name: "axes".to_string(), ..Default::default() });
        let mut mean = node("ReduceMean", "mean");
        mean.input = vec!["x".to_string(), "axes".to_string()];
        let nodes = vec![
            node("Elu", "first"),
            node("Relu", "fine"),
            node("Elu", "second"),
            foreign,
            branching,
            summing,
            mean,
            node("Constant", "constant"),
        ];
        assert_eq!(
            unsupported(&graph(nodes)),
            [
                "Elu (nodes: first, second)",
                "com.microsoft.Gelu (nodes: _out)",
                "TopK (nodes: inner)",
                "ReduceSum with axes as an attribute: export with opset 18 (nodes: sum)",
                "ReduceMean with axes as an input: export with opset 17 or lower (nodes: mean)",
                "Constant that is no tensor (nodes: constant)",
            ]
        );
    }
}

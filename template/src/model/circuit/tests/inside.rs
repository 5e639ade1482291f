//! Graphs inside nodes.

use super::*;

/// A graph inside a node: what it is given, its nodes, and what it gives.
fn inner(inputs: &str, nodes: &[&str], outputs: &str) -> Graph {
    let values =
        |names: &str| names.split_whitespace().map(|name| value(name, DataType::Float, &[])).collect::<Vec<_>>();
    Graph { input: value("", DataType::Float, &[]), outputs: values(outputs), ..graph(&[1], nodes) }.with_inputs(inputs)
}

impl Graph {
    /// Inputs of a graph inside a node are kept as values without a maker, in the order of their names here.
    fn with_inputs(mut self, names: &str) -> Self {
        names.clone_into(&mut self.input.doc_string);
        self
    }

    /// Puts a graph into the last node that has this operator.
    fn holding(mut self, operator: &str, name: &str, inner: Graph) -> Self {
        let inputs = inner.input.doc_string.split_whitespace();
        let held = GraphProto {
            name: name.to_owned(),
            input: inputs.map(|name| value(name, DataType::Float, &[])).collect(),
            output: inner.outputs,
            node: inner.nodes,
            initializer: inner.weights,
            ..GraphProto::default()
        };
        let node = self.nodes.iter_mut().rfind(|node| node.op_type == operator).unwrap();
        node.attribute.push(AttributeProto {
            name: name.to_owned(),
            r#type: AttributeType::Graph as i32,
            g: Some(held),
            ..AttributeProto::default()
        });
        self
    }
}

#[test]
fn scans_are_written_out() {
    let body =
        || inner("a r", &["b = Add(a, r)", "m = Mul(b, half)", "l = Relu(m)"], "m l").floats("half", &[], &[0.5]);
    for (more, states) in [
        ("", 4),
        (", scan_input_directions=[1], scan_output_directions=[1]", 4),
        (", scan_input_axes=[1], scan_output_axes=[1]", 3),
        (", scan_input_axes=[-1], scan_output_axes=[-1], scan_output_directions=[1]", 3),
    ] {
        let scan = graph(&[3, 4], &[&format!("s, y = Scan(z, x; num_scan_inputs=1{more})")]);
        let scan = scan.holding("Scan", "body", body()).floats("z", &[states], &vec![0.25; states as usize]);
        scan.clone().is_rewritten("Scan");
        scan.giving(&[("s", DataType::Float), ("y", DataType::Float)]).is_rewritten("Scan");
    }
}

#[test]
fn loops_of_a_known_length_are_written_out() {
    // The body's condition counts where the loop is given one.
    for (call, given) in [("Loop(n, , x)", "c"), ("Loop(n, t, x)", "c"), ("Loop(n, t, x)", "d")] {
        let body = inner(
            "i c v",
            &["d = Identity(c)", "j = Cast(i; to=1)", "w = Mul(v, k)", "u = Add(w, j)"],
            &format!("{given} u w"),
        );
        let model = graph(&[1, 4], &[&format!("s, y = {call}")]).number("n", 3);
        let model = model.holding("Loop", "body", body.floats("k", &[4], &[0.5, -1.0, 2.0, 1.5]));
        let model = model.truth("t", true);
        model.clone().is_rewritten("Loop");
        model.giving(&[("s", DataType::Float), ("y", DataType::Float)]).is_rewritten("Loop");
    }
}

#[test]
fn branches_become_choices() {
    let then = || inner("", &["p = Mul(x, k)"], "p").floats("k", &[4], &[2.0, 3.0, -1.0, 0.5]);
    let otherwise = || inner("", &["q = Neg(x)", "r = Abs(q)"], "r");
    let of = |nodes: &[&str]| {
        graph(&[1, 4], nodes).holding("If", "then_branch", then()).holding("If", "else_branch", otherwise()).floats(
            "o",
            &[],
            &[0.5],
        )
    };
    of(&["m = ReduceMax(x; keepdims=0)", "g = Greater(m, o)", "y = If(g)"]).is_rewritten("If");
    of(&["y = If(t)"]).truth("t", false).is_rewritten("If");
    let narrow = inner("", &["r = ReduceMax(x; keepdims=1)"], "r");
    graph(&[1, 4], &["m = ReduceMax(x; keepdims=0)", "g = Greater(m, o)", "y = If(g)"])
        .holding("If", "then_branch", then())
        .holding("If", "else_branch", narrow)
        .floats("o", &[], &[0.5])
        .is_refused(&["the branches of an If give [1, 4] and [1, 1]"]);
}

#[test]
fn a_loop_in_a_scan_is_written_out_as_well() {
    let rounds = inner("i c v", &["w = Mul(v, r)", "u = Tanh(w)"], "c u");
    let body =
        inner("a r", &["b = Add(a, r)", "m = Loop(n, , b)", "l = Gelu(m)"], "m l").holding("Loop", "body", rounds);
    let model = graph(&[3, 4], &["s, y = Scan(z, x; num_scan_inputs=1)"]).holding("Scan", "body", body);
    let model = model.floats("z", &[4], &[0.25; 4]).number("n", 2).opset(20);
    model.is_rewritten("Scan");
    model.is_rewritten("Gelu");
}

#[test]
fn what_ends_with_the_input_is_refused() {
    let body = || inner("i c v", &["w = Mul(v, v)"], "c w");
    let of = |nodes: &[&str]| graph(&[1, 4], nodes).holding("Loop", "body", body()).number("n", 3);
    of(&["m = ReduceMax(x; keepdims=0)", "k = Cast(m; to=7)", "y = Loop(k, , x)"]).is_refused(&[
        "Loop (node \"the Loop\")",
        "how many rounds",
        "fixed",
    ]);
    of(&["m = ReduceMax(x; keepdims=0)", "g = Cast(m; to=9)", "y = Loop(n, g, x)"])
        .is_refused(&["Loop (node \"the Loop\")", "whether it runs depends on the input"]);
    let ending = inner("i c v", &["m = ReduceMax(v; keepdims=0)", "g = Cast(m; to=9)", "w = Mul(v, v)"], "g w");
    graph(&[1, 4], &["y = Loop(n, t, x)"])
        .holding("Loop", "body", ending)
        .number("n", 3)
        .truth("t", true)
        .is_refused(&["Loop (node \"the Loop\")", "when it ends"]);
}

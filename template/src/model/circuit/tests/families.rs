//! Each family: what is rewritten means the same, what EZKL reads rightly stays, what no circuit computes is refused.

use super::*;

const IMAGE: [i64; 4] = [1, 2, 4, 4];

#[test]
fn pools_that_ezkl_would_pad_with_zeros_are_rewritten() {
    for attributes in [
        "pads=[1, 1, 1, 1], strides=[1, 1]",
        "pads=[0, 1, 1, 0], strides=[2, 1]",
        "strides=[2, 2], ceil_mode=1",
        "strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1",
        "dilations=[2, 1], pads=[2, 1, 2, 1]",
        "auto_pad='SAME_UPPER'",
        "auto_pad='SAME_LOWER', strides=[2, 3]",
    ] {
        let kernel = format!("kernel_shape=[3, 2], {attributes}");
        graph(&IMAGE, &[&format!("y = MaxPool(x; {kernel})")]).within(-5.0, -1.0).is_rewritten("MaxPool");
        for counted in [0, 1] {
            let average =
                graph(&IMAGE, &[&format!("y = AveragePool(x; {kernel}, count_include_pad={counted})")]).opset(19);
            average.within(-5.0, -1.0).means_the_same();
        }
        graph(&IMAGE, &[&format!("y = LpPool(x; {kernel})")]).is_rewritten("LpPool");
    }
    graph(&IMAGE, &["y = MaxPool(x; kernel_shape=[2, 2])"]).is_rewritten("MaxPool");
    graph(&IMAGE, &["y = GlobalLpPool(x; p=1)"]).is_rewritten("GlobalLpPool");
    graph(&IMAGE, &["y = GlobalLpPool(x; p=3)"]).is_rewritten("GlobalLpPool");
    graph(&[1, 2, 9, 9], &["y = GlobalAveragePool(x)"]).is_rewritten("GlobalAveragePool");
    graph(&[1, 2, 9], &["y = MaxPool(x; kernel_shape=[4], strides=[3], pads=[2, 2])"]).is_rewritten("MaxPool");
    graph(&IMAGE, &["y = AveragePool(x; kernel_shape=[2, 2], strides=[2, 2])"]).is_kept();
    graph(&IMAGE, &["y, i = MaxPool(x; kernel_shape=[2, 2])"])
        .is_refused(&["MaxPool (node \"the MaxPool\")", "its second output"]);
}

#[test]
fn convolutions_without_strides_or_dilated_are_rewritten() {
    let of = |call: &str| {
        graph(&IMAGE, &[&format!("y = {call}")]).floats(
            "w",
            &[2, 2, 2, 2],
            &[0.5, -0.25, 1.0, 0.75, 0.1, 0.2, -0.3, 0.4, 0.5, 0.6, -0.7, 0.8, 0.9, 1.0, -1.1, 1.2],
        )
    };
    of("Conv(x, w)").is_rewritten("Conv");
    of("Conv(x, w; dilations=[2, 1], auto_pad='SAME_UPPER')").is_rewritten("Conv");
    of("Conv(x, w; dilations=[3, 2], pads=[2, 1, 2, 1], strides=[2, 1])").is_rewritten("Conv");
    of("Conv(x, w; strides=[1, 2])").is_kept();
    graph(&IMAGE, &["y = Conv(x, w; strides=[2, 3])"]).floats("w", &[1, 2, 1, 1], &[0.5, -0.25]).is_rewritten("Conv");
    of("ConvTranspose(x, w)").is_rewritten("ConvTranspose");
    of("ConvTranspose(x, w; dilations=[2, 2], strides=[1, 1])").is_rewritten("ConvTranspose");
    of("ConvTranspose(x, w; strides=[2, 2], output_shape=[7, 7])").is_rewritten("ConvTranspose");
    of("ConvTranspose(x, w; strides=[2, 2], auto_pad='SAME_LOWER')").is_rewritten("ConvTranspose");
    for more in ["", ", pads=[1, 0, 0, 1]", ", dilations=[2, 1]"] {
        of(&format!("ConvTranspose(x, w; strides=[3, 2], output_padding=[2, 1]{more})")).is_rewritten("ConvTranspose");
        of(&format!("ConvTranspose(x, w; strides=[5, 4]{more})")).is_rewritten("ConvTranspose");
    }
    of("ConvTranspose(x, w; strides=[2, 2], dilations=[2, 2], output_shape=[9, 9])").is_rewritten("ConvTranspose");
    of("ConvTranspose(x, w; strides=[1, 2], pads=[1, 0, 0, 1])").is_kept();
    // A kernel that reaches as far as the strides, or further.
    let larger: Vec<f32> = (0..32).map(|at| ((at * 5) % 7) as f32 / 4.0 - 0.7).collect();
    for more in ["strides=[4, 1]", "strides=[3, 3], pads=[1, 0, 0, 1]", "strides=[1, 3], output_padding=[0, 2]"] {
        let wide = graph(&IMAGE, &[&format!("y = ConvTranspose(x, w; {more})")]);
        wide.floats("w", &[2, 1, 4, 4], &larger).is_rewritten("ConvTranspose");
    }
}

#[test]
fn functions_of_whole_numbers_get_a_scale() {
    for function in ["Sigmoid(f)", "Exp(f)", "Softmax(f)", "Tanh(f)", "Gelu(f)"] {
        let model = graph(&[1, 6], &["f = Cast(x; to=1)", &format!("y = {function}")]).of_whole_numbers().opset(20);
        model.is_rewritten(&function[..function.len() - 3]);
        let flags = graph(&[1, 6], &["g = Greater(x, o)", "f = Cast(g; to=1)", &format!("y = {function}")]).opset(20);
        flags.floats("o", &[], &[0.5]).is_rewritten(&function[..function.len() - 3]);
    }
    graph(&[1, 6], &["s = Sign(x)", "t = Transpose(s)", "y = Sigmoid(t)"]).is_rewritten("Sigmoid");
    graph(&[1, 80], &["s = Sign(x)", "y = ReduceMean(s, a)"]).whole("a", &[1]).is_rewritten("ReduceMean");
    let of = |call: &str| {
        graph(&[1, 2], &["f = Cast(x; to=1)", call, "y = Sigmoid(p)"])
            .of_whole_numbers()
            .floats("w", &[], &[0.25])
            .floats("d", &[], &[4.0])
            .whole("a", &[1])
    };
    for call in [
        "p = Mul(f, w)",
        "p = Div(f, d)",
        "p = ReduceMean(f, a)",
        "p = MatMul(f, f)",
        "p = Unsqueeze(f, a)",
        "p = PRelu(f, w)",
    ] {
        let dims = if call.contains("MatMul") { [2, 2] } else { [1, 2] };
        let mut model = of(call);
        model.input = value("x", DataType::Int64, &dims);
        model.is_rewritten("Sigmoid");
    }
    // A factor, or a matrix, brings its scale.
    let of = |call: &str| {
        graph(&[1, 2], &["f = Cast(x; to=1)", call, "y = Sigmoid(p)"]).of_whole_numbers().floats(
            "w",
            &[2, 2],
            &[0.5, 0.25, 1.5, -1.0],
        )
    };
    of("p = Mul(f, w)").is_kept();
    of("p = MatMul(f, w)").is_kept();
}

#[test]
fn masks_stay_out_of_the_table_of_softmax() {
    let masks = [0.0, -1e9, 0.0, -1e4, 0.0, 0.0];
    graph(&[1, 6], &["m = Add(x, c)", "y = Softmax(m)"]).floats("c", &[6], &masks).is_rewritten("Softmax");
    graph(&[1, 6], &["m = Add(x, c)", "y = Softmax(m)"]).floats("c", &[6], &masks).is_rewritten("Add");
    let choice = ["g = Greater(x, o)", "m = Where(g, x, c)", "y = Softmax(m)"];
    graph(&[1, 6], &choice).floats("o", &[], &[0.0]).floats("c", &[], &[-1e9]).is_rewritten("Softmax");
    graph(&[1, 6], &["m = Add(x, c)", "y = Softmax(m)"]).floats("c", &[6], &[-3.0; 6]).is_kept();
}

#[test]
fn casts_that_ezkl_would_round_down_are_rewritten() {
    graph(&[1, 6], &["y = Cast(x; to=7)"]).giving_whole().is_rewritten("Cast");
    graph(&[1, 6], &["c = Cast(x; to=6)", "y = Cast(c; to=1)"]).is_rewritten("Cast");
    graph(&[1, 6], &["y = Cast(x; to=9)"]).giving(&[("y", DataType::Bool)]).is_rewritten("Cast");
    graph(&[1, 6], &["b = Cast(x; to=9)", "y = Cast(b; to=1)"]).of_whole_numbers().is_rewritten("Cast");
    graph(&[1, 6], &["y = CastLike(x, i)"]).whole("i", &[1]).giving_whole().is_rewritten("CastLike");
    for whole in ["Floor", "Ceil", "Round", "Abs", "Sigmoid"] {
        graph(&[1, 6], &[&format!("a = {whole}(x)"), "y = Cast(a; to=7)"]).giving_whole().is_kept();
    }
}

#[test]
fn equals_that_ezkl_would_mislabel_are_rewritten() {
    let of = |nodes: &[&str]| graph(&[1, 6], nodes).floats("half", &[], &[0.5]).floats("one", &[], &[1.0]);
    of(&["b = Equal(x, half)", "y = Cast(b; to=1)"]).is_rewritten("Equal");
    of(&["y = Equal(x, half)"]).giving(&[("y", DataType::Bool)]).is_rewritten("Equal");
    of(&["f = Floor(x)", "b = Equal(f, one)", "y = Cast(b; to=1)"]).is_rewritten("Equal");
    of(&["a = Greater(x, half)", "b = Less(x, one)", "e = Equal(a, b)", "y = Cast(e; to=1)"]).is_rewritten("Equal");
    of(&["b = Equal(x, half)", "n = Not(b)", "y = Cast(n; to=1)"]).is_kept();
    of(&["b = Equal(x, half)", "y = Where(b, one, x)"]).is_kept();
    let of_whole = |nodes: &[&str]| graph(&[1, 6], nodes).number("two", 2);
    of_whole(&["b = Equal(x, two)", "y = Cast(b; to=1)"]).of_whole_numbers().is_kept();
    of_whole(&["i = Cast(x; to=7)", "b = Equal(i, two)", "y = Cast(b; to=1)"]).is_rewritten("Equal");
}

#[test]
fn activations_that_ezkl_does_not_know_are_rewritten() {
    for (call, operator, opset) in [
        ("Gelu(x)", "Gelu", 20),
        ("Gelu(x; approximate='tanh')", "Gelu", 20),
        ("Mish(x)", "Mish", 18),
        ("Swish(x; alpha=1.5)", "Swish", 24),
        ("Swish(x)", "Swish", 24),
        ("Celu(x)", "Celu", 18),
        ("Celu(x; alpha=2.0)", "Celu", 18),
        ("Selu(x)", "Selu", 18),
        ("Softplus(x)", "Softplus", 18),
        ("LogSoftmax(x)", "LogSoftmax", 18),
        ("LogSoftmax(x; axis=1)", "LogSoftmax", 18),
        ("LogSoftmax(x; axis=1)", "LogSoftmax", 11),
        ("Softmax(x; axis=1)", "Softmax", 11),
    ] {
        let model = graph(&[1, 3, 4], &[&format!("y = {call}")]).opset(opset);
        model.is_rewritten(operator);
        model.within(-30.0, 30.0).is_rewritten(operator);
    }
    for kept in ["Elu(x)", "Sigmoid(x)", "Tanh(x)", "HardSwish(x)", "LeakyRelu(x)", "Softmax(x)", "Relu(x)"] {
        graph(&[1, 3, 4], &[&format!("y = {kept}")]).is_kept();
    }
}

#[test]
fn powers_that_ezkl_would_take_for_one_are_rewritten() {
    for exponent in [0.0, -1.0, -2.0, -0.5] {
        let model = graph(&[1, 4], &["y = Pow(x, e)"]).floats("e", &[], &[exponent]).within(0.5, 3.0);
        if exponent.fract() == 0.0 { model.is_rewritten("Pow") } else { model.is_kept() }
    }
    graph(&[1, 4], &["y = Pow(x, e)"]).floats("e", &[4], &[1.0, 2.0, -2.0, 0.0]).within(0.5, 3.0).is_rewritten("Pow");
    graph(&[1, 4], &["y = Pow(e, x)"]).floats("e", &[1, 4], &[1.0, 2.0, 0.5, 3.0]).is_rewritten("Pow");
    graph(&[1, 4], &["y = Pow(x, e)"]).floats("e", &[], &[2.0]).is_kept();
    graph(&[1, 4], &["y = Pow(x, e)"]).of_whole_numbers().giving_whole().number("e", 3).is_rewritten("Pow");
    graph(&[1, 4], &["y = Pow(x, x)"]).within(0.5, 3.0).is_refused(&[
        "Pow (node \"the Pow\")",
        "exponent is computed",
        "Exp(",
    ]);
}

#[test]
fn arithmetic_that_ezkl_reads_otherwise_is_rewritten() {
    let vector = [0.5, -0.5, 0.0, 1.0];
    graph(&[1, 4], &["y = Max(x, c)"]).floats("c", &[4], &vector).is_rewritten("Max");
    graph(&[1, 4], &["y = Max(c, x, d)"]).floats("c", &[4], &vector).floats("d", &[], &[0.25]).is_rewritten("Max");
    graph(&[1, 4], &["y = Mul(x, x)"]).of_whole_numbers().giving_whole().is_rewritten("Mul");
    graph(&[1, 4], &["y = Mul(x, x)"]).is_kept();
    graph(&[1, 4], &["y = Max(x, d)"]).floats("d", &[], &[0.25]).is_kept();
    for divisor in [3, -7, 100] {
        let of = |call: &str| {
            graph(&[1, 4], &[&format!("y = {call}")])
                .of_whole_numbers()
                .giving_whole()
                .number("d", divisor)
                .within(-500.0, 500.0)
        };
        of("Div(x, d)").is_rewritten("Div");
        of("Mod(x, d)").is_rewritten("Mod");
        of("Mod(x, d; fmod=1)").is_rewritten("Mod");
    }
    graph(&[1, 4], &["y = Mod(x, d; fmod=1)"]).floats("d", &[], &[0.75]).is_rewritten("Mod");
    graph(&[1, 4], &["y = Div(x, d)"]).floats("d", &[], &[100.0]).is_rewritten("Div");
    graph(&[1, 4], &["y = Div(x, d)"]).floats("d", &[], &[128.0]).is_kept();
    graph(&[1, 4], &["y = Div(x, d)"]).floats("d", &[], &[3.0]).is_kept();
    graph(&[1, 4], &["y = Mul(d, x)"]).floats("d", &[], &[-0.001]).is_rewritten("Mul");
    graph(&[1, 4], &["y = BitShift(x, d; direction='RIGHT')"])
        .of_whole_numbers()
        .giving_whole()
        .number("d", 2)
        .opset(28)
        .within(-20.0, 20.0)
        .is_rewritten("BitShift");
    graph(&[1, 4], &["y = Sign(x)"]).of_whole_numbers().giving_whole().is_rewritten("Sign");
    graph(&[1, 4], &["y = Div(x, x)"])
        .of_whole_numbers()
        .giving_whole()
        .within(1.0, 9.0)
        .is_refused(&["Div (node", "divide floats"]);
}

#[test]
fn products_of_what_was_cast_to_whole_numbers_are_of_floats() {
    let of = |node: &str| {
        let cast = ["f = Floor(x)", "i = Cast(f; to=7)", node];
        graph(&[2, 3], &cast).whole("w", &[2, -1, 4]).giving_whole()
    };
    of("y = MatMul(i, w)").is_rewritten("MatMul");
    of("y = Einsum(i, w; equation='ab,b->a')").is_rewritten("Einsum");
    of("y = CumSum(i, a)").number("a", 1).is_rewritten("CumSum");
    let behind = ["f = Floor(x)", "i = Cast(f; to=7)", "n = Neg(i)", "y = MatMul(w, n)"];
    graph(&[3, 2], &behind).whole("w", &[2, -1, 4]).giving_whole().is_rewritten("MatMul");
    let flags = ["g = Greater(x, h)", "i = Cast(g; to=7)", "y = MatMul(i, w)"];
    graph(&[2, 3], &flags).floats("h", &[], &[0.5]).whole("w", &[2, -1, 4]).giving_whole().is_rewritten("MatMul");
    // Values that are taken twice, again and again.
    let mut sums = vec!["v0 = Add(x, x)".to_owned()];
    sums.extend((1..50).map(|at| format!("v{at} = Sub(v{}, v{})", at - 1, at - 1)));
    sums.push("y = MatMul(v49, w)".to_owned());
    let sums: Vec<&str> = sums.iter().map(String::as_str).collect();
    graph(&[2, 3], &sums).of_whole_numbers().whole("w", &[2, -1, 4]).giving_whole().is_kept();
    // For EZKL those of inputs are floats.
    let whole = graph(&[2, 3], &["y = MatMul(x, w)"]).of_whole_numbers().whole("w", &[2, -1, 4]).giving_whole();
    whole.is_kept();
    graph(&[2, 3], &["f = Floor(x)", "y = MatMul(f, w)"]).floats("w", &[3], &[2.0, -1.0, 4.0]).is_kept();
}

#[test]
fn quotients_behind_a_choice_have_a_safe_divisor() {
    let of = |nodes: &[&str]| graph(&[1, 6], nodes).floats("zero", &[], &[0.0]).floats("one", &[], &[1.0]);
    for nodes in [
        ["c = Greater(x, zero)", "q = Div(one, x)", "y = Where(c, q, zero)"],
        ["c = Equal(x, zero)", "q = Reciprocal(x)", "y = Where(c, one, q)"],
        ["c = Greater(x, zero)", "q = Log(x)", "y = Where(c, q, x)"],
        ["c = LessOrEqual(x, zero)", "q = Sqrt(x)", "y = Where(c, zero, q)"],
    ] {
        of(&nodes).within(0.5, 3.0).is_rewritten("Where");
        // Where it is 0 the model's own quotient is infinite, and is not chosen.
        of(&nodes).within(-1.0, 1.0).is_rewritten("Where");
    }
    of(&["a = Abs(x)", "c = Greater(a, one)", "q = Div(one, x)", "y = Where(c, q, zero)"]).is_rewritten("Where");
    // Nothing says that this divisor may be 0.
    of(&["c = Greater(x, zero)", "e = Exp(x)", "q = Div(x, e)", "y = Where(c, q, zero)"]).is_kept();
}

#[test]
fn normalisations_keep_their_epsilon() {
    let of = |dims: &[i64], call: &str, count: usize| {
        let numbers: Vec<f32> = (0..count).map(|at| 0.5 + at as f32 / 4.0).collect();
        graph(dims, &[&format!("y = {call}")]).floats("s", &[count as i64], &numbers).floats(
            "b",
            &[count as i64],
            &numbers,
        )
    };
    for (model, operator) in [
        (of(&[1, 6], "LayerNormalization(x, s, b)", 6), "LayerNormalization"),
        (of(&[1, 2, 6], "LayerNormalization(x, s; epsilon=0.5)", 6), "LayerNormalization"),
        (of(&IMAGE, "InstanceNormalization(x, s, b)", 2), "InstanceNormalization"),
        (of(&[1, 4, 3], "GroupNormalization(x, s, b; num_groups=2)", 4).opset(21), "GroupNormalization"),
        (of(&[1, 4, 3], "GroupNormalization(x, s, b; num_groups=2)", 2), "GroupNormalization"),
        (of(&[1, 6], "RMSNormalization(x, s)", 6).opset(23), "RMSNormalization"),
        (of(&IMAGE, "MeanVarianceNormalization(x)", 1), "MeanVarianceNormalization"),
        (of(&IMAGE, "LRN(x; size=3, alpha=0.1)", 1), "LRN"),
        (of(&IMAGE, "LpNormalization(x; axis=1)", 1), "LpNormalization"),
        (of(&IMAGE, "LpNormalization(x; p=1)", 1), "LpNormalization"),
    ] {
        model.is_rewritten(operator);
    }
    let layer = of(&[1, 6], "LayerNormalization(x, s)", 6);
    layer.clone().within(2.0, 2.0).is_rewritten("LayerNormalization");
    layer.within(2.0, 2.01).is_rewritten("LayerNormalization");
    let all = graph(&[1, 2, 3], &["y, m, i = LayerNormalization(x, s; axis=1)"]).floats("s", &[2, 3], &[1.0; 6]);
    all.giving(&[("y", DataType::Float), ("m", DataType::Float), ("i", DataType::Float)])
        .is_rewritten("LayerNormalization");
}

#[test]
fn what_only_moves_elements_becomes_one_gather() {
    let of = |dims: &[i64], call: &str| graph(dims, &[&format!("y = {call}")]);
    for call in ["Pad(x, p; mode='edge')", "Pad(x, p; mode='reflect')", "Pad(x, p; mode='wrap')", "Pad(x, p, v)"] {
        of(&[3, 4], call).whole("p", &[1, 2, 0, 1]).floats("v", &[], &[1.5]).opset(19).is_rewritten("Pad");
    }
    of(&[3, 4], "Pad(x, p)").whole("p", &[-1, 2, 0, 1]).is_rewritten("Pad");
    of(&[3, 4], "Pad(x, p, , a)").whole("p", &[1, 2]).whole("a", &[-1]).is_rewritten("Pad");
    of(&[3, 4], "Pad(x, p)").whole("p", &[1, 2, 0, 1]).is_kept();
    of(&[3, 4], "Tile(x, r)").whole("r", &[2, 3]).is_rewritten("Tile");
    of(&[3, 4], "Expand(x, r)").whole("r", &[2, 1, 4]).is_rewritten("Expand");
    of(&[3, 1], "Expand(x, r)").whole("r", &[3, 4]).is_kept();
    of(&[3, 4], "Gather(x, i; axis=1)").whole("i", &[-2, 0]).is_rewritten("Gather");
    of(&[3, 4], "Gather(x, i; axis=1)").whole("i", &[3, 0]).is_kept();
    let places = |model: Graph, numbers: &[i64], dims: &[i64]| {
        let mut model = model.whole("i", numbers);
        model.weights.last_mut().unwrap().dims = dims.to_vec();
        model
    };
    places(of(&[3, 4], "GatherElements(x, i; axis=1)"), &[-1, 0, 2], &[3, 1]).is_rewritten("GatherElements");
    places(of(&[3, 4], "GatherND(x, i)"), &[-1, 0, 2, -3], &[2, 2]).is_rewritten("GatherND");
    places(of(&[3, 4], "GatherND(x, i)"), &[2, 1], &[1, 2]).is_rewritten("GatherND");
    let slice = of(&[3, 4], "Slice(x, b, e, a, s)").whole("b", &[-1]).whole("a", &[1]);
    slice.clone().whole("e", &[-9]).whole("s", &[-2]).is_rewritten("Slice");
    of(&[3, 4], "Slice(x, b, e, a, s)")
        .whole("b", &[0])
        .whole("e", &[9])
        .whole("a", &[1])
        .whole("s", &[2])
        .is_rewritten("Slice");
    slice.whole("e", &[9]).whole("s", &[1]).is_kept();
    places(of(&[3, 4], "ScatterElements(x, i, u; axis=0)"), &[-1, 0], &[1, 2])
        .floats("u", &[1, 2], &[7.0, 8.0])
        .is_rewritten("ScatterElements");
    places(of(&[3, 4], "ScatterND(x, i, u)"), &[-1, 2], &[1, 2]).floats("u", &[1], &[7.0]).is_rewritten("ScatterND");
    places(of(&[3, 4], "ScatterElements(x, i, u; reduction='add')"), &[1, 0], &[1, 2])
        .floats("u", &[1, 2], &[7.0, 8.0])
        .is_refused(&["ScatterElements", "\"add\"", "addition"]);
    of(&[2, 4, 4], "Trilu(x; upper=0)").is_rewritten("Trilu");
    of(&[4, 2], "ReverseSequence(x, l; time_axis=0, batch_axis=1)").whole("l", &[3, 2]).is_rewritten("ReverseSequence");
    of(&[3, 1], "Tile(x, r)").of_whole_numbers().giving_whole().whole("r", &[1, 3]).is_rewritten("Tile");
}

#[test]
fn resizing_is_a_gather_or_products_with_fixed_matrices() {
    let of = |call: &str, scales: &[f32]| {
        graph(&[1, 2, 3, 4], &[&format!("y = Resize(x, , s; {call})")]).floats("s", &[4], scales)
    };
    of("mode='nearest', nearest_mode='ceil', coordinate_transformation_mode='asymmetric'", &[1.0, 1.0, 2.0, 2.0])
        .is_rewritten("Resize");
    of("mode='nearest'", &[1.0, 1.0, 1.5, 0.5]).is_rewritten("Resize");
    of("mode='linear'", &[1.0, 1.0, 2.0, 0.5]).is_rewritten("Resize");
    of("mode='cubic', coordinate_transformation_mode='align_corners'", &[1.0, 1.0, 2.0, 3.0]).is_rewritten("Resize");
    of("mode='nearest', nearest_mode='floor', coordinate_transformation_mode='asymmetric'", &[1.0, 1.0, 2.0, 2.0])
        .is_kept();
    of("mode='nearest'", &[1.0, 1.0, 2.0, 2.0]).is_kept();
    of("mode='nearest', coordinate_transformation_mode='pytorch_half_pixel'", &[1.0, 1.0, 2.0, 2.0])
        .is_rewritten("Resize");
    graph(&[1, 1, 3, 4], &["y = Upsample(x, s; mode='nearest')"])
        .opset(9)
        .floats("s", &[4], &[1.0, 1.0, 2.0, 3.0])
        .is_rewritten("Upsample");
}

#[test]
fn reductions_that_ezkl_reads_otherwise_are_rewritten() {
    graph(&[1, 80], &["y = ReduceMean(x, a)"]).whole("a", &[1]).is_rewritten("ReduceMean");
    graph(&[9, 2, 8], &["y = ReduceMean(x; axes=[0, 2], keepdims=0)"]).opset(13).is_rewritten("ReduceMean");
    graph(&[1, 16], &["y = ReduceMean(x, a)"]).whole("a", &[1]).is_kept();
    graph(&[1, 6], &["y = ReduceMean(x, a)"])
        .whole("a", &[1])
        .of_whole_numbers()
        .giving_whole()
        .within(-9.0, 9.0)
        .is_rewritten("ReduceMean");
    graph(&[1, 2, 3], &["y = ReduceProd(x; keepdims=0)"]).is_rewritten("ReduceProd");
    graph(&[1, 6], &["y = ReduceLogSumExp(x, a)"])
        .whole("a", &[-1])
        .within(-40.0, 40.0)
        .is_rewritten("ReduceLogSumExp");
    for attributes in ["exclusive=0", "exclusive=1", "reverse=1", "exclusive=1, reverse=1"] {
        for at in [0, 1] {
            graph(&[2, 4], &[&format!("y = CumSum(x, a; {attributes})")]).number("a", at).is_rewritten("CumSum");
        }
    }
    graph(&[2, 300], &["y = CumSum(x, a)"]).number("a", 1).is_kept();
    graph(&[2, 300], &["y = CumSum(x, a; reverse=1)"]).number("a", 1).is_refused(&["CumSum", "256"]);
}

#[test]
fn choices_that_ezkl_cannot_make_are_rewritten() {
    let of = |nodes: &[&str]| graph(&[2, 4], nodes);
    of(&["y = ArgMax(x; axis=1, select_last_index=1)"]).giving_whole().is_rewritten("ArgMax");
    of(&["y = ArgMin(x; axis=0, keepdims=0, select_last_index=1)"]).giving_whole().is_rewritten("ArgMin");
    of(&["y, i = TopK(x, k; axis=1, largest=0)"])
        .whole("k", &[1])
        .giving(&[("y", DataType::Float), ("i", DataType::Int64)])
        .is_rewritten("TopK");
    of(&["y, i = TopK(x, k; axis=0)"]).whole("k", &[2]).is_rewritten("TopK");
    of(&["y, i = TopK(x, k)"]).whole("k", &[2]).is_kept();
    for largest in [0, 1] {
        let both = of(&[&format!("y, i = TopK(x, k; axis=1, largest={largest})")]).whole("k", &[3]);
        both.giving(&[("y", DataType::Float), ("i", DataType::Int64)]).is_rewritten("TopK");
    }
    let table: Vec<f32> = (0..10).map(|at| at as f32).collect();
    of(&["i = Cast(x; to=7)", "y = Gather(t, i)"]).floats("t", &[5, 2], &table).is_rewritten("Gather");
    let cube: Vec<f32> = (0..30).map(|at| at as f32).collect();
    for (axis, dims) in [(0, [5, 3, 2]), (1, [3, 5, 2]), (2, [3, 2, 5]), (-1, [2, 3, 5])] {
        let node = format!("y = Gather(t, i; axis={axis})");
        of(&["i = Cast(x; to=7)", &node]).floats("t", &dims, &cube).is_rewritten("Gather");
    }
    of(&["i = Cast(x; to=7)", "y = Gather(w, i)"]).whole("w", &[3, -1, 4, -1, 5]).giving_whole().is_rewritten("Gather");
    for axis in [-1, 0, 1] {
        let hot = of(&["i = Cast(x; to=7)", &format!("y = OneHot(i, d, v; axis={axis})")]).number("d", 5).floats(
            "v",
            &[2],
            &[0.0, 1.0],
        );
        hot.is_rewritten("OneHot");
    }
    of(&["y = OneHot(x, d, v)"])
        .of_whole_numbers()
        .number("d", 5)
        .floats("v", &[2], &[2.0, 5.0])
        .is_rewritten("OneHot");
    of(&["y = OneHot(x, d, v)"]).of_whole_numbers().number("d", 5).floats("v", &[2], &[0.0, 1.0]).is_kept();
    of(&["l = Neg(x)", "y = Clip(x, s, )"]).floats("s", &[], &[0.5]).is_kept();
    of(&["b = Greater(x, z)", "c = Less(x, o)", "d = Where(b, c, b)", "y = Cast(d; to=1)"])
        .floats("z", &[], &[0.0])
        .floats("o", &[], &[1.0])
        .is_rewritten("Where");
    of(&["y = Einsum(x; equation='ii->i')"]).is_refused(&["Einsum"]);
}

#[test]
fn recurrent_layers_are_written_out() {
    let of = |operator: &str, gates: usize, directions: usize, more: &str, outputs: &str| {
        let numbers = |count: usize| (0..count).map(|at| ((at * 37) % 19) as f32 / 10.0 - 0.9).collect::<Vec<_>>();
        let (d, g) = (directions as i64, gates as i64);
        graph(&[3, 2, 2], &[&format!("{outputs} = {operator}(x, w, r, b; hidden_size=2, {more})")])
            .floats("w", &[d, g * 2, 2], &numbers(directions * gates * 4))
            .floats("r", &[d, g * 2, 2], &numbers(directions * gates * 4))
            .floats("b", &[d, g * 4], &numbers(directions * gates * 4))
    };
    of("LSTM", 4, 1, "direction='reverse'", "y").is_rewritten("LSTM");
    of("LSTM", 4, 2, "direction='bidirectional', clip=0.5, input_forget=1", "y").is_rewritten("LSTM");
    of(
        "LSTM",
        4,
        1,
        "activations=['HardSigmoid', 'Relu', 'ScaledTanh'], activation_alpha=[0.3, 1.5], activation_beta=[0.4, 0.7]",
        ", y",
    )
    .is_rewritten("LSTM");
    let all = of("LSTM", 4, 1, "layout=0", "y, h, c").giving(&[
        ("y", DataType::Float),
        ("h", DataType::Float),
        ("c", DataType::Float),
    ]);
    all.is_rewritten("LSTM");
    of("GRU", 3, 2, "direction='bidirectional', linear_before_reset=1", "y").is_rewritten("GRU");
    of("GRU", 3, 1, "direction='reverse', layout=1", "y, h")
        .giving(&[("y", DataType::Float), ("h", DataType::Float)])
        .is_rewritten("GRU");
    of("RNN", 1, 1, "activations=['Relu']", "y").is_rewritten("RNN");
    for (operator, gates, more) in
        [("RNN", 1, "layout=0"), ("GRU", 3, "layout=0"), ("LSTM", 4, "activations=['Sigmoid', 'Tanh', 'Tanh']")]
    {
        let kept = of(operator, gates, 1, more, "y");
        kept.is_kept();
        // Where EZKL does not get past it.
        let circuit = write_out_layers(&kept.bytes()).unwrap();
        assert_eq!(circuit.rewritten.len(), 1, "{:?}", circuit.rewritten);
        let [model, circuit] = [kept.bytes(), circuit.bytes].map(|bytes| Model::from_bytes(&bytes).unwrap());
        for at in 0..12 {
            let numbers = (0..12).map(|place| f64::from((place * 7 + at * 5) % 23 - 11) / 8.0).collect::<Vec<_>>();
            compared(&model, &circuit, &numbers, &[]);
        }
    }
}

#[test]
fn what_no_circuit_computes_is_refused_with_the_way_out() {
    let of = |nodes: &[&str]| graph(&[1, 4], nodes);
    of(&["n = IsNaN(x)", "y = Cast(n; to=1)", "i = IsInf(x)", "z = Cast(i; to=1)"])
        .giving(&[("y", DataType::Float), ("z", DataType::Float)])
        .is_refused(&["IsNaN (node \"the IsNaN\")", "IsInf (node \"the IsInf\")", "pre_process"]);
    of(&["y = CumProd(x, a)"]).number("a", 1).opset(26).is_refused(&["CumProd", "CumSum"]);
    of(&["y = BitwiseAnd(x, x)"]).of_whole_numbers().giving_whole().is_refused(&["BitwiseAnd", "bits"]);
    let error = write(b"\x08\x01", None).unwrap_err().to_string();
    assert!(error.contains("no ONNX file"), "{error}");
}

#[test]
fn constants_in_other_words_become_weights() {
    graph(&[1, 4], &["c = Constant(; value_floats=[1.0, 2.0, 3.0, 4.0])", "y = Mul(x, c)"]).is_rewritten("Constant");
    graph(&[1, 4], &["r = Range(a, b, c)", "y = Mul(x, r)"])
        .floats("a", &[], &[1.0])
        .floats("b", &[], &[5.0])
        .floats("c", &[], &[1.0])
        .is_rewritten("Range");
    graph(&[1, 4], &["t = Tile(c, r)", "y = Mul(x, t)"])
        .floats("c", &[2], &[1.0, 2.0])
        .whole("r", &[2])
        .is_rewritten("Tile");
}

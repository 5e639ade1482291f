"""Operators that hold graphs."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from fuzz.graph import Graph, Value, info
from fuzz.registry import operator


def formula(graph: Graph, source: str, result: str, like: Value) -> tuple[list, list]:
    """Nodes that make `result` of `source`, and their weights."""
    weight, middle = graph.name("u"), graph.name("t")
    array = np.round(graph.rng.normal(size=like.shape[-1:]), 3).astype(like.dtype)
    kind = graph.choose(["Relu", "Abs", "Neg", "Identity"])
    nodes = [helper.make_node(graph.choose(["Add", "Mul", "Sub"]), [source, weight], [middle]), helper.make_node(kind, [middle], [result])]
    return nodes, [numpy_helper.from_array(array, weight)]


@operator("If")
def branch(graph):
    value = graph.shaped(graph.real(-9, 9), 2, most=8)
    if graph.chance(0.5):
        condition = graph.const(np.array(graph.chance(0.5)), bool)
    else:
        score = graph.op("ReduceMax", [value], keepdims=0)
        condition = graph.op("Greater", [score, graph.const(graph.median(score), score.dtype)])
    branches = {}
    for name in ("then_branch", "else_branch"):
        result = graph.name("b")
        nodes, weights = formula(graph, value.name, result, value)
        branches[name] = helper.make_graph(nodes, name, [], [info(result, value.data, value.shape)], weights)
    graph.ops("If", [condition], 1, captured=[value], **branches)


@operator("Loop")
def loop(graph):
    value = graph.shaped(graph.real(-3, 3), 2, most=6)
    carried, result, going = graph.name("c"), graph.name("b"), graph.name("k")
    nodes, weights = formula(graph, carried, result, value)
    nodes.append(helper.make_node("Identity", [going], [going + "_out"]))
    body = helper.make_graph(
        nodes, "body",
        [helper.make_tensor_value_info(graph.name("i"), TensorProto.INT64, []), helper.make_tensor_value_info(going, TensorProto.BOOL, []),
         info(carried, value.data, value.shape)],
        [helper.make_tensor_value_info(going + "_out", TensorProto.BOOL, []), info(result, value.data, value.shape)], weights)
    graph.ops("Loop", [graph.const(np.array(graph.between(1, 3)), np.int64), graph.const(np.array(True), bool), value], 1, body=body)


@operator("Scan")
def scan(graph):
    value = graph.shaped(graph.real(-3, 3), 3, most=9)
    steps = graph.op("Transpose", [value], perm=[1, 0, 2])
    shape = steps.shape[1:]
    state, step, result, copy = (graph.name("s") for _ in range(4))
    initial = graph.normal(value, *shape)
    nodes = [helper.make_node("Add", [state, step], [result]), helper.make_node("Relu", [result], [copy])]
    body = helper.make_graph(nodes, "body", [info(state, initial.data, shape), info(step, value.data, shape)],
                             [info(result, value.data, shape), info(copy, value.data, shape)])
    graph.ops("Scan", [initial, steps], 2, body=body, num_scan_inputs=1)

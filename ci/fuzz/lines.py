"""Operators along axes: reductions, arguments, sorted and running values, softmax and its kin."""

import numpy as np

from fuzz.graph import Graph
from fuzz.registry import each, operator

# What keeps a reduction defined and small.
REDUCED = {"ReduceLogSum": (0.1, 0.6), "ReduceLogSumExp": (-1, 1), "ReduceProd": (-2, 2), "ReduceL2": (-5, 5), "ReduceSumSquare": (-5, 5)}


def reduce(graph: Graph, name: str) -> None:
    if name in ("ReduceMax", "ReduceMin", "ReduceSum") and graph.chance(0.2):
        value = graph.whole()
    else:
        value = graph.real(*REDUCED.get(name, (-30, 30)), only32=False)
    value = graph.shaped(value, graph.choose([2, 2, 3]), most=8 if name == "ReduceProd" else 24)
    attributes = {"keepdims": graph.between(0, 1)} if graph.chance(0.7) else {}
    inputs = [value]
    if graph.chance(0.75):
        axes = [graph.axis(value)]
        if value.rank > 2 and graph.chance(0.3):
            axes = [1, 2]
        if graph.opset >= (13 if name == "ReduceSum" else 18):
            inputs.append(graph.const(axes, np.int64))
        else:
            attributes["axes"] = axes if graph.opset >= 11 else [axis % value.rank for axis in axes]
    graph.op(name, inputs, **attributes)


each("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare", reduce)


def argument(graph: Graph, name: str) -> None:
    value = graph.shaped(graph.real(), graph.choose([2, 2, 3]))
    axis = graph.axis(value, negative=graph.opset >= 11)
    if value.shape[axis] == 1:
        axis = value.rank - 1
    more = {"select_last_index": 1} if graph.opset >= 12 and graph.chance(0.25) else {}
    graph.op(name, [value], axis=axis, keepdims=graph.between(0, 1), **more)


each("ArgMax ArgMin", argument)


def running(graph: Graph, name: str) -> None:
    value = graph.shaped(graph.whole() if graph.chance(0.2) and name == "CumSum" else graph.real(-3, 3), graph.choose([2, 3]), most=8)
    flags = {flag: 1 for flag in ("exclusive", "reverse") if graph.chance(0.3)}
    graph.op(name, [value, graph.const(np.array(graph.axis(value)), np.int64)], **flags)


each("CumSum CumProd", running)


@operator("TopK")
def top_k(graph):
    value = graph.shaped(graph.real(), 2)
    count = graph.between(1, min(4, value.size))
    if graph.opset < 10:
        graph.ops("TopK", [value], 2, k=count, axis=1)
        return
    attributes = {"largest": graph.between(0, 1)} if graph.opset >= 11 and graph.chance(0.5) else {}
    graph.ops("TopK", [value, graph.const([count], np.int64)], 2, axis=1, **attributes)


def softmax(graph: Graph, name: str) -> None:
    width = 4 if name == "Hardmax" or graph.chance(0.1) else 0.6
    value = graph.shaped(graph.real(-width, width, only32=False), graph.choose([2, 2, 3]), most=8)
    negative = graph.opset >= 11
    graph.op(name, [value], **({"axis": graph.axis(value, negative)} if graph.chance(0.7) else {}))


each("Softmax LogSoftmax Hardmax", softmax)

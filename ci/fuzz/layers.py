"""Layers with weights: products, convolutions, pools, normalisations, recurrences."""

import numpy as np

from fuzz.graph import Graph, Value
from fuzz.registry import each, operator


@operator("MatMul")
def matmul(graph):
    value = graph.whole() if graph.chance(0.1) else graph.shaped(graph.real(only32=False), graph.choose([2, 2, 3]))
    if value.rank == 0:
        value = graph.reshape(value, (1, 1))
    if graph.chance(0.2) and value.rank == 3:
        other = graph.op("Transpose", [value], perm=[0, 2, 1])
        graph.op("MatMul", [graph.within(value, -4, 4), graph.within(other, -4, 4)])
        return
    inner = value.shape[-1]
    graph.op("MatMul", [value, graph.normal(value, inner, *graph.choose([(1,), (3,), (4,), ()]), scale=inner ** -0.5)])


@operator("Gemm")
def gemm(graph):
    value = graph.shaped(graph.real(only32=False), 2)
    outputs = graph.between(1, 5)
    attributes: dict = {name: graph.choose([0.5, 2.0]) for name in ("alpha", "beta") if graph.chance(0.25)}
    shape = (value.shape[1], outputs)
    if graph.chance(0.5):
        attributes["transB"], shape = 1, shape[::-1]
    if graph.chance(0.15):
        value = graph.op("Transpose", [value], perm=[1, 0])
        attributes["transA"] = 1
    weights = graph.normal(value, *shape, scale=value.size ** -0.5)
    bias = [graph.normal(value, *graph.choose([(outputs,), (1, outputs), ()]))] if graph.opset < 11 or graph.chance(0.8) else []
    graph.op("Gemm", [value, weights, *bias], **attributes)


@operator("Einsum")
def einsum(graph):
    equation = graph.choose(["ij,jk->ik", "ij,ij->i", "ij,ij->ij", "bij->bji", "ij->i", "bij,bjk->bik", "ij,kj->ik", "bii->bi"])
    first, *others = equation.split("->")[0].split(",")
    sizes = {letter: graph.between(2, 3) for letter in "ijk"} | {"b": 1}
    if "b" not in equation:
        sizes["i"] = 1
    shape = tuple(sizes[letter] for letter in first)
    value = graph.image(1, 1)
    flat = graph.op("MatMul", [graph.reshape(value, (1, value.size)), graph.normal(value, value.size, int(np.prod(shape)), scale=0.5)])
    inputs = [graph.reshape(flat, shape)] + [graph.normal(value, *[sizes[letter] for letter in other]) for other in others]
    graph.op("Einsum", inputs, equation=equation)


# ---- windows

def window(graph: Graph, value: Value, pools: bool = False) -> dict:
    """Kernel, strides, pads of a window that fits the value's places."""
    places = value.shape[2:]
    kernel = [graph.between(1, min(3, n)) for n in places]
    attributes: dict = {"kernel_shape": kernel}
    if graph.chance(0.4):
        attributes["strides"] = [graph.between(1, 2) for _ in places]
    kind = graph.between(0, 3)
    if kind == 0:
        attributes["pads"] = [graph.between(0, max(0, n - 1)) for n in kernel] * 2
    elif kind == 1:
        attributes["auto_pad"] = graph.choose(["SAME_UPPER", "SAME_LOWER", "VALID"])
    if pools and graph.opset >= 10 and graph.chance(0.2):
        attributes["ceil_mode"] = 1
    return attributes


@operator("Conv")
def conv(graph):
    value = graph.image(3, 4, channels=graph.between(1, 2), rank=graph.choose([3, 4, 4]))
    channels = value.shape[1]
    groups = channels if graph.chance(0.2) else 1
    attributes = window(graph, value)
    if graph.chance(0.2) and min(value.shape[2:]) >= 3:
        attributes |= {"dilations": [2] * (value.rank - 2), "kernel_shape": [2] * (value.rank - 2)}
    outputs = groups * graph.between(1, 2)
    weights = graph.normal(value, outputs, channels // groups, *attributes["kernel_shape"], scale=0.4)
    bias = [graph.normal(value, outputs)] if graph.chance(0.6) else []
    graph.op("Conv", [value, weights, *bias], group=groups, **attributes)


@operator("ConvTranspose")
def conv_transpose(graph):
    value = graph.image(2, 3, channels=graph.between(1, 2), rank=graph.choose([3, 4]))
    kernel = [2] * (value.rank - 2)
    attributes: dict = {"kernel_shape": kernel}
    if graph.chance(0.5):
        attributes["strides"] = [graph.choose([2, 2, 3])] * len(kernel)
        if graph.chance(0.4):
            attributes["output_padding"] = [1] * len(kernel)
    if graph.chance(0.3):
        attributes["pads"] = [1, *[0] * (len(kernel) * 2 - 1)]
    outputs = graph.between(1, 2)
    weights = graph.normal(value, value.shape[1], outputs, *kernel, scale=0.4)
    bias = [graph.normal(value, outputs)] if graph.chance(0.6) else []
    graph.op("ConvTranspose", [value, weights, *bias], **attributes)


def pool(graph: Graph, name: str) -> None:
    value = graph.image(2, 4, channels=graph.between(1, 2), rank=graph.choose([3, 4, 4]))
    attributes = window(graph, value, pools=name != "LpPool" or graph.opset >= 18)
    if name == "AveragePool" and graph.chance(0.4):
        attributes["count_include_pad"] = 1
    if name == "LpPool" and graph.chance(0.5):
        attributes["p"] = graph.choose([1, 2])
    graph.op(name, [value], **attributes)


each("MaxPool AveragePool LpPool", pool)
each("GlobalAveragePool GlobalMaxPool", lambda graph, name: graph.op(name, [graph.image(2, 4, rank=graph.choose([3, 4]))]))


@operator("GlobalLpPool")
def global_lp(graph):
    graph.op("GlobalLpPool", [graph.image(2, 3)], **({"p": graph.choose([1, 2])} if graph.chance(0.6) else {}))


# ---- normalisations

@operator("BatchNormalization")
def batch(graph):
    value = graph.image(1, 3, rank=graph.choose([3, 4])) if graph.chance(0.6) else graph.shaped(graph.real(), 2, most=8)
    count = value.shape[1]
    variance = graph.const(np.round(graph.rng.uniform(0.3, 2, count), 3), np.float32)
    inputs = [value, *[graph.normal(value, count) for _ in range(3)], variance]
    graph.op("BatchNormalization", inputs, **({"epsilon": 1e-3} if graph.chance(0.3) else {}))


@operator("LayerNormalization")
def layer(graph):
    value = graph.shaped(graph.real(-5, 5), graph.choose([2, 3]), most=12)
    shape = value.shape[-1:]
    inputs = [value, graph.normal(value, *shape)] + ([graph.normal(value, *shape)] if graph.chance(0.6) else [])
    graph.op("LayerNormalization", inputs, **({"epsilon": 1e-3} if graph.chance(0.3) else {}))


@operator("RMSNormalization")
def root_mean_square(graph):
    value = graph.shaped(graph.real(-5, 5), 2, most=12)
    graph.op("RMSNormalization", [value, graph.normal(value, value.shape[-1])])


@operator("InstanceNormalization")
def instance(graph):
    value = graph.image(2, 3, rank=graph.choose([3, 4]))
    graph.op("InstanceNormalization", [value, *[graph.normal(value, value.shape[1]) for _ in range(2)]])


@operator("GroupNormalization")
def group(graph):
    value = graph.image(2, 3, channels=4)
    groups = graph.choose([1, 2])
    count = 4 if graph.opset >= 21 else groups
    graph.op("GroupNormalization", [value, *[graph.normal(value, count) for _ in range(2)]], num_groups=groups)


@operator("LRN")
def local_response(graph):
    value = graph.within(graph.image(1, 2, channels=graph.between(3, 5)), -1, 1)
    graph.op("LRN", [value], size=graph.choose([1, 3]), alpha=graph.choose([1e-4, 0.1, 0.5]), bias=graph.choose([1.0, 2.0]))


@operator("LpNormalization")
def lp(graph):
    value = graph.shaped(graph.real(0.2, 5), 2, most=12)
    graph.op("LpNormalization", [value], axis=-1, p=graph.choose([1, 2]))


@operator("MeanVarianceNormalization")
def mean_variance(graph):
    value = graph.image(2, 3)
    graph.op("MeanVarianceNormalization", [value], **({"axes": [2, 3]} if graph.chance(0.5) else {"axes": [0, 2, 3]}))


# ---- recurrences

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def recurrent(graph: Graph, name: str) -> None:
    features, hidden, steps = graph.between(1, 3), graph.between(1, 2), graph.between(1, 3)
    value = graph.real(-0.5, 0.5)
    flat = graph.op("MatMul", [graph.reshape(value, (1, value.size)), graph.normal(value, value.size, steps * features, scale=0.2)])
    value = graph.reshape(flat, (steps, 1, features))
    direction = graph.choose(["forward", "forward", "reverse", "bidirectional"])
    directions, gates = 2 if direction == "bidirectional" else 1, GATES[name]
    # Gates are looked up: their numbers stay near zero, mostly.
    scale = 0.6 if graph.chance(0.1) else 0.15
    inputs: list = [value, graph.normal(value, directions, gates * hidden, features, scale=scale),
                    graph.normal(value, directions, gates * hidden, hidden, scale=scale)]
    if graph.chance(0.6):
        inputs.append(graph.normal(value, directions, 2 * gates * hidden, scale=scale / 2))
    attributes = {"linear_before_reset": 1} if name == "GRU" and graph.chance(0.4) else {}
    count = graph.between(1, 3 if name == "LSTM" else 2)
    graph.ops(name, inputs, count, hidden_size=hidden, direction=direction, **attributes)


each("RNN GRU LSTM", recurrent)

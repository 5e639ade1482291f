"""Operators that take and put numbers by their places."""

import numpy as np

from fuzz.graph import Graph, Value
from fuzz.registry import each, operator


def places(graph: Graph, length: int, shape) -> Value:
    """Whole numbers that are places on an axis: constants, or inputs that happen to be some."""
    found = graph.pick((np.int64, np.int32), lambda one: one.data.min() >= 0 and one.data.max() < length and one.size <= 8)
    if found is not None and graph.chance(0.5):
        return found
    low = -length if graph.opset >= 11 and graph.chance(0.3) else 0
    return graph.const(graph.rng.integers(low, length, shape), np.int64)


def number(graph: Graph) -> Value:
    return graph.whole() if graph.chance(0.15) else graph.real(only32=False)


@operator("Gather")
def gather(graph):
    if graph.chance(0.4):
        # A table of weights, looked up by the input.
        indices = graph.pick((np.int64, np.int32), lambda one: one.data.min() >= 0 and one.data.max() < 12 and one.size <= 8)
        if indices is not None:
            table = graph.const(np.round(graph.rng.normal(size=(int(indices.data.max()) + 1, graph.between(1, 3))), 3), np.float32)
            graph.op("Gather", [table, indices], axis=0)
            return
    value = graph.shaped(number(graph), graph.choose([2, 3]))
    axis = graph.axis(value)
    indices = graph.const(graph.rng.integers(0, value.shape[axis], graph.choose([(), (1,), (2,), (2, 2)])), np.int64)
    graph.op("Gather", [value, indices], axis=axis)


@operator("GatherElements")
def gather_elements(graph):
    value = graph.shaped(number(graph), graph.choose([2, 3]))
    axis = graph.axis(value)
    shape = list(value.shape)
    shape[axis] = graph.between(1, 3)
    indices = graph.const(graph.rng.integers(0, value.shape[axis], shape), np.int64)
    graph.op("GatherElements", [value, indices], axis=axis)


@operator("GatherND")
def gather_nd(graph):
    value = graph.shaped(number(graph), graph.choose([2, 3]))
    depth = graph.between(1, value.rank)
    count = graph.between(1, 3)
    indices = np.stack([graph.rng.integers(0, value.shape[axis], count) for axis in range(depth)], axis=-1)
    graph.op("GatherND", [value, graph.const(indices, np.int64)])


def scatter(graph: Graph, name: str) -> None:
    value = graph.shaped(graph.real(), graph.choose([2, 3]), most=12)
    axis = graph.axis(value, negative=name != "Scatter")
    count = graph.between(1, min(2, value.shape[axis]))
    shape = list(value.shape)
    shape[axis] = count
    indices = np.zeros(shape, np.int64)
    along = graph.rng.permutation(value.shape[axis])[:count]
    indices += along.reshape([-1 if at == axis % value.rank else 1 for at in range(value.rank)])
    attributes: dict = {"axis": axis}
    if name == "ScatterElements" and graph.opset >= 16 and graph.chance(0.5):
        attributes["reduction"] = graph.choose(["add", "mul", *(["max", "min"] if graph.opset >= 18 else [])])
    graph.op(name, [value, graph.const(indices), updates(graph, value, shape)], **attributes)


each("Scatter ScatterElements", scatter)


def updates(graph: Graph, value: Value, shape) -> Value:
    other = graph.pick((value.dtype,), lambda one: one.size >= int(np.prod(shape)))
    if other is None or other.size != int(np.prod(shape)) or graph.chance(0.3):
        return graph.normal(value, *shape)
    return graph.reshape(other, tuple(int(n) for n in shape))


@operator("ScatterND")
def scatter_nd(graph):
    value = graph.shaped(graph.real(), 2, most=12)
    count = graph.between(1, min(3, value.shape[1]))
    columns = graph.rng.permutation(value.shape[1])[:count]
    indices = np.stack([np.zeros(count, np.int64), columns], axis=-1)
    more = {"reduction": graph.choose(["add", "mul"])} if graph.opset >= 16 and graph.chance(0.4) else {}
    graph.op("ScatterND", [value, graph.const(indices, np.int64), updates(graph, value, [count])], **more)


@operator("Compress")
def compress(graph):
    value = graph.shaped(number(graph), 2)
    kept = graph.rng.random(value.shape[1]) < 0.5
    kept[graph.between(0, len(kept) - 1)] = True
    graph.op("Compress", [value, graph.const(kept, bool)], axis=1)


@operator("NonZero")
def non_zero(graph):
    value = graph.shaped(graph.real(0.5, 9), 2, most=6)
    mask = np.ones(value.shape, np.float32)
    if value.shape[1] > 1:
        mask[0, graph.between(0, value.shape[1] - 1)] = 0
    found = graph.op("NonZero", [graph.op("Mul", [value, graph.const(mask)])])
    if found.size:
        places = graph.op("ReduceMax", [graph.op("Cast", [found], to=1)], keepdims=0)
        graph.op("Add", [value, places])


@operator("OneHot")
def one_hot(graph):
    indices = graph.pick((np.int64, np.int32), lambda one: one.data.min() >= 0 and one.data.max() < 8 and one.size <= 4)
    if indices is None:
        scores = graph.shaped(graph.real(), 2, most=6)
        indices = graph.op("ArgMax", [scores], axis=1, keepdims=0)
    depth = graph.const(np.array([int(indices.data.max()) + 1]), np.int64)
    values = graph.const(graph.choose([[0.0, 1.0], [0.5, 2.0]]), np.float32)
    graph.op("OneHot", [indices, depth, values], **({"axis": graph.choose([-1, 0])} if graph.chance(0.4) else {}))


@operator("ReverseSequence")
def reverse_sequence(graph):
    value = graph.image(1, 2, channels=graph.between(2, 4), rank=3)
    length = graph.between(1, value.shape[1])
    graph.op("ReverseSequence", [value, graph.const([length], np.int64)], batch_axis=0, time_axis=1)



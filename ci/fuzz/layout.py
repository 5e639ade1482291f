"""Operators that move numbers about: shapes, parts, copies, borders, sizes."""

import numpy as np

from fuzz.graph import Graph, Unsuitable, Value
from fuzz.registry import each, operator


def number(graph: Graph) -> Value:
    """A value of any type of number."""
    return graph.whole() if graph.chance(0.15) else graph.real(only32=False)


def ints_or_input(graph: Graph, since: int, name: str, values, **more) -> tuple[list[Value], dict]:
    """Whole numbers as an attribute before the opset `since`, as an input from then on."""
    values = [int(one) for one in np.atleast_1d(values)]
    return ([graph.const(values, np.int64)], more) if graph.opset >= since else ([], {name: values, **more})


@operator("Identity")
def identity(graph):
    graph.op("Identity", [graph.choose(graph.values)])


@operator("Dropout")
def dropout(graph):
    value = graph.real()
    graph.op("Dropout", [value], **({"ratio": 0.3} if graph.opset < 12 else {}))


@operator("Reshape")
def reshape(graph):
    value = number(graph)
    size = value.size
    divisor = graph.choose([n for n in range(1, size + 1) if size % n == 0])
    shape = graph.choose([[1, size], [1, -1], [1, divisor, size // divisor], [1, divisor, -1], [-1, size], [0, -1] if value.rank else [-1]])
    graph.op("Reshape", [value, graph.const(shape, np.int64)])


@operator("Flatten")
def flatten(graph):
    value = graph.shaped(graph.real(), graph.choose([2, 3, 4]))
    graph.op("Flatten", [value], **({"axis": graph.between(0, value.rank)} if graph.chance(0.6) else {}))


@operator("Squeeze")
def squeeze(graph):
    value = graph.shaped(graph.real(), 3)
    value = graph.reshape(value, (1, 1, value.size)) if value.shape[1] != 1 else value
    inputs, attributes = ints_or_input(graph, 13, "axes", [1])
    graph.op("Squeeze", [value, *inputs], **attributes)


@operator("Unsqueeze")
def unsqueeze(graph):
    value = number(graph)
    inputs, attributes = ints_or_input(graph, 13, "axes", [graph.between(0 if value.rank == 0 else 1, value.rank)])
    graph.op("Unsqueeze", [value, *inputs], **attributes)


@operator("Transpose")
def transpose(graph):
    value = graph.shaped(number(graph), graph.choose([2, 3, 4]))
    order = [0, *(1 + graph.rng.permutation(value.rank - 1)).tolist()] if value.rank > 2 else [1, 0]
    graph.op("Transpose", [value], **({} if graph.chance(0.2) else {"perm": order}))


@operator("Concat")
def concat(graph):
    value = number(graph)
    if value.rank == 0:
        raise Unsuitable("no axis")
    axis = graph.axis(value)
    fitting = [one for one in graph.values if one.dtype == value.dtype and one.rank == value.rank
               and all(a == b for at, (a, b) in enumerate(zip(one.shape, value.shape)) if at != axis % value.rank)]
    others = [graph.choose(fitting) for _ in range(graph.between(0, 2))] or [graph.const(np.ones(value.shape), value.dtype)]
    graph.op("Concat", [value, *others], axis=axis)


@operator("Slice")
def slicing(graph):
    value = graph.shaped(number(graph), graph.choose([2, 3]))
    axis = graph.axis(value)
    length = value.shape[axis]
    step = graph.choose([1, 1, 2, -1]) if graph.opset >= 10 else 1
    start, end = sorted((graph.between(0, length - 1), graph.between(1, length)))
    end = max(end, start + 1)
    bounds = ([end - 1, start - 1 if start else -length - 1] if step < 0 else
              graph.choose([[start, end], [start, 2**31 - 1], [start - length, end]]))
    if graph.opset < 10:
        graph.op("Slice", [value], starts=bounds[:1], ends=bounds[1:], axes=[axis % value.rank])
        return
    graph.op("Slice", [value, *[graph.const([one], np.int64) for one in (*bounds, axis, step)]])


@operator("Split")
def split(graph):
    value = graph.shaped(number(graph), 2, least=4)
    length = value.shape[1]
    first = graph.between(1, length - 1)
    parts, attributes = [first, length - first], {"axis": 1}
    if graph.chance(0.4) and length % 2 == 0:
        parts = None
        if graph.opset >= 18:
            attributes["num_outputs"] = 2
    inputs = []
    if parts:
        inputs, attributes = ints_or_input(graph, 13, "split", parts, axis=1)
    graph.ops("Split", [value, *inputs], 2, **attributes)


@operator("Expand")
def expand(graph):
    value = number(graph)
    if value.size > 12:
        raise Unsuitable("too large")
    shape = graph.choose([[2, *value.shape] if value.rank else [3], [*value.shape[:-1], 1], [1, *value.shape]])
    graph.op("Expand", [value, graph.const(shape, np.int64)])


@operator("Tile")
def tile(graph):
    value = graph.shaped(number(graph), graph.choose([2, 3]), most=12)
    repeats = [1] * value.rank
    repeats[graph.axis(value)] = graph.between(1, 3)
    graph.op("Tile", [value, graph.const(repeats, np.int64)])


@operator("Pad")
def pad(graph):
    value = graph.shaped(graph.real(), graph.choose([2, 3, 4]), most=16)
    mode = graph.choose(["constant", "constant", "constant", "reflect", "edge", *(["wrap"] if graph.opset >= 19 else [])])
    most = [min(2, n - 1) if mode in ("reflect", "wrap") else 2 for n in value.shape]
    pads = [0] + [graph.between(0, n) for n in most[1:]] + [0] + [graph.between(0, n) for n in most[1:]]
    fill = graph.choose([0.0, 0.0, 1.0, -2.5])
    if graph.opset < 11:
        graph.op("Pad", [value], mode=mode, pads=pads, **({"value": fill} if mode == "constant" else {}))
        return
    inputs: list = [value, graph.const(pads, np.int64)]
    if mode == "constant" and graph.chance(0.7):
        inputs.append(graph.const(np.float32(fill), value.dtype))
    if graph.opset >= 18 and graph.chance(0.3):
        axes = list(range(1, value.rank))
        chosen = [pads[axis] for axis in axes] + [pads[value.rank + axis] for axis in axes]
        inputs = [value, graph.const(chosen, np.int64), inputs[2] if len(inputs) > 2 else None, graph.const(axes, np.int64)]
    graph.op("Pad", inputs, mode=mode)


@operator("DepthToSpace")
def depth_to_space(graph):
    more = {"mode": graph.choose(["DCR", "CRD"])} if graph.opset >= 11 and graph.chance(0.6) else {}
    graph.op("DepthToSpace", [graph.image(1, 3, channels=graph.choose([4, 8]))], blocksize=2, **more)


@operator("SpaceToDepth")
def space_to_depth(graph):
    value = graph.image(2, 2)
    if graph.chance(0.5):
        value = graph.image(4, 4, channels=1)
    graph.op("SpaceToDepth", [value], blocksize=2)


@operator("Resize")
def resize(graph):
    value = graph.image(2, 3, channels=graph.between(1, 2))
    mode = graph.choose(["nearest", "nearest", "linear", *(["cubic"] if graph.opset >= 11 else [])])
    scales = [1.0, 1.0, graph.choose([1.0, 2.0]), graph.choose([2.0, 1.5, 2.0])]
    if graph.opset < 11:
        graph.op("Resize", [value, graph.const(np.float32(scales))], mode=graph.choose(["nearest", "linear"]))
        return
    how = graph.choose(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
    more = {"nearest_mode": graph.choose(["floor", "round_prefer_floor", "ceil"])} if mode == "nearest" else {}
    roi = graph.const(np.zeros(0, np.float32)) if graph.opset < 13 else None
    if graph.chance(0.5) and graph.opset >= 13:
        sizes = graph.const([value.shape[0], value.shape[1], *(2 * n for n in value.shape[2:])], np.int64)
        graph.op("Resize", [value, None, None, sizes], mode=mode, coordinate_transformation_mode=how, **more)
        return
    graph.op("Resize", [value, roi, graph.const(np.float32(scales))], mode=mode, coordinate_transformation_mode=how, **more)


@operator("Upsample")
def upsample(graph):
    value = graph.image(2, 3, channels=graph.between(1, 2))
    scales, mode = [1.0, 1.0, 2.0, graph.choose([1.0, 2.0])], graph.choose(["nearest", "nearest", "linear"])
    if graph.opset < 9:
        graph.op("Upsample", [value], mode=mode, scales=scales)
    else:
        graph.op("Upsample", [value, graph.const(np.float32(scales))], mode=mode)


# ---- what is known of a shape

def of_shape(graph: Graph, name: str) -> None:
    """Shape and Size, of which something depends on: a factor, or a shape to take."""
    value = graph.real()
    known = graph.op(name, [value])
    if name == "Shape" and graph.chance(0.6):
        graph.op("Reshape", [graph.op("Abs", [value]), known])
    else:
        graph.op("Mul", [graph.op("Cast", [known], to=1), graph.real(-9, 9)] if known.size == 1 else
                 [graph.op("ReduceMax", [graph.op("Cast", [known], to=1)], keepdims=0), graph.real(-9, 9)])


each("Shape Size", of_shape)


def with_input(graph: Graph, made: Value) -> None:
    """Something of the input depends on what was made of constants alone."""
    if not made.is_constant:
        return
    value = graph.real()
    if made.dtype != value.dtype:
        made = graph.op("Cast", [made], to=1)
    if not broadcast(made, value):
        value = graph.op("MatMul", [graph.reshape(value, (1, value.size)), graph.normal(value, value.size, made.shape[-1], scale=0.5)])
    graph.op(graph.choose(["Add", "Mul"]), [value, made])


def broadcast(one: Value, other: Value) -> bool:
    try:
        return np.prod(np.broadcast_shapes(one.shape, other.shape)) <= 64
    except ValueError:
        return False


@operator("Constant")
def constant(graph):
    value = graph.real()
    kinds = [("value_float", 1.5), ("value_floats", [0.5] * value.shape[-1])] if graph.opset >= 12 and value.rank else []
    if not kinds:
        from onnx import numpy_helper
        kinds = [("value", numpy_helper.from_array(np.array([0.25], np.float32)))]
    name, what = graph.choose(kinds)
    with_input(graph, graph.op("Constant", [], **{name: what}))


@operator("ConstantOfShape")
def constant_of_shape(graph):
    from onnx import numpy_helper
    fill = numpy_helper.from_array(np.array([graph.choose([0.5, 2.0])], np.float32))
    shape = graph.const(graph.choose([[1, 3], [4], [2, 2]]), np.int64)
    with_input(graph, graph.op("ConstantOfShape", [shape], **({"value": fill} if graph.chance(0.8) else {})))


@operator("EyeLike")
def eye_like(graph):
    value = graph.shaped(graph.real(), 2, most=8)
    square = graph.op("MatMul", [graph.op("Transpose", [value], perm=[1, 0]), value])
    eye = graph.op("EyeLike", [square], **({"k": graph.choose([-1, 0, 1])} if graph.chance(0.5) else {}))
    graph.op("Mul", [eye, square])


@operator("Range")
def ranged(graph):
    kind = graph.choose([np.int64, np.float32])
    start, step = graph.between(-2, 2), graph.choose([1, 2])
    ends = [graph.const(np.array(n), kind) for n in (start, start + step * graph.between(2, 4), step)]
    with_input(graph, graph.op("Range", ends))


@operator("Trilu")
def trilu(graph):
    value = graph.image(2, 4, rank=4) if graph.chance(0.3) else graph.shaped(graph.real(), 3)
    inputs = [value] + ([graph.const(np.array(graph.between(-1, 1)), np.int64)] if graph.chance(0.5) else [])
    graph.op("Trilu", inputs, **({"upper": graph.between(0, 1)} if graph.chance(0.7) else {}))

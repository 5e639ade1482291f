"""Functions element by element: of one number, of several, comparisons, truths, bits, types."""

import numpy as np
from onnx import TensorProto

from fuzz.graph import Graph, Unsuitable, Value
from fuzz.registry import each, operator

# Where a function of one number is defined and does not grow beyond what a circuit may hold. A lookup table has a row for each number
# that its function may be given, so those are kept near each other: mostly within half a unit, see `narrow`.
DOMAINS = {
    "Acos": (-0.95, 0.95), "Acosh": (1.05, 3), "Asin": (-0.95, 0.95), "Atan": (-2, 2), "Atanh": (-0.9, 0.9), "Cosh": (-2, 2),
    "Exp": (-3, 2), "Log": (0.1, 3), "Reciprocal": (0.2, None), "Sinh": (-2, 2), "Sqrt": (0, None), "Tan": (-1.2, 1.2), "Erf": (-3, 3),
    "Sigmoid": (-8, 8), "Tanh": (-4, 4), "Softplus": (-4, 4), "Sin": (-7, 7), "Cos": (-7, 7), "Asinh": (-3, 3), "Mish": (-4, 4),
    "HardSwish": (-5, 5), "Softsign": (-5, 5),
}
WITHOUT_TABLE = {"Reciprocal", "Sqrt", "HardSwish", "Softsign"}
UNARY = "Abs Neg Sign Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor Log Reciprocal Round Sigmoid Sin Sinh Sqrt Tan Tanh"
ACTIVATIONS = "Softplus Softsign HardSwish Mish Relu"
# Each with its attributes, and numbers to choose them from.
WITH_NUMBERS = {
    "Celu": {"alpha": (0.5, 1.0, 2.0)}, "Elu": {"alpha": (0.5, 1.0, 2.0)},
    "HardSigmoid": {"alpha": (0.1, 0.2, 0.5), "beta": (0.3, 0.5)}, "LeakyRelu": {"alpha": (0.01, 0.1, 0.5)},
    "Selu": {"alpha": (1.0, 1.6732), "gamma": (1.0, 1.0507)}, "Shrink": {"lambd": (0.25, 0.5), "bias": (0.0, 0.25, 0.5)},
    "Swish": {"alpha": (1.0, 0.5)}, "ThresholdedRelu": {"alpha": (0.25, 0.5, 1.0)},
}


def unary(graph: Graph, name: str) -> Value:
    if name in ("Abs", "Neg", "Sign") and graph.chance(0.25):
        return graph.op(name, [graph.whole()])
    low, high = DOMAINS.get(name, (None, None))
    if name in DOMAINS and name not in WITHOUT_TABLE:
        low, high = narrow(graph, low, high)
    return graph.op(name, [graph.real(low, high, only32=False)])


def narrow(graph: Graph, low: float, high: float) -> tuple[float, float]:
    """A part of the domain that needs a small table, mostly."""
    if graph.chance(0.03):
        return low, high
    width = min(high - low, graph.choose([0.25, 0.25, 0.4, 0.5]))
    start = float(np.round(graph.rng.uniform(low, high - width), 2))
    return start, start + width


def with_numbers(graph: Graph, name: str) -> None:
    options = WITH_NUMBERS[name]
    chosen = {key: graph.choose(values) for key, values in options.items() if graph.chance(0.7)}
    low, high = narrow(graph, -3, 3) if name in ("Celu", "Elu", "Selu", "Swish") else (-5, 5)
    graph.op(name, [graph.real(low, high, only32=False)], **chosen)


each(UNARY, unary)
each(ACTIVATIONS, unary)
each(" ".join(WITH_NUMBERS), with_numbers)


@operator("Gelu")
def gelu(graph):
    graph.op("Gelu", [graph.real(*narrow(graph, -4, 4))], **({"approximate": "tanh"} if graph.chance(0.4) else {}))


@operator("Clip")
def clip(graph):
    value = graph.real()
    low, high = sorted(np.round(np.quantile(value.data, [0.2, 0.8]), 2).astype(value.dtype))
    if graph.opset < 11:
        graph.op("Clip", [value], min=float(low), max=float(high))
        return
    bounds = [graph.const(low, value.dtype), graph.const(high, value.dtype)]
    graph.op("Clip", [value, *graph.choose([bounds, bounds[:1], [None, bounds[1]]])])


@operator("PRelu")
def p_relu(graph):
    value = graph.real(-5, 5)
    slope = graph.choose([(1,), value.shape, value.shape[-1:]])
    graph.op("PRelu", [value, graph.normal(value, *slope, scale=0.5)])


# ---- of several numbers

def partner(graph: Graph, value: Value, low: float | None = None, high: float | None = None) -> Value:
    """Another value of its type, of a shape that fits: weights, or a value of the graph, or itself under a function."""
    if graph.chance(0.35):
        other = graph.pick((value.dtype,), lambda one: one is not value and fits(one.shape, value.shape))
        if other is not None:
            return graph.within(other, low, high) if low is not None else other
    shape = graph.choose([(), (1,), value.shape, value.shape[-1:], tuple(1 if graph.chance(0.5) else n for n in value.shape)])
    if np.issubdtype(value.dtype, np.integer):
        return graph.const(graph.rng.integers(low if low is not None else -5, (high or 5) + 1, shape), value.dtype)
    return graph.const(np.round(graph.rng.uniform(low if low is not None else -2, high or 2, shape), 3), value.dtype)


def fits(one, other) -> bool:
    try:
        return np.prod(np.broadcast_shapes(one, other)) <= 48
    except ValueError:
        return False


def number(graph: Graph, share_of_ints: float = 0.25) -> Value:
    return graph.whole() if graph.chance(share_of_ints) else graph.real(-30, 30, only32=False)


def swapped(graph: Graph, pair: list[Value]) -> list[Value]:
    return pair[::-1] if graph.chance(0.4) else pair


def arithmetic(graph: Graph, name: str) -> None:
    value = number(graph)
    graph.op(name, swapped(graph, [value, partner(graph, value)]))


def of_many(graph: Graph, name: str) -> None:
    value = number(graph, 0.2 if name in ("Max", "Min") and graph.opset >= 12 else 0.0)
    inputs = [value] + [partner(graph, value) for _ in range(graph.choose([0, 1, 1, 2]))]
    graph.op(name, inputs)


each("Add Sub Mul", arithmetic)
each("Max Min Sum Mean", of_many)


@operator("Div")
def div(graph):
    if graph.chance(0.25):
        value = graph.whole()
        divisor = graph.const(graph.choose([2, 3, -4, 7]), value.dtype)
        graph.op("Div", [value, divisor])
        return
    value = graph.real(-30, 30, only32=False)
    kind = graph.between(0, 2)
    if kind == 0:
        graph.op("Div", [value, partner(graph, value, 0.3, 4)])
    elif kind == 1:
        graph.op("Div", [graph.normal(value, *value.shape[-1:]), graph.within(value, 0.3, None)])
    else:
        positive = graph.within(value, 0.3, 8)
        graph.op("Div", [partner(graph, positive), positive])


@operator("Mod")
def modulo(graph):
    if graph.chance(0.5):
        value = graph.whole()
        graph.op("Mod", [value, graph.const(graph.choose([2, 3, 5, -3]), value.dtype)], **({"fmod": 1} if graph.chance(0.3) else {}))
    else:
        value = graph.real(-10, 10)
        graph.op("Mod", [value, graph.const(np.float32(graph.choose([1.5, 2.0, 0.75])), value.dtype)], fmod=1)


@operator("Pow")
def power(graph):
    exponent = graph.choose([2.0, 3.0, 0.5, -1.0, 1.5, 1.0, 0.0])
    low = 0.2 if exponent != int(exponent) or exponent < 0 else -6
    value = graph.real(low, 6)
    graph.op("Pow", [value, graph.const(np.float32(exponent), value.dtype)])


@operator("BitShift")
def bit_shift(graph):
    # ONNX has it of unsigned numbers alone.
    value = graph.op("Cast", [graph.whole(0, 20)], to=TensorProto.UINT32)
    shifted = graph.op("BitShift", [value, graph.const(graph.between(0, 3), np.uint32)], direction=graph.choose(["LEFT", "RIGHT"]))
    graph.op("Cast", [shifted], to=TensorProto.INT64)


def bits(graph: Graph, name: str) -> None:
    value = graph.whole()
    graph.op(name, [value] if name == "BitwiseNot" else [value, partner(graph, value, 0, 15)])


each("BitwiseAnd BitwiseOr BitwiseXor BitwiseNot", bits)


# ---- truths

def compare(graph: Graph, name: str) -> None:
    value = number(graph, 0.7 if name == "Equal" else 0.3)
    if graph.chance(0.6):
        other = graph.const(graph.median(value).astype(value.dtype), value.dtype)
    else:
        other = partner(graph, value)
    graph.op(name, swapped(graph, [value, other]))


def logic(graph: Graph, name: str) -> None:
    one = graph.truth()
    other = graph.pick((np.bool_,), lambda value: value is not one and fits(value.shape, one.shape))
    if other is None:
        other = graph.const(graph.rng.random(one.shape[-1:]) < 0.5, bool)
    graph.op(name, [one, other])


each("Equal Greater GreaterOrEqual Less LessOrEqual", compare)
each("And Or Xor", logic)
each("Not", lambda graph, name: graph.op(name, [graph.truth()]))


def guard(graph: Graph, name: str) -> None:
    """As models guard themselves: another number where this one is none."""
    value = graph.real()
    found = graph.op(name, [value], **({"detect_negative": 0} if name == "IsInf" and graph.chance(0.3) else {}))
    graph.op("Where", [found, graph.const(np.float32(0.5)), value])


each("IsNaN IsInf", guard)


@operator("Where")
def where(graph):
    condition = graph.truth()
    value = graph.pick((np.float32, np.int64), lambda one: fits(one.shape, condition.shape))
    if value is None:
        value = graph.const(np.round(graph.rng.normal(size=condition.shape), 3), np.float32)
    other = partner(graph, value)
    if not fits(np.broadcast_shapes(value.shape, other.shape), condition.shape):
        raise Unsuitable("shapes")
    graph.op("Where", [condition, *swapped(graph, [value, other])])


# ---- types

@operator("Cast")
def cast(graph):
    value = graph.choose(graph.values)
    types = [TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.DOUBLE]
    graph.op("Cast", [value], to=graph.choose(types))


@operator("CastLike")
def cast_like(graph):
    value = graph.choose(graph.values)
    graph.op("CastLike", [value, graph.const(np.zeros(1), graph.choose([np.float32, np.int64, np.bool_, np.int32]))])

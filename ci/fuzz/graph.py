"""A graph that grows node by node, with what each value is on every row of a sample: the next operator sees the numbers that it gets."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

onnxruntime.set_default_logger_severity(4)

FLOATS = (np.float32, np.float64)
INTS = (np.int64, np.int32)
# Of one value: more makes circuits that say nothing new.
MOST_ELEMENTS = 48


class Unsuitable(Exception):
    """This operator cannot be added here: another attempt may."""


@dataclass(eq=False)
class Value:
    """A tensor of the graph: `data` has the rows of the sample first."""

    name: str
    data: np.ndarray
    is_constant: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape[1:]

    @property
    def rank(self) -> int:
        return self.data.ndim - 1

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def dtype(self):
        return self.data.dtype.type


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """ONNX Runtime on one thread, without rewriting: what ONNX says, in its order."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_rows(model: onnx.ModelProto, feeds: dict[str, np.ndarray], rows: int) -> list[list[np.ndarray]]:
    """Each output on each of the rows; each feed has the rows first."""
    runner = session(model)
    outputs: list[list[np.ndarray]] = [[] for _ in runner.get_outputs()]
    for row in range(rows):
        for kept, made in zip(outputs, runner.run(None, {name: np.asarray(data[row]) for name, data in feeds.items()})):
            kept.append(np.asarray(made, np.int64 if np.asarray(made).dtype.str == "<i8" else None))  # not its twin, longlong
    return outputs


def info(name: str, data: np.ndarray, shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(data.dtype), shape)


def ir_version(opset: int) -> int:
    """An old one for an old opset, so that both are tried; ONNX Runtime's limit for a new one."""
    return 4 if opset < 9 else 8 if opset < 18 else 10 if opset < 24 else 12


class Graph:
    """Nodes, weights, and the values that are there to be used."""

    def __init__(self, rng: np.random.Generator, opset: int, rows: int):
        self.rng, self.opset, self.rows = rng, opset, rows
        self.inputs: list[Value] = []
        self.values: list[Value] = []
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.used: set[str] = set()
        self.number = 0

    def name(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}{self.number}"

    def add_input(self, name: str, data: np.ndarray) -> Value:
        value = Value(name, data)
        self.inputs.append(value)
        self.values.append(value)
        return value

    # ---- values to use

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def choose(self, options):
        return options[int(self.rng.integers(len(options)))]

    def between(self, low: int, high: int) -> int:
        """From `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def const(self, array, dtype=None) -> Value:
        """A weight; now and then as a Constant node."""
        array = np.asarray(array, dtype)
        if array.dtype == np.float64 and dtype is None:
            array = array.astype(np.float32)
        name = self.name("w")
        if self.chance(0.05):
            self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        self.weights[name] = array
        return Value(name, np.broadcast_to(array, (self.rows, *array.shape)), True)

    def normal(self, like: Value, *shape: int, scale: float = 1.0) -> Value:
        """Weights of the type of another value."""
        if like.dtype in INTS:
            return self.const(self.rng.integers(-3, 4, shape), like.dtype)
        return self.const(np.round(self.rng.normal(size=shape) * scale, 3), like.dtype)

    def pick(self, types, accept=lambda value: True) -> Value | None:
        """A value of one of the types: mostly one that nothing uses yet, the newest first."""
        fitting = [value for value in self.values if value.dtype in types and accept(value)]
        if not fitting:
            return None
        fresh = [value for value in fitting if value.name not in self.used]
        if fresh and self.chance(0.85):
            return fresh[-1]
        return self.choose(fitting)

    def real(self, low: float | None = None, high: float | None = None, only32: bool = True) -> Value:
        """A floating-point value whose numbers lie between low and high."""
        value = self.pick(FLOATS)
        if value is None:
            # Of a truth or a whole number.
            value = self.op("Cast", [self.choose(self.values)], to=TensorProto.FLOAT)
        if value.dtype == np.float64 and (only32 or self.chance(0.7)):
            value = self.op("Cast", [value], to=TensorProto.FLOAT)
        return value if low is None and high is None else self.within(value, low, high)

    def within(self, value: Value, low: float | None, high: float | None) -> Value:
        """The value, moved and scaled to lie between low and high where it does not."""
        least, most = float(value.data.min()), float(value.data.max())
        wanted = high if high is not None else max(most, low + 2.0)
        floor = low if low is not None else min(least, high - 2.0)
        if floor <= least and most <= wanted:
            return value
        if most - least > 12 * (wanted - floor):
            # A factor as small as that is rounded away.
            middle = float(np.median(value.data))
            value = self.clip(value, middle - 2 * (wanted - floor), middle + 2 * (wanted - floor))
            least, most = float(value.data.min()), float(value.data.max())
        factor = min(1.0, 0.9 * (wanted - floor) / max(most - least, 1e-3))
        if factor < 1.0:
            value = self.op("Mul", [value, self.const(np.float32(f"{factor:.2g}"), value.dtype)])
        middle = (float(value.data.min()) + float(value.data.max())) / 2
        target = (wanted + floor) / 2 if low is not None and high is not None else (
            low + (float(value.data.max()) - middle) * 1.1 if low is not None else high - (float(value.data.max()) - middle) * 1.1)
        return self.op("Add", [value, self.const(np.float32(f"{target - middle:.3g}"), value.dtype)])

    def clip(self, value: Value, low: float, high: float) -> Value:
        low, high = float(f"{low:.3g}"), float(f"{high:.3g}")
        if self.opset < 11:
            if value.dtype != np.float32:
                value = self.op("Cast", [value], to=TensorProto.FLOAT)
            return self.op("Clip", [value], min=low, max=high)
        return self.op("Clip", [value, self.const(low, value.dtype), self.const(high, value.dtype)])

    def whole(self, low: int = -20, high: int = 20) -> Value:
        """Whole numbers between low and high."""
        def inside(value):
            return value.data.min() >= low and value.data.max() <= high

        value = self.pick(INTS, inside)
        if value is None or self.chance(0.1):
            number = self.real(max(low, -9) + 0.2, min(high, 9) + 0.8)
            number = self.op("Floor", [number]) if self.chance(0.5) else number
            value = self.op("Cast", [number], to=TensorProto.INT64)
            if not inside(value):
                raise Unsuitable("whole numbers out of range")
        return value

    def truth(self) -> Value:
        value = self.pick((np.bool_,))
        if value is None or self.chance(0.1):
            number = self.real()
            value = self.op("Greater", [number, self.const(self.median(number), number.dtype)])
        return value

    def median(self, value: Value):
        return np.round(np.median(value.data), 2)

    def shaped(self, value: Value, rank: int, least: int = 4, most: int = 24) -> Value:
        """The value with so many axes, the first of which is a batch of one."""
        size = value.size
        if not least <= size <= most or (rank > 2 and value.rank != rank and size % 2):
            if value.dtype in INTS:
                value = self.op("Cast", [value], to=TensorProto.FLOAT)
            flat = self.reshape(value, (1, size))
            size = self.choose([count for count in (4, 6, 8, 12, 16, 24) if least <= count <= most] or [least])
            value = self.op("MatMul", [flat, self.normal(value, flat.size, size, scale=flat.size ** -0.5)])
        if value.rank == rank and value.shape[0] == 1:
            return value
        shape = [1] * rank
        left = size
        for axis in range(1, rank - 1):
            shape[axis] = self.choose([n for n in range(1, min(left, 6) + 1) if left % n == 0])
            left //= shape[axis]
        shape[-1] = left
        return self.reshape(value, tuple(shape))

    def image(self, low: int = 2, high: int = 4, channels: int | None = None, rank: int = 4) -> Value:
        """A float value [1, channels, places…]."""
        value = self.real()
        shape = (1, channels or self.between(1, 3), *[self.between(low, high) for _ in range(rank - 2)])
        if value.shape == shape:
            return value
        flat = self.reshape(value, (1, value.size))
        if value.size != np.prod(shape):
            weights = self.normal(value, value.size, int(np.prod(shape)), scale=value.size ** -0.5)
            flat = self.op("MatMul", [flat, weights])
        return self.reshape(flat, shape)

    def reshape(self, value: Value, shape: tuple[int, ...]) -> Value:
        return value if value.shape == shape else self.op("Reshape", [value, self.const(shape, np.int64)])

    def axis(self, value: Value, negative: bool = True) -> int:
        """One of its axes, not the batch where there is another."""
        at = self.between(1 if value.rank > 1 else 0, value.rank - 1)
        return at - value.rank if negative and self.chance(0.3) else at

    # ---- nodes

    def op(self, kind: str, inputs: list[Value | None], **attributes) -> Value:
        """A node with one output."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(self, kind: str, inputs: list[Value | None], count: int, captured: list[Value] = (), **attributes) -> list[Value]:
        """Adds a node and runs it on the sample; `captured` is what graphs inside it take from outside.

        Raises Unsuitable where ONNX Runtime refuses it, or a number that it gives is not finite or very large.
        """
        names = [value.name if value is not None else "" for value in inputs]
        outputs = [self.name("v") for _ in range(count)]
        node = helper.make_node(kind, names, outputs, name=self.name(f"{kind.lower()}_"), **attributes)
        made = self.evaluate(node, [value for value in [*inputs, *captured] if value is not None])
        self.nodes.append(node)
        self.used.update([*names, *(value.name for value in captured)])
        if any(value.size > 4 * MOST_ELEMENTS for value in made):
            raise Unsuitable("too large")
        # What does not depend on the input is no value to go on with by itself.
        self.values += [value for value in made if not value.is_constant]
        return made

    def evaluate(self, node: onnx.NodeProto, inputs: list[Value]) -> list[Value]:
        unique = {value.name: value for value in inputs}
        graph = helper.make_graph(
            [node], "node", [info(v.name, v.data, v.shape) for v in unique.values()],
            [onnx.ValueInfoProto(name=name) for name in node.output])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = ir_version(self.opset)
        is_constant = all(value.is_constant for value in inputs)
        try:
            outputs = run_rows(model, {name: value.data for name, value in unique.items()}, 1 if is_constant else self.rows)
        except Exception as error:  # whatever ONNX Runtime raises, it will not run this node
            raise Unsuitable(f"{node.op_type}: {str(error)[:200]}") from None
        made = []
        for name, rows in zip(node.output, outputs):
            if len({row.shape for row in rows}) != 1:
                raise Unsuitable("its shape depends on the data")
            data = np.broadcast_to(rows[0], (self.rows, *rows[0].shape)) if is_constant else np.stack(rows)
            if data.size == 0 or (data.dtype != bool and not (np.isfinite(data).all() and np.abs(data).max() < 1e5)):
                raise Unsuitable(f"{node.op_type}: not finite, too large or nothing")
            made.append(Value(name, data, is_constant))
        return made

    # ---- the whole

    def model(self, outputs: list[Value], dims: str) -> onnx.ModelProto:
        """The model of these outputs, without what they do not need; `dims` is the batch of its inputs: "one", a name, or "" for open."""
        needed, kept = {value.name for value in outputs}, []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                kept.insert(0, node)
                needed |= set(node.input) | inner_names(node)
        written = {name for node in kept for name in node.output}

        def batch(value):
            if value.shape[:1] != (1,) or dims == "one":
                return value.shape
            return [dims or None, *value.shape[1:]]

        initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in self.weights.items()
                        if name in needed and name not in written]
        graph = helper.make_graph(
            kept, "fuzz", [info(v.name, v.data, batch(v)) for v in self.inputs if v.name in needed],
            [info(v.name, v.data, batch(v)) for v in outputs], initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], producer_name="fuzz")
        model.ir_version = ir_version(self.opset)
        onnx.checker.check_model(model)
        return model


def inner_names(node: onnx.NodeProto) -> set[str]:
    """What the graphs inside a node may take from outside."""
    graphs = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    return {name for graph in graphs for inner in graph.node for name in inner.input}


def operators(model: onnx.ModelProto) -> set[str]:
    """The operators of a model, those of graphs inside its nodes too."""
    found: set[str] = set()
    graphs = [model.graph]
    while graphs:
        for node in graphs.pop().node:
            found.add(node.op_type)
            graphs += [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    return found

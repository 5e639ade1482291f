"""One graph of a seed: its model, the sample, rows to try, and what ONNX Runtime says of all of them."""

from dataclasses import dataclass, field

import numpy as np
import onnx

from fuzz import control, elementwise, indexing, layers, layout, lines
from fuzz.graph import Graph, Unsuitable, Value, operators, run_rows
from fuzz.registry import OPERATORS, opsets

# Their import registers their operators.
FAMILIES = (control, elementwise, indexing, layers, layout, lines)
# The least that `setup` takes.
SAMPLE_ROWS = 200
OPSETS = range(7, 24)
# For operators that came later.
LATER_OPSETS = range(24, 27)
ATTEMPTS = 60
OUTPUT_TYPES = (np.float32, np.float64, np.int64, np.int32, np.bool_)
# What models are made of mostly.
COMMON = (
    "Add Sub Mul Div Relu Sigmoid Tanh MatMul Gemm Clip Abs Neg Max Min ReduceSum ReduceMean Concat "
    "Slice Transpose Reshape Where Greater Softmax"
).split()
VISIBILITIES = {
    "input-visibility": ["public"] * 17 + ["private", "private", "hashed/public"],
    "output-visibility": ["public"] * 19 + ["hashed/public"],
    "param-visibility": ["fixed"] * 17 + ["private", "private", "hashed/public"],
}


@dataclass
class Case:
    """A graph and what it is tried with. Arrays of rows are by input; they have the rows first."""

    number: int
    model: onnx.ModelProto
    operators: set[str]
    sample: dict[str, np.ndarray]
    probes: dict[str, np.ndarray]
    kinds: list[str]
    # Of each output, on the sample's rows and on the probes.
    reference: list[np.ndarray]
    expected: list[list[np.ndarray]]
    visibilities: dict[str, str] = field(default_factory=dict)
    lookup_margin: float | None = None
    opset: int = 0


def case_of(seed: int, number: int, is_small: bool = False) -> Case:
    """The graph of that number. It depends on seed and number alone; a small one holds one operator, and what makes its inputs."""
    reasons: list[str] = []
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, number, attempt])
        try:
            return attempted(rng, leads(seed, number)[:1] if is_small else leads(seed, number), number, is_small)
        except (Unsuitable, onnx.checker.ValidationError) as error:
            reasons.append(str(error)[:150])
        except Exception as error:  # ONNX Runtime's own kinds
            if not type(error).__module__.startswith("onnx"):
                raise
            reasons.append(str(error)[:150])
    raise Unsuitable(f"graph {number} ({leads(seed, number)}): {'; '.join(dict.fromkeys(reasons))[:600]}")


def leads(seed: int, number: int) -> list[str]:
    """Two or three operators: each is in turn, in orders of its own each time, so that all of them come alike often. Those that only
    later opsets have no other graph can hold: they come twice."""
    names = sorted(OPERATORS) + [name for name in sorted(OPERATORS) if not opsets(name, OPSETS)]
    cycle, place = divmod(number, len(names))
    orders = [np.random.default_rng([seed, cycle, 10**6 + turn]).permutation(len(names)) for turn in range(2 + number % 2)]
    return [names[order[place]] for order in orders]


def attempted(rng: np.random.Generator, wanted: list[str], number: int, is_small: bool) -> Case:
    common = set(opsets(wanted[0], OPSETS)) or set(opsets(wanted[0], LATER_OPSETS))
    for name in wanted[1:]:
        common = common & set(opsets(name, range(OPSETS.start, LATER_OPSETS.stop))) or common
    common = sorted(common)
    modern = [version for version in common if version >= 13]
    opset = int(rng.choice(modern if modern and rng.random() < 0.6 else common))
    graph = Graph(rng, opset, SAMPLE_ROWS)
    for at in range(1 if is_small else int(rng.choice([1, 1, 1, 2, 3]))):
        add_input(graph, f"x{at}" if at else "x")
    count = 0 if is_small else int(rng.choice([0, 0, 1, 1, 2]))
    fillers = [str(rng.choice(COMMON if rng.random() < 0.6 else sorted(OPERATORS))) for _ in range(count)]
    before = int(rng.integers(len(fillers) + 1))
    for name in fillers[:before]:
        add_filler(graph, name)
    OPERATORS[wanted[0]](graph)
    for name in fillers[before:] + wanted[1:]:
        add_filler(graph, name)
    outputs = outputs_of(graph)
    model = graph.model(outputs, "one" if is_small else str(rng.choice(["one"] * 6 + ["", "batch_size", "batch", "N"])))
    found = operators(model)
    if wanted[0] not in found:
        raise Unsuitable(f"{wanted[0]} has no part in the outputs")
    names = {value.name for value in model.graph.input}
    sample = {value.name: value.data for value in graph.inputs if value.name in names}
    kinds = ["fresh", *rng.choice(["zeros", "powers", "ties", "extreme", "beyond"], 2, replace=False)]
    probes = {name: np.stack([probe(rng, data, kind) for kind in kinds]) for name, data in sample.items()}
    reference = [np.stack(rows) for rows in run_rows(model, sample, SAMPLE_ROWS)]
    return Case(
        number, model, found, sample, probes, kinds, reference, expected(model, probes, len(kinds)),
        {name: options[0] if is_small else str(rng.choice(options)) for name, options in VISIBILITIES.items()},
        float(rng.choice([1.0, 3.0], p=[0.97, 0.03])) if rng.random() < 0.93 else None, opset)


def expected(model: onnx.ModelProto, probes: dict[str, np.ndarray], rows: int) -> list[list[np.ndarray]]:
    """What ONNX Runtime says of the rows, output by output; not a number where it says nothing."""
    outputs: list[list[np.ndarray]] = []
    for row in range(rows):
        try:
            made = [rows[0] for rows in run_rows(model, {name: data[row:row + 1] for name, data in probes.items()}, 1)]
        except Exception:  # an index out of its axis, for one
            made = [np.full(1, np.nan) for _ in model.graph.output]
        outputs.append([np.asarray(values, np.float64).ravel() for values in made])
    return [list(rows) for rows in zip(*outputs)]


def add_filler(graph: Graph, name: str) -> None:
    if not opsets(name, range(graph.opset, graph.opset + 1)):
        return
    try:
        OPERATORS[name](graph)
    except Unsuitable:
        pass


def outputs_of(graph: Graph) -> list[Value]:
    """What nothing uses: one or a few outputs, at least one of which depends on the row."""
    given = {value.name for value in graph.inputs}
    leaves = [value for value in graph.values
              if value.name not in graph.used and value.name not in given and value.dtype in OUTPUT_TYPES and value.size <= 64]
    varying = [value for value in leaves if (value.data != value.data[:1]).any()]
    if not varying:
        raise Unsuitable("no output depends on the input")
    kept = varying[-1:] if graph.chance(0.5) else varying[-3:]
    if graph.chance(0.05):
        # What other nodes use may be an output too.
        inner = [value for value in graph.values if value.name in graph.used and value.name not in given and value.dtype in OUTPUT_TYPES]
        kept += inner[-1:]
    return kept


# ---- inputs

def add_input(graph: Graph, name: str) -> None:
    rng = graph.rng
    kind = graph.choose(["float32"] * 10 + ["int64"] * 4 + ["bool", "double", "int32"])
    shape = graph.choose([(1, 4)] * 2 + [(1, int(rng.integers(1, 7)))] * 4 + [(1, 2, 3), (1, 1, 4, 4), (1, 2, 2, 2), (3,)])
    if kind in ("float32", "double"):
        data = np.stack([floats(graph) for _ in range(int(np.prod(shape)))], axis=-1)
        data = data.astype(np.float32 if kind == "float32" else np.float64)
    elif kind == "bool":
        data = rng.random((SAMPLE_ROWS, int(np.prod(shape)))) < 0.5
    else:
        low, high = graph.choose([(0, 3), (0, 3), (0, 9), (0, 9), (-9, 9), (-9, 9), (0, 1), (0, 1), (-100, 1000)])
        data = rng.integers(low, high + 1, (SAMPLE_ROWS, int(np.prod(shape)))).astype(kind)
    graph.add_input(name, data.reshape(SAMPLE_ROWS, *shape))


def floats(graph: Graph) -> np.ndarray:
    """A column as features come: smooth, skewed, counted or flagged, of any size."""
    rng, rows = graph.rng, SAMPLE_ROWS
    if graph.chance(0.02):
        # Counts and sums that were never scaled.
        return 2.0 ** rng.integers(0, 15, rows)
    scale = float(rng.choice([0.05, 1, 1, 1, 3, 20]))
    return graph.choose([
        lambda: rng.normal(size=rows) * scale, lambda: rng.normal(size=rows), lambda: rng.uniform(-1, 1, rows) * scale,
        lambda: rng.uniform(0, 2, rows) * scale, lambda: rng.exponential(scale, rows), lambda: rng.integers(-4, 9, rows).astype(float),
        lambda: (rng.random(rows) < 0.5).astype(float), lambda: 2.0 ** rng.integers(-3, 5, rows),
    ])()


def probe(rng: np.random.Generator, data: np.ndarray, kind: str) -> np.ndarray:
    """A row of that kind. All but "beyond" keep to what the sample has of each number."""
    low, high = data.min(axis=0), data.max(axis=0)
    if data.dtype == bool:
        return {"zeros": np.zeros_like(low), "ties": np.ones_like(low)}.get(kind, data[int(rng.integers(len(data)))])
    if kind == "fresh":
        one, other = data[int(rng.integers(len(data)))], data[int(rng.integers(len(data)))]
        row = np.where(rng.random(low.shape) < 0.5, one, other)
    elif kind == "zeros":
        row = np.zeros_like(low)
    elif kind == "powers":
        row = (2.0 ** rng.integers(-3, 15, low.shape)) * rng.choice([-1, 1], low.shape)
    elif kind == "ties":
        row = np.full(low.shape, np.median(data))
    elif kind == "extreme":
        row = np.where(rng.random(low.shape) < 0.5, low, high)
    else:
        return np.round(high * 3 + 1).astype(data.dtype)
    return np.clip(np.round(row) if np.issubdtype(data.dtype, np.integer) else row, low, high).astype(data.dtype)

"""whole_models.py FOLDER: models as modelers bring them, each with inputs and with what ONNX Runtime makes of them.

A folder each, as onnx_cases.py has them. The first are whole networks with random weights; `old_*` are operators in the forms
that they had in older opsets, which ONNX's own cases no longer show.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper

FLOAT, DOUBLE, INT32, INT64, BOOL = (
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL)


class Graph:
    """A model while it is built: `g("Relu", "x")` adds a node and gives its output's name."""

    def __init__(self, opset: int = 17, seed: int = 7):
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights, self.inputs, self.feeds = [], [], [], {}

    def __call__(self, op: str, *inputs: str, outputs: int = 1, **attributes):
        names = [f"{op}_{len(self.nodes)}_{at}" for at in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"{op}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def input(self, name: str, value: np.ndarray) -> str:
        self.feeds[name] = value
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        self.inputs.append(helper.make_tensor_value_info(name, kind, value.shape))
        return name

    def constant(self, value, dtype=np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(self, *shape: int, scale: float | None = None) -> str:
        scale = scale or 1 / np.sqrt(max(1, np.prod(shape[1:])))
        return self.constant(self.random.standard_normal(shape) * scale)

    def normal(self, *shape: int) -> np.ndarray:
        return self.random.standard_normal(shape).astype(np.float32)

    def write(self, folder: Path, *outputs: str) -> None:
        graph = helper.make_graph(
            self.nodes, folder.name, self.inputs, [helper.make_empty_tensor_value_info(name) for name in outputs], self.weights)
        model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        folder.mkdir()
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        for at, value in enumerate(self.feeds.values()):
            (folder / f"input_{at}.pb").write_bytes(numpy_helper.from_array(value).SerializeToString())
        for at, value in enumerate(session.run(list(outputs), self.feeds)):
            (folder / f"output_{at}.pb").write_bytes(numpy_helper.from_array(np.asarray(value)).SerializeToString())


def mlp(root: Path) -> None:
    g = Graph()
    x = g.input("x", g.normal(1, 73))
    for size, last in ((256, 73), (128, 256)):
        x = g("Relu", g("Gemm", x, g.weight(size, last), g.weight(size), transB=1))
    g.write(root / "mlp", g("Sigmoid", g("Gemm", x, g.weight(1, 128), g.weight(1), transB=1)))


def cnn(root: Path) -> None:
    g = Graph()
    x = g.input("x", g.normal(1, 3, 32, 32))
    x = g("Relu", g("Conv", x, g.weight(16, 3, 3, 3), g.weight(16), pads=[1, 1, 1, 1]))
    x = g("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = g("Conv", x, g.weight(32, 16, 3, 3), pads=[1, 1, 1, 1])
    x = g("BatchNormalization", x, g.weight(32), g.weight(32), g.weight(32), g.constant(g.random.random(32) + 0.5))
    x = g("AveragePool", g("Relu", x), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = g("Conv", x, g.weight(32, 1, 3, 3), g.weight(32), group=32, auto_pad="SAME_UPPER", strides=[2, 2])
    x = g("Conv", g("HardSwish", x), g.weight(64, 32, 1, 1), g.weight(64))
    x = g("Flatten", g("GlobalAveragePool", g("Relu", x)))
    g.write(root / "cnn", g("Softmax", g("Gemm", x, g.weight(10, 64), g.weight(10), transB=1)))


def recurrent(root: Path, kind: str, gates: int, **attributes) -> None:
    g = Graph()
    hidden, steps, inputs = 24, 12, 8
    x = g.input("x", g.normal(1, steps, inputs))
    x = g("Transpose", x, perm=[1, 0, 2])
    outputs = g(kind, x, g.weight(2, gates * hidden, inputs, scale=0.3), g.weight(2, gates * hidden, hidden, scale=0.3),
                g.weight(2, 2 * gates * hidden, scale=0.1), hidden_size=hidden, direction="bidirectional", outputs=2,
                **attributes)
    last = g("Reshape", g("Transpose", outputs[1], perm=[1, 0, 2]), g.constant([1, -1], np.int64))
    states = g("Reshape", g("Transpose", outputs[0], perm=[0, 2, 1, 3]), g.constant([steps, 1, -1], np.int64))
    second = g(kind, states, g.weight(1, gates * hidden, 2 * hidden, scale=0.3), g.weight(1, gates * hidden, hidden, scale=0.3),
               hidden_size=hidden, outputs=2, **attributes)
    both = g("Concat", last, g("Squeeze", second[1], g.constant([0], np.int64)), axis=1)
    name = kind.lower() + "".join(f"_{key}" for key, value in attributes.items() if value)
    g.write(root / name, g("Gemm", both, g.weight(1, 3 * hidden), transB=1), second[0])


def attention(root: Path) -> None:
    g = Graph()
    length, width, heads = 10, 32, 4
    x = g.input("x", g.normal(1, length, width))
    y = g("LayerNormalization", x, g.weight(width, scale=1), g.weight(width), axis=-1)
    split = g.constant([1, length, heads, width // heads], np.int64)

    def part() -> str:
        return g("Reshape", g("Add", g("MatMul", y, g.weight(width, width)), g.weight(width)), split)

    q, v = (g("Transpose", part(), perm=[0, 2, 1, 3]) for _ in range(2))
    k = g("Transpose", part(), perm=[0, 2, 3, 1])
    scores = g("Div", g("MatMul", q, k), g.constant(np.sqrt(width / heads)))
    mask = g("Trilu", g.constant(np.ones((length, length)), bool), upper=0)
    scores = g("Softmax", g("Where", mask, scores, g.constant(-1e9)), axis=-1)
    y = g("Reshape", g("Transpose", g("MatMul", scores, v), perm=[0, 2, 1, 3]), g.constant([1, length, width], np.int64))
    x = g("Add", x, g("MatMul", y, g.weight(width, width)))
    y = g("MatMul", g("LayerNormalization", x, g.weight(width, scale=1), g.weight(width)), g.weight(width, 4 * width))
    # GELU as PyTorch exports it.
    half = g("Mul", y, g("Add", g("Erf", g("Div", y, g.constant(np.sqrt(2)))), g.constant(1)))
    y = g("MatMul", g("Mul", half, g.constant(0.5)), g.weight(4 * width, width))
    x = g("ReduceMean", g("Add", x, y), axes=[1], keepdims=0)
    g.write(root / "attention", g("Einsum", x, g.weight(width, 3), equation="bi,ij->bj"))


class Tree:
    """A random full tree: inner node i has the children 2i + 1 and 2i + 2; the leaves come last."""

    def __init__(self, g: Graph, depth: int, features: int):
        self.inner, self.leaves = 2**depth - 1, 2**depth
        self.features = g.random.integers(0, features, self.inner)
        self.thresholds = g.random.standard_normal(self.inner).astype(np.float32)
        self.values = g.random.standard_normal(self.leaves).astype(np.float32)


FEATURES, DEPTH, TREES = 12, 4, 20


def trees_gemm(root: Path) -> None:
    """hummingbird's GEMM form: which tests hold, which leaf they lead to, what it is worth."""
    g = Graph()
    x = g.input("x", g.normal(1, FEATURES))
    trees = [Tree(g, DEPTH, FEATURES) for _ in range(TREES)]
    inner, leaves = trees[0].inner, trees[0].leaves
    select = np.zeros((TREES * inner, FEATURES))
    paths, counts = np.zeros((TREES, leaves, inner)), np.zeros((TREES * leaves, 1))
    for t, tree in enumerate(trees):
        select[t * inner + np.arange(inner), tree.features] = 1
        for leaf in range(leaves):
            node = inner + leaf
            while node:
                parent, left = (node - 1) // 2, node % 2 == 1
                paths[t, leaf, parent] = 1 if left else -1
                counts[t * leaves + leaf] += left
                node = parent
    zero = g.constant(np.zeros(1))
    tests = g("Gemm", g.constant(select), x, zero, transB=1, alpha=1.0, beta=0.0)
    tests = g("Less", tests, g.constant(np.concatenate([tree.thresholds for tree in trees])[:, None]))
    tests = g("Cast", g("Reshape", tests, g.constant([TREES, inner, -1], np.int64)), to=FLOAT)
    reached = g("Reshape", g("MatMul", g.constant(paths), tests), g.constant([-1, 1], np.int64))
    reached = g("Equal", g("Cast", reached, to=INT64), g.constant(counts, np.int64))
    reached = g("Cast", g("Reshape", reached, g.constant([TREES, leaves, -1], np.int64)), to=FLOAT)
    worth = g("MatMul", g.constant(np.stack([tree.values for tree in trees])[:, None, :]), reached)
    total = g("ReduceSum", worth, g.constant([0], np.int64), keepdims=0)
    total = g("Transpose", g("Reshape", total, g.constant([1, -1], np.int64)), perm=[1, 0])
    both = g("Concat", g("Sub", g.constant(1), g("Sigmoid", total)), g("Sigmoid", total), axis=1)
    g.write(root / "trees_gemm", g("ArgMax", both, axis=1, keepdims=0), both)


def trees_traversal(root: Path) -> None:
    """hummingbird's tree-traversal form: all trees at once, a level a round."""
    g = Graph()
    x = g.input("x", g.normal(1, FEATURES))
    trees = [Tree(g, DEPTH, FEATURES) for _ in range(TREES)]
    size = trees[0].inner + trees[0].leaves
    features, thresholds = np.zeros((TREES, size), np.int64), np.zeros((TREES, size), np.float32)
    lefts, rights = (np.tile(np.arange(size), (TREES, 1)) for _ in range(2))
    values = np.zeros((TREES, size), np.float32)
    for t, tree in enumerate(trees):
        features[t, :tree.inner], thresholds[t, :tree.inner] = tree.features, tree.thresholds
        lefts[t, :tree.inner] = 2 * np.arange(tree.inner) + 1
        rights[t, :tree.inner] = 2 * np.arange(tree.inner) + 2
        values[t, tree.inner:] = tree.values
    offsets = np.arange(TREES)[:, None] * size
    tables = {name: g.constant(table.reshape(-1), dtype) for name, table, dtype in (
        ("features", features, np.int64), ("thresholds", thresholds, np.float32), ("values", values, np.float32),
        ("lefts", lefts + offsets, np.int64), ("rights", rights + offsets, np.int64))}
    rows = g("Reshape", g("Shape", x), g.constant([2], np.int64))
    batch = g("Gather", rows, g.constant(0, np.int64))
    shape = g("Concat", g("Unsqueeze", batch, g.constant([0], np.int64)), g.constant([TREES], np.int64), axis=0)
    node = g("Expand", g.constant(offsets.reshape(1, -1), np.int64), shape)
    flat = g.constant([-1], np.int64)
    for _ in range(DEPTH):
        index = g("Reshape", node, flat)
        feature = g("Reshape", g("Gather", tables["features"], index), shape)
        value = g("GatherElements", x, feature, axis=1)
        threshold = g("Reshape", g("Gather", tables["thresholds"], index), shape)
        left, right = (g("Reshape", g("Gather", tables[name], index), shape) for name in ("lefts", "rights"))
        node = g("Where", g("Less", value, threshold), left, right)
    worth = g("Gather", tables["values"], g("Reshape", node, flat))
    total = g("ReduceSum", g("Reshape", worth, shape), g.constant([1], np.int64), keepdims=1)
    g.write(root / "trees_traversal", g("Sigmoid", total), g("Cast", g("Greater", total, g.constant(0)), to=INT32))


def old(root: Path) -> None:
    """Operators whose inputs were attributes once, or whose meaning was another."""

    def case(name: str, opset: int, op: str, *shape: int, inputs=(), outputs: int = 1, **attributes) -> None:
        g = Graph(opset)
        x = g.input("x", g.normal(*shape))
        made = g(op, x, *(g.constant(*one) for one in inputs), outputs=outputs, **attributes)
        g.write(root / f"old_{name}", *([made] if outputs == 1 else made))

    ints = lambda *all: (list(all), np.int64)
    for op in ("L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"):
        case(f"reduce_{op.lower()}", 11, f"Reduce{op}", 2, 3, 4, axes=[-1, 0], keepdims=0)
        case(f"reduce_{op.lower()}_keep", 11, f"Reduce{op}", 2, 3, 4, axes=[1])
        case(f"reduce_{op.lower()}_all", 11, f"Reduce{op}", 2, 3, 4)
    case("reduce_sum_input", 13, "ReduceSum", 2, 3, 4, inputs=[ints(1)], keepdims=0)
    case("reduce_mean_input", 18, "ReduceMean", 2, 3, 4, inputs=[ints(1, 2)])
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        case(op.lower(), 11, op, 2, 3, 4)
        case(f"{op.lower()}_axis", 11, op, 2, 3, 4, axis=2)
        case(f"{op.lower()}_first", 7, op, 2, 3, 4, axis=0)
    case("clip", 7, "Clip", 3, 4, min=-0.5, max=0.5)
    case("clip_one", 7, "Clip", 3, 4, max=0.25)
    for mode in ("constant", "reflect", "edge"):
        case(f"pad_{mode}", 10, "Pad", 3, 4, pads=[1, 2, 2, 1], mode=mode)
    case("pad_value", 10, "Pad", 3, 4, pads=[1, -1, 0, 1], value=1.5)
    case("slice", 9, "Slice", 5, 6, starts=[1, -3], ends=[4, 100], axes=[0, 1])
    case("slice_all", 7, "Slice", 5, 6, starts=[0, 2], ends=[-1, 5])
    case("split", 11, "Split", 6, 4, outputs=3, split=[1, 2, 3], axis=0)
    case("split_equal", 7, "Split", 6, 4, outputs=2, axis=1)
    case("squeeze", 11, "Squeeze", 1, 3, 1, axes=[0])
    case("squeeze_all", 11, "Squeeze", 1, 3, 1)
    case("unsqueeze", 11, "Unsqueeze", 3, 4, axes=[0, 3])
    case("topk", 7, "TopK", 3, 5, outputs=2, k=2, axis=1)
    case("topk_input", 10, "TopK", 3, 5, inputs=[ints(3)], outputs=2, axis=-1)
    case("upsample", 7, "Upsample", 1, 2, 3, 3, scales=[1.0, 1.0, 2.0, 3.0], mode="nearest")
    case("upsample_linear", 7, "Upsample", 1, 2, 3, 3, scales=[1.0, 1.0, 2.0, 2.0], mode="linear")
    case("upsample_input", 9, "Upsample", 1, 2, 3, 3, inputs=[([1, 1, 2, 2],)], mode="nearest")
    case("resize", 10, "Resize", 1, 2, 4, 4, inputs=[([1, 1, 2, 1.5],)], mode="nearest")
    case("resize_linear", 10, "Resize", 1, 2, 4, 4, inputs=[([1, 1, 2, 1.5],)], mode="linear")
    for name, scales in (("half", [1, 1, 0.5, 0.5]), ("less", [1, 1, 0.6, 0.8]), ("mixed", [1, 1, 0.4, 1.7])):
        for mode in ("nearest", "linear"):
            case(f"resize_{name}_{mode}", 10, "Resize", 1, 2, 5, 7, inputs=[(scales,)], mode=mode)
            case(f"upsample_{name}_{mode}", 9, "Upsample", 1, 2, 5, 7, inputs=[([max(1, one) for one in scales],)], mode=mode)
    case("dropout", 7, "Dropout", 3, 4, ratio=0.7)
    case("batchnorm", 7, "BatchNormalization", 2, 3, 4, 4,
         inputs=[([1, 2, 3],), ([0.1, 0.2, 0.3],), ([0.5, -0.5, 0],), ([1, 0.5, 2],)])
    case("prelu", 7, "PRelu", 2, 3, 4, inputs=[([[0.1], [0.2], [0.3]],)])
    case("gemm", 7, "Gemm", 3, 4, inputs=[(np.ones((4, 2)),), ([1, 2],)], alpha=0.5, beta=2.0)
    case("gemm_no_bias", 11, "Gemm", 4, 3, inputs=[(np.ones((2, 4)),)], transA=1, transB=1)
    case("averagepool_ceil", 11, "AveragePool", 1, 2, 7, 7, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    case("averagepool_1d", 11, "AveragePool", 1, 2, 9, kernel_shape=[3], strides=[2], pads=[1, 1], count_include_pad=1)
    case("maxpool_1d", 11, "MaxPool", 1, 2, 9, kernel_shape=[3], strides=[2], auto_pad="SAME_LOWER")
    case("maxpool_places", 8, "MaxPool", 2, 2, 6, 6, outputs=2, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])
    case("lppool", 11, "LpPool", 1, 2, 6, 6, kernel_shape=[2, 2], p=3)
    weights = np.random.default_rng(3).standard_normal
    case("conv_1d", 11, "Conv", 1, 4, 9, inputs=[(weights((6, 2, 3)),)], group=2, dilations=[2], pads=[2, 1])
    case("conv_3d", 11, "Conv", 2, 2, 5, 5, 5, inputs=[(weights((3, 2, 2, 3, 2)),)], strides=[2, 1, 2], pads=[1, 0, 1, 0, 1, 1])
    case("conv_transpose_group", 11, "ConvTranspose", 2, 4, 5, 5, inputs=[(weights((4, 3, 3, 2)),), (weights(6),)],
         group=2, strides=[2, 3], output_padding=[1, 0], pads=[1, 0, 0, 1])
    case("conv_transpose_same", 11, "ConvTranspose", 1, 2, 5, 5, inputs=[(weights((2, 2, 3, 3)),)], strides=[2, 2],
         auto_pad="SAME_UPPER")
    case("cumsum", 11, "CumSum", 3, 4, inputs=[(1, np.int64)], reverse=1, exclusive=1)
    case("argmax", 11, "ArgMax", 3, 4, axis=-1, keepdims=0)
    case("einsum_diagonal", 12, "Einsum", 3, 3, equation="ii->i")
    case("einsum_three", 12, "Einsum", 2, 3, inputs=[(weights((3, 4)),), (weights((4, 2)),)], equation="ij,jk,ki->i")
    case("einsum_batches", 12, "Einsum", 2, 1, 3, 4, inputs=[(weights((1, 5, 4, 3)),)], equation="...ij,...jk->...ik")
    case("einsum_implicit", 12, "Einsum", 3, 4, inputs=[(weights((4, 2)),)], equation="ba,ac")


def edges(root: Path) -> None:
    """Where pages of ONNX can be read in two ways: as ONNX Runtime reads them."""

    def case(name: str, op: str, shape: tuple, inputs=(), outputs=1, **attributes) -> None:
        g = Graph(18)
        x = g.input("x", g.normal(*shape))
        made = g(op, x, *(g.constant(*one) for one in inputs), outputs=outputs, **attributes)
        g.write(root / f"edge_{name}", *([made] if outputs == 1 else made))

    nothing = ([],)
    for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        for name, sizes in (("one", [1, 2, 1, 1]), ("down", [1, 2, 3, 4]), ("up", [1, 2, 8, 9])):
            for mode in ("nearest", "linear", "cubic"):
                case(f"resize_{coordinates}_{name}_{mode}", "Resize", (1, 2, 5, 7), [nothing, nothing, (sizes, np.int64)],
                     mode=mode, coordinate_transformation_mode=coordinates)
            case(f"resize_{coordinates}_{name}_antialias", "Resize", (1, 2, 5, 7), [nothing, nothing, (sizes, np.int64)],
                 mode="linear", antialias=1, coordinate_transformation_mode=coordinates)
        if coordinates == "align_corners":
            continue  # of a length that is no whole number ONNX's own cases say another thing
        for mode in ("nearest", "linear"):
            case(f"resize_{coordinates}_scales_{mode}", "Resize", (1, 2, 5, 7), [nothing, ([1, 1, 0.6, 1.3],)],
                 mode=mode, coordinate_transformation_mode=coordinates)
    region = ([0, 0, 0.2, -0.1, 1, 1, 0.9, 1.2],)
    for mode in ("nearest", "linear"):
        case(f"resize_crop_{mode}", "Resize", (1, 2, 5, 7), [region, nothing, ([1, 2, 3, 6], np.int64)], mode=mode,
             coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=-9.0)
    for op in ("MaxPool", "AveragePool"):
        for auto_pad in ("VALID", "SAME_UPPER", "SAME_LOWER", "NOTSET"):
            case(f"{op.lower()}_ceil_{auto_pad.lower()}", op, (1, 2, 7, 8), kernel_shape=[2, 3], strides=[2, 3], ceil_mode=1,
                 auto_pad=auto_pad)
        case(f"{op.lower()}_ceil_pads", op, (1, 2, 8, 8), kernel_shape=[3, 3], strides=[3, 2], ceil_mode=1, pads=[1, 0, 1, 1])
    case("global_lp", "GlobalLpPool", (2, 3, 4, 5), p=3)
    case("lp_pool", "LpPool", (1, 2, 7, 8), kernel_shape=[2, 3], strides=[2, 3], ceil_mode=1, p=2)


def whole_numbers(root: Path) -> None:
    """Whole numbers of 32 and 64 bits, where they wrap around and where they are divided."""
    for dtype in (np.int32, np.int64):
        g = Graph(14)
        a = g.input("a", np.array([[-7, 7, 2**30, -5]], dtype))
        b = g.input("b", np.array([[2, -2, 3, 5]], dtype))
        outputs = [g(op, a, b) for op in ("Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Less", "Equal")]
        outputs += [g("Mod", a, b, fmod=1), g("Neg", a), g("Abs", a), g("Sign", a)]
        outputs += [g(op, a, keepdims=0) for op in ("ReduceSum", "ReduceMax", "ReduceMin")]
        outputs += [g("MatMul", a, g("Transpose", b)), g("Cast", a, to=FLOAT), g("Cast", a, to=DOUBLE)]
        outputs += [g("Not", g("Less", a, b)), g("Cast", a, to=BOOL), g("Cast", g("Mul", a, b), to=INT32), g("Clip", a, g.constant(-3, dtype))]
        g.write(root / f"whole_numbers_{np.dtype(dtype).name}", *outputs)


def main() -> None:
    onnxruntime.set_default_logger_severity(3)  # of its own shape inference it warns where that is wrong
    root = Path(sys.argv[1])
    mlp(root)
    cnn(root)
    recurrent(root, "LSTM", 4)
    recurrent(root, "GRU", 3)
    recurrent(root, "GRU", 3, linear_before_reset=1)
    recurrent(root, "RNN", 1)
    attention(root)
    trees_gemm(root)
    trees_traversal(root)
    old(root)
    edges(root)
    whole_numbers(root)


main()

"""Trains the template's example model and writes its model files and sample.

    train.py TEMPLATE_FOLDER

Run by ci/train-model. Writes model_files/{model.onnx,preprocessing.json} and assets/sample.parquet under the template's
folder, and prints the model's quality on wallets it has not seen.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

import credit_data

# What a modeler exports with.
sys.path.append(str(Path(__file__).resolve().parents[2] / "template" / "tools"))
from export_preprocessing import export  # noqa: E402

SEED = 73
TRAINING_ROWS, HELD_OUT_ROWS, SAMPLE_ROWS = 40_000, 10_000, 512
# 1 + market_rocp: it tells the model nothing that market_rocp does not.
LEFT_OUT = "market_rocr"
# As good on held-out wallets as less of it, and it keeps an odd wallet's log-odds near the
# others', inside the tables of the circuit.
WEIGHT_DECAY = 2.0


def columns(table: dict[str, np.ndarray]) -> list[str]:
    """The model's inputs in their order: a wallet's own features, then the market's, each by name."""
    return sorted((name for name in table if name != LEFT_OUT), key=lambda name: (name.startswith("market_"), name))


def matrix(table: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    return np.column_stack([table[name].astype(np.float64) for name in names])


def train(inputs: np.ndarray, labels: np.ndarray) -> MLPClassifier:
    """A 73-64-1 perceptron: ReLU, then the log-odds."""
    network = MLPClassifier((64,), alpha=WEIGHT_DECAY, batch_size=256, learning_rate_init=1e-3, max_iter=60,
                            early_stopping=True, n_iter_no_change=5, random_state=SEED)
    return network.fit(inputs, labels)


def to_onnx(network: MLPClassifier) -> onnx.ModelProto:
    """One row of scaled features in, one probability out."""
    tensors = []
    for layer, (weights, bias) in enumerate(zip(network.coefs_, network.intercepts_), start=1):
        tensors.append(numpy_helper.from_array(weights.astype(np.float32), f"weights{layer}"))
        tensors.append(numpy_helper.from_array(bias.astype(np.float32), f"bias{layer}"))
    nodes = [
        helper.make_node("Gemm", ["features", "weights1", "bias1"], ["hidden"], "hidden"),
        helper.make_node("Relu", ["hidden"], ["active"], "active"),
        helper.make_node("Gemm", ["active", "weights2", "bias2"], ["log_odds"], "log_odds"),
        helper.make_node("Sigmoid", ["log_odds"], ["probability"], "probability"),
    ]
    width = network.coefs_[0].shape[0]
    graph = helper.make_graph(
        nodes,
        "credit",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, width])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [1, 1])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.producer_name = "nova-template"
    onnx.checker.check_model(model, full_check=True)
    return model


def sample_table(rng: np.random.Generator, table: dict[str, np.ndarray]) -> pa.Table:
    """The raw frame as Plumber serves it: the wallet's address, then every feature."""
    rows = len(table["wallet_age"])
    addresses = ["0x" + rng.bytes(20).hex() for _ in range(rows)]
    return pa.table({"wallet_address": addresses} | table)


def main(template: Path) -> None:
    rng = np.random.default_rng(SEED)
    sets = {}
    for name, rows in (("training", TRAINING_ROWS), ("held out", HELD_OUT_ROWS), ("sample", SAMPLE_ROWS)):
        table = credit_data.features(rng, rows)
        sets[name] = (table, credit_data.defaulted(rng, table))

    table, labels = sets["training"]
    names = columns(table)
    scaler = StandardScaler().fit(matrix(table, names))
    network = train(scaler.transform(matrix(table, names)), labels)

    table, labels = sets["held out"]
    probability = network.predict_proba(scaler.transform(matrix(table, names)))[:, 1]
    print(f"held out: {HELD_OUT_ROWS} wallets, {labels.mean():.1%} defaulted; "
          f"AUC {roc_auc_score(labels, probability):.4f}, log loss {log_loss(labels, probability):.4f} "
          f"(always the base rate: {log_loss(labels, np.full(len(labels), labels.mean())):.4f}), "
          f"accuracy {accuracy_score(labels, probability > 0.5):.4f}")

    model_files, assets = template / "model_files", template / "assets"
    model_files.mkdir(exist_ok=True)
    assets.mkdir(exist_ok=True)
    onnx.save(to_onnx(network), model_files / "model.onnx")
    (model_files / "preprocessing.json").write_text(json.dumps(export(scaler, names), indent=1) + "\n")
    pq.write_table(sample_table(rng, sets["sample"][0]), assets / "sample.parquet", compression="zstd")
    print(f"wrote {model_files}/model.onnx, preprocessing.json and {assets}/sample.parquet")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

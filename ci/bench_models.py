"""ci/bench --models: a run of each whole model here, in ONNX Runtime and in candle's own ONNX evaluator, where that can run
it: on one thread, in turns in one run.

The models are those of template/tests/common/scripts/whole_models.py, and the example model.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from project import ROOT, environment, say, table

ROUNDS = 5
RUNS, TIMES = 200, 15
MODELS = ["mlp", "cnn", "lstm", "gru", "attention", "trees_gemm", "trees_traversal"]
# Of these two it is promised.
PROMISED = {"mlp": 3.0, "cnn": 3.0}

RUNTIME = """
import json, statistics, sys, time
import numpy, onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
micros = {}
for path in sys.argv[3:]:
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {one.name: (numpy.arange(numpy.prod([d if isinstance(d, int) else 1 for d in one.shape])) % 7 / 7)
             .reshape([d if isinstance(d, int) else 1 for d in one.shape]).astype(numpy.float32) for one in session.get_inputs()}
    runs, times = int(sys.argv[1]), []
    for _ in range(int(sys.argv[2])):
        started = time.perf_counter()
        for _ in range(runs):
            session.run(None, feeds)
        times.append((time.perf_counter() - started) * 1e6 / runs)
    micros[path] = statistics.median(times)
print(json.dumps(micros))
"""


def main() -> None:
    one_thread = environment() | {"RAYON_NUM_THREADS": "1"}
    python, template = one_thread["NOVA_PYTHON"], ROOT / "template"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        made.mkdir()
        subprocess.run([python, "-I", template / "tests/common/scripts/whole_models.py", made], check=True)
        paths = {name: str(made / name / "model.onnx") for name in MODELS}
        paths["example"] = str(shutil.copy(template / "model_files/model.onnx", Path(folder) / "example.onnx"))
        say("building the benchmark (release: 16 minutes the first time, on two cores)")
        built = subprocess.run(
            ["cargo", "bench", "--locked", "--bench", "model", "--no-run", "--message-format", "json"],
            cwd=template, env=one_thread, check=True, stdout=subprocess.PIPE, text=True)
        messages = [json.loads(line) for line in built.stdout.splitlines()]
        program = next(m["executable"] for m in messages
                       if m.get("executable") and m["target"]["name"] == "model" and m["target"]["kind"] == ["bench"])
        commands = {"here": [program, *paths.values()],
                    "there": [python, "-I", "-c", RUNTIME, str(RUNS), str(TIMES), *paths.values()]}
        found: dict[str, list[dict]] = {"here": [], "there": []}
        for number in range(ROUNDS):
            say(f"round {number + 1} of {ROUNDS}")
            for engine, command in commands.items():
                done = subprocess.run(command, env=one_thread, check=True, stdout=subprocess.PIPE, text=True)
                found[engine].append(json.loads(done.stdout))
    broken: list[str] = []
    rows = [["", "here, µs", "ONNX Runtime, µs", "ratio", "candle-onnx, µs", "ratio", ""]]
    for name, path in paths.items():
        here = statistics.median(one[path]["here"] for one in found["here"])
        there = statistics.median(one[path] for one in found["there"])
        candles = [one[path]["candle_onnx"] for one in found["here"]]
        candle = None if None in candles else statistics.median(candles)
        promise = ""
        if name in PROMISED:
            kept = here <= PROMISED[name] * there
            broken += [] if kept else [name]
            promise = f"{'within' if kept else 'NOT within'} {PROMISED[name]:.0f} times"
        if name == "example" and not (candle and here <= candle):
            broken.append("example, beside candle-onnx")
        beside = ["", ""] if candle is None else [f"{candle:.1f}", f"{here / candle:.2f}"]
        rows.append([name, f"{here:.1f}", f"{there:.1f}", f"{here / there:.2f}", *beside, promise])
    print(table(rows))
    if broken:
        sys.exit(f"not as fast as promised: {', '.join(broken)}")

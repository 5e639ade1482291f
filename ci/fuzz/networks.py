"""Networks of others, each as one case: a sample by its inputs' types, shapes and ranges."""

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from circuits import Bare, Ezkl, program, python, use_cores
from fuzz.generator import SAMPLE_ROWS, Case, expected, probe
from fuzz.graph import operators, run_rows
from fuzz.session import CACHE, STAMPS, kept
from fuzz.trial import Outcome, refuse, tried
from project import say, table

KINDS = ["fresh", "extreme", "zeros"]
# Bytes of a network that is faster on all cores.
LARGE = 200_000
# Where input.json does not tell.
RANGE = (0.0, 1.0)


def run(usage: str) -> None:
    parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", type=Path, default=CACHE / "networks")
    parser.add_argument("--patience", type=float, default=600)
    parser.add_argument("--memory", type=int, default=8000)
    parser.add_argument("--nova", type=Path)
    options = parser.parse_args()
    files = sorted(options.folder.rglob("network.onnx"), key=lambda file: file.stat().st_size)
    files = [file for file in files if re.search(options.only, file.parent.name)]
    if not files:
        sys.exit(f"ci/ezkl-networks: {options.folder} holds no network.onnx")
    nova = (options.nova or program(STAMPS / "fuzz")).resolve()
    options.keep.mkdir(parents=True, exist_ok=True)
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="nova-networks-") as work, (options.keep / "results.jsonl").open("a") as results:
        for number, file in enumerate(files):
            name = file.parent.name
            started = time.monotonic()
            outcome = outcome_of(file, number, Path(work), nova, options)
            outcomes[name] = outcome
            results.write(json.dumps({"network": name} | outcome.as_dict()) + "\n")
            results.flush()
            what = " | ".join(outcome.violations) or (f"{outcome.reason}: {outcome.text[-300:]}" if outcome.reason else "")
            say(f"{name} ({number + 1} of {len(files)}): {outcome.status}, {time.monotonic() - started:.0f} s {what}")
            kept(Path(work) / name, options.keep / name, outcome)
            shutil.rmtree(Path(work) / name, ignore_errors=True)
    sys.exit(report(outcomes))


def outcome_of(file: Path, number: int, work: Path, nova: Path, options: argparse.Namespace) -> Outcome:
    """Each has processes of its own: what a large network leaves is gone."""
    ezkl = Ezkl(python(), options.memory, options.patience)
    project = Bare(work / file.parent.name, nova, python(), patience=options.patience, memory_mb=options.memory)
    try:
        model = onnx.load_model_from_string(file.read_bytes())
    except DecodeError:
        return refused_file(file, number, project)
    use_cores(1 if file.stat().st_size < LARGE else None)
    try:
        sample = sample_of(model, file.with_name("input.json"), number)
        try:
            case = case_of(model, sample, number)
        except Exception as error:  # of ONNX Runtime, which has kinds of its own
            return without_reference(model, sample, number, project, str(error))
        return tried(case, project, ezkl)
    finally:
        ezkl.close()


def refused_file(file: Path, number: int, project: Bare) -> Outcome:
    """What is no ONNX must be refused as such."""
    project.write(onnx.ModelProto(), {}, {})
    shutil.copy2(file, project.files / "model.onnx")
    run = project.setup()
    return Outcome(number, [], 0, "refused", "no ONNX file", run.code != 0 and "no ONNX file" in run.complaint, run.complaint)


def without_reference(model: onnx.ModelProto, sample: dict[str, np.ndarray], number: int, project: Bare, error: str) -> Outcome:
    """ONNX Runtime does not run it. `nova` may refuse it; if it does not, there is nothing to hold its answers against."""
    case = Case(number, model, operators(model), sample, {}, [], [], [])
    outcome = Outcome(number, sorted(case.operators), 0)
    project.write(model, sample, {})
    run = project.setup()
    if run.code == 0:
        outcome.status, outcome.reason, outcome.text = "no reference", "ONNX Runtime cannot run it", error[:300]
    else:
        refuse(outcome, run, case)
    return outcome


def sample_of(model: onnx.ModelProto, described: Path, number: int) -> dict[str, np.ndarray]:
    """Random rows of the shapes and types of its inputs, in the ranges of input.json."""
    rng = np.random.default_rng(number)
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    given = json.loads(described.read_text())["input_data"] if described.is_file() else []
    return {one.name: rows_of(rng, one, given[at] if at < len(given) else []) for at, one in enumerate(inputs)}


def case_of(model: onnx.ModelProto, sample: dict[str, np.ndarray], number: int) -> Case:
    """Raises what ONNX Runtime raises, and ValueError where its outputs are not finite."""
    rng = np.random.default_rng(number)
    reference = [np.stack(rows) for rows in run_rows(model, sample, SAMPLE_ROWS)]
    if not all(np.isfinite(data.astype(np.float64)).all() for data in reference):
        raise ValueError("its outputs are not finite on the sample")
    probes = {name: np.stack([probe(rng, data, kind) for kind in KINDS]) for name, data in sample.items()}
    return Case(number, model, operators(model), sample, probes, KINDS, reference, expected(model, probes, len(KINDS)))


def rows_of(rng: np.random.Generator, one: onnx.ValueInfoProto, given: list) -> np.ndarray:
    """A sample of an input: uniform where it is real, from the numbers that are given where it is whole."""
    kind = one.type.tensor_type
    shape = [dim.dim_value or 1 for dim in kind.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
    numbers = np.asarray(given, np.float64).ravel()
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else RANGE
    if dtype.kind == "f":
        if low == high:
            low, high = low - abs(low), high + abs(high)
        return rng.uniform(low, high, (SAMPLE_ROWS, *shape)).astype(dtype)
    if dtype.kind == "b":
        return rng.random((SAMPLE_ROWS, *shape)) < 0.5
    return rng.integers(int(low), int(high) + 1, (SAMPLE_ROWS, *shape)).astype(dtype)


def report(outcomes: dict[str, Outcome]) -> int:
    rows = [["network", "outcome", "logrows", "seconds", ""]]
    kinds = Counter()
    for name, outcome in sorted(outcomes.items()):
        found = sorted({violation.split(":")[0] for violation in outcome.violations})
        status = ", ".join(found) or outcome.status
        kinds.update(found or [outcome.status])
        unexplained = "" if outcome.is_explained else "UNEXPLAINED "
        text = " ".join((outcome.violations[0] if outcome.violations else outcome.text).split())
        seconds = f"{sum(outcome.times.values()):.0f}"
        rows.append([name, status, str(outcome.logrows or ""), seconds, f"{unexplained}{outcome.reason} {text}"[:160]])
    print(table(rows))
    unexplained = sum(not outcome.is_explained for outcome in outcomes.values())
    refused = kinds["refused"] + kinds["no reference"]
    print(f"{kinds['no reference']} of those refused have no reference, because ONNX Runtime cannot run them; "
          f"{unexplained} are refused without a reason")
    print(f"networks {len(outcomes)} proven {kinds['proven']} refused {refused} wrong {kinds['wrong'] + kinds['crash']} "
          f"unprovable {kinds['unprovable']}")
    return 1 if unexplained or kinds["wrong"] or kinds["unprovable"] or kinds["crash"] else 0

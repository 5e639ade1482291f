"""One model in a bare project, through `nova` as a modeler would and through EZKL's own Python beside it: what `ci/fuzz-models` and
`ci/ezkl-networks` share."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from project import ROOT, Project, environment

# The order of the field that circuits compute in (bn256), as EZKL has it.
FIELD = 0x30644E72E131A029B85045B68181585D2833E84879B9709143E1F593F0000001
# Seconds that a step of EZKL may take.
PATIENCE = 120
# Seconds between looks at what it does.
LOOK = 0.5
TOO_LARGE = "its circuit has more rows than wanted"
HOOKS = ROOT / "ci/fuzz/hooks.rs"


@dataclass
class Run:
    """What a program did."""

    code: int
    out: str
    err: str
    seconds: float
    # Why it was ended from here, if so.
    ended: str = ""

    @property
    def complaint(self) -> str:
        """What it says of its failure."""
        if self.ended:
            return self.ended
        _, found, said = ("\n" + self.err).rpartition("\nnova: ")
        return (said if found else self.err).strip()[:4000]


class Refused(Exception):
    """EZKL has refused a call."""


class Stuck(Exception):
    """EZKL has not answered in time."""


class Ezkl:
    """EZKL's Python in a process of its own, which can be ended: `prove` was seen to wait for ever."""

    def __init__(self, python: str, memory_mb: int = 0, patience: float = PATIENCE):
        self.patience = patience
        self.command = [python, "-I", str(ROOT / "template/ezkl/worker.py"), "--memory-mb", str(memory_mb)]
        self.process: subprocess.Popen | None = None

    def call(self, call: str, **args):
        """The value of a call. Raises Refused with EZKL's reason, or Stuck."""
        if self.process is None or self.process.poll() is not None:
            env = os.environ | {"RAYON_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
        given = {name: value if isinstance(value, dict) else str(value) for name, value in args.items()}
        request = json.dumps({"id": 1, "call": call, "args": given})
        self.process.stdin.write(request.encode() + b"\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], self.patience)[0]:
            self.close()
            raise Stuck(f"{call} has not ended after {self.patience:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise Refused(f"{call} ended the process with code {code}")
        reply = json.loads(line)
        if "error" in reply:
            raise Refused(reply["error"])
        return reply["value"]

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


class Bare:
    """A folder with nova.toml and model_files alone."""

    def __init__(self, folder: Path, nova: Path, python: str, patience: float = PATIENCE, memory_mb: int = 0, most_logrows: int = 26):
        self.folder, self.nova, self.patience, self.most_logrows = folder, nova, patience, most_logrows
        self.files = folder / "model_files"
        shutil.rmtree(folder, ignore_errors=True)
        self.files.mkdir(parents=True)
        (folder / "nova.toml").write_text('network = "devnet"\n')
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("NOVA_")}
        self.env |= {"NOVA_PYTHON": python, "RUST_BACKTRACE": "0", "NOVA_ARTIFACTS_PATH": str(folder / "artifacts")}
        # A machine that is busy with other things changes no outcome.
        self.env |= {f"NOVA_{step}_TIMEOUT": f"{patience:.0f}" for step in ("HOOK", "WITNESS", "MOCK", "PROVE")}
        if memory_mb:
            self.env["NOVA_PROVER_MEMORY_MB"] = str(memory_mb)

    def write(self, model: onnx.ModelProto, sample: dict[str, np.ndarray], probes: dict[str, np.ndarray]) -> None:
        """The model, its sample, and the rows to try: one feature a number of an input."""
        (self.files / "model.onnx").write_bytes(model.SerializeToString())
        columns = {name: [f"{name}_{at}" for at in range(int(np.prod(data.shape[1:])))] for name, data in sample.items()}
        (self.files / "inputs.json").write_text(json.dumps(columns))
        for file, rows in (("sample.csv", sample), ("probes.csv", probes)):
            if not rows:
                (self.folder / file).write_text("none\n" + "0\n" * 200)
                continue
            count = len(next(iter(rows.values())))
            flat = np.concatenate([data.reshape(count, -1).astype(object) for data in rows.values()], axis=1)
            head = ",".join(name for names in columns.values() for name in names)
            lines = [",".join(str(int(one)) if isinstance(one, (bool, int)) else repr(float(one)) for one in row) for row in flat]
            (self.folder / file).write_text("\n".join([head, *lines]) + "\n")

    def run(self, *arguments) -> Run:
        """`nova` with these arguments. It is ended after a while, and where its circuit is larger than wanted."""
        started = time.monotonic()
        process = subprocess.Popen([str(self.nova), *map(str, arguments)], cwd=self.folder, env=self.env, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        ended = ""
        while True:
            try:
                out, err = process.communicate(timeout=LOOK)
                break
            except subprocess.TimeoutExpired:
                if self.is_too_large():
                    ended = TOO_LARGE
                elif time.monotonic() - started > 4 * self.patience:
                    ended = f"nova {arguments[0]} has not ended after {4 * self.patience:.0f} s"
                if ended:
                    process.kill()
        return Run(process.returncode, out, err, time.monotonic() - started, ended)

    def is_too_large(self) -> bool:
        """Whether `setup` is making a circuit of more rows than wanted."""
        for file in self.files.glob(".setup-*/made/settings.json"):
            with contextlib.suppress(OSError, ValueError):  # it is gone, or half written
                return json.loads(file.read_text())["run_args"]["logrows"] > self.most_logrows
        return False

    def setup(self, **options) -> Run:
        """Options as on the command line: `lookup_margin=3.0`."""
        given = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
        return self.run("setup", "--insecure-srs", "--sample", "sample.csv", *given)

    def predict(self, row: int) -> dict | Run:
        """What `nova predict --json` says of a row of the probes, or how it failed."""
        run = self.run("predict", "--features", "probes.csv", "--row", row, "--json")
        return json.loads(run.out) if run.code == 0 else run

    def settings(self) -> dict:
        return json.loads((self.files / "settings.json").read_text())


def witness(project: Bare, ezkl: Ezkl, inputs: list[list[float]], name: str) -> tuple[Path, list[list[float]]]:
    """EZKL's own witness of an input, and the outputs that it holds."""
    file = project.folder / f"{name}.witness.json"
    data = json.dumps({"input_data": inputs})
    ezkl.call("gen_witness", data=data, model=project.files / "model.ezkl", output=file)
    made = json.loads(file.read_text())
    scales = project.settings()["model_output_scales"]
    return file, [[number(felt) / 2.0**scale for felt in output] for output, scale in zip(made["outputs"], scales)]


def number(felt: str) -> int:
    """The whole number that a field element stands for: little-endian in hex, negative in the upper half."""
    found = int.from_bytes(bytes.fromhex(felt), "little")
    return found - FIELD if found > FIELD // 2 else found


def prove(project: Bare, ezkl: Ezkl, witnessed: Path) -> bool:
    """Whether EZKL proves this witness and verifies the proof, without nova."""
    files, proof = project.files, witnessed.with_suffix(".proof.json")
    ezkl.call("prove", witness=witnessed, model=files / "model.ezkl", pk_path=files / "model_pk.pk", proof_path=proof,
              srs_path=files / "kzg.srs")
    return bool(ezkl.call("verify", proof_path=proof, settings_path=files / "settings.json", vk_path=files / "model_vk.vk",
                          srs_path=files / "kzg.srs"))


def program(folder: Path) -> Path:
    """`nova` with hooks that serve any inputs and outputs, built in a project of its own."""
    project = Project(folder, name="any-inputs")
    project.stamp(lambda: shutil.copy2(HOOKS, project.path / "src/hooks.rs"))
    project.run("cargo", "build", "--locked", "--bin", "nova")
    built = folder / "nova"
    shutil.copy2(Path(project.env["CARGO_TARGET_DIR"]) / "debug/nova", built)
    return built


# The cores that this process was given.
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def use_cores(count: int | None, first: int = 0) -> None:
    """Keeps this process, and those that it starts, to so many cores; None: to all. On small circuits EZKL's threads wait for each
    other more than they compute: `setup` takes 5.5 s on two cores and 2.2 s on one."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [CORES[(first + at) % len(CORES)] for at in range(count or len(CORES))])


def python() -> str:
    return environment()["NOVA_PYTHON"]


# ---- tolerance

def tolerance(reference: np.ndarray, settings: dict, output: int, has_floats: bool, value: float) -> float:
    """How far an output may be from ONNX Runtime's value: 1 % of the range between the sample's 1st and 99th percentile, or two steps of
    the coarsest scale on the way if that is more, and 1 % of the distance from the median or from zero. Whole numbers are equal."""
    if reference.dtype.kind in "iub":
        return 0.0
    args = settings["run_args"]
    # Where all inputs are whole numbers they have scale 0, and lose nothing.
    scales = [args["param_scale"], settings["model_output_scales"][output]] + ([args["input_scale"]] if has_floats else [])
    low, median, high = np.quantile(reference.astype(np.float64), [0.01, 0.5, 0.99])
    return max(0.01 * float(high - low), 2.0 * 2.0**-min(scales)) + 0.01 * min(abs(value), abs(value - float(median)))

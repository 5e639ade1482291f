"""A stamped project under test: built, with its devnet and its daemon. Used by demo, e2e and bench."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def say(text: str) -> None:
    print(f"\n=== {text}", file=sys.stderr, flush=True)


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        sys.exit(f"{Path(sys.argv[0]).name}: {otherwise}")


def environment() -> dict[str, str]:
    """What ci/lib.sh exports, without settings that the caller's shell has for a daemon of its own."""
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith("NOVA_") or name in ("NOVA_TARGET_DIR", "NOVA_TOOLS_DIR", "NOVA_STAMPS_DIR")}
    script = f'. "{ROOT}/ci/lib.sh" && env -0'
    listed = subprocess.run(["bash", "-c", script], env=clean, check=True, capture_output=True, text=True).stdout
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return dict(line.split("=", 1) for line in listed.split("\0") if line) | {"NOVA_HTTP_ADDRESS": address}


def in_shell(function: str, argument: Path) -> None:
    """One of the functions of ci/lib.sh."""
    subprocess.run(["bash", "-euo", "pipefail", "-c", f'. "$0/ci/lib.sh" && {function} "$1"', ROOT, argument], check=True)


class Project:
    """The project `name` in `folder`. Logs and copies of its programs lie in `folder`.

    All stamps share one target folder, and cargo tells two of one name only by what they depend on: a stamp of other sources needs a
    name or a dependency of its own, or the programs of one are taken for the other's.
    """

    def __init__(self, folder: Path, release: bool = False, source: Path = ROOT, name: str = "demo", chain=None):
        self.folder = folder
        self.release = release
        # The checkout that it is stamped from.
        self.source = source
        self.path = folder / name
        # What starts another node than anvil and gives its endpoint, until the block ends.
        self.chain = chain
        self.programs = folder / "programs"
        self.env = environment()

    def make(self) -> None:
        """From the checkout to a project that can run: what it needs, stamp, programs, circuit."""
        self.run(ROOT / "ci/setup", cwd=ROOT)
        # What an earlier run left beside the project.
        for left in ("nova.log", "devnet.log", "proof-by-ipfs.json", "proof-by-hand.json", "changed-proof.json"):
            (self.folder / left).unlink(missing_ok=True)
        self.stamp()
        self.run("npm", "ci", "--prefix", "devnet/contracts", "--prefer-offline", "--no-audit", "--no-fund")
        self.build()
        say("making the circuit")
        self.run(self.programs / "nova", "setup", "--insecure-srs")

    def stamp(self, change=lambda: None) -> None:
        """Stamps the project, anew where it is there, and makes the change to it. What then is the same as before keeps its age, so that
        cargo compiles the rest alone."""
        say(f"stamping a project into {self.path}")
        in_shell("set_aside", self.path)
        self.run(self.source / "ci/stamp", self.folder, self.path.name, "network=devnet", cwd=self.source)
        change()
        in_shell("keep_ages", self.path)

    def build(self) -> None:
        say("building (6 minutes if the dependencies are not compiled yet)")
        self.run("cargo", "build", "--locked", "--workspace", *(["--release"] if self.release else []))
        # Copies: the next build of another stamp goes to the same target folder.
        self.programs.mkdir(exist_ok=True)
        for program in ("nova", "devnet"):
            built = Path(self.env["CARGO_TARGET_DIR"]) / ("release" if self.release else "debug") / program
            shutil.copy2(built, self.programs / program)

    def fresh_artifacts(self, name: str) -> None:
        """A new ledger: one belongs to one chain, and each devnet is a new one."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        self.env["NOVA_ARTIFACTS_PATH"] = str(folder)

    def run(self, *command, cwd: Path | None = None) -> None:
        subprocess.run([*map(str, command)], cwd=cwd or self.path, env=self.env, check=True)

    def json_of(self, program: str, *arguments) -> dict | list:
        """What one of the project's programs prints with --json."""
        done = subprocess.run([str(self.programs / program), *map(str, arguments), "--json"], cwd=self.path, env=self.env,
                              check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def devnet(self, *more: str):
        """A devnet with a chain of its own, until the block ends."""
        with contextlib.ExitStack() as stack:
            at = ("--rpc", stack.enter_context(self.chain())) if self.chain else ("--port", "0")
            arguments = ("up", *at, "--services-port", "0", *more)
            yield stack.enter_context(self.running("devnet", *arguments, ready=lambda log: "devnet ready" in log))

    def daemon(self):
        """The daemon, until the block ends."""
        return self.running("nova", "run", ready=self.is_ready)

    @contextlib.contextmanager
    def running(self, program: str, *arguments, ready):
        """The program in the background; enters when ready(its log) holds. It must end well when it is asked to."""
        log = self.folder / f"{program}.log"
        with log.open("ab") as out:
            start = out.tell()
            process = subprocess.Popen([str(self.programs / program), *arguments], cwd=self.path, env=self.env,
                                       stdout=out, stderr=subprocess.STDOUT)

        def said() -> str:
            return log.read_bytes()[start:].decode(errors="replace")

        try:
            await_that(lambda: process.poll() is not None or ready(said()), f"{program} is ready", 120)
            check(process.poll() is None, f"{program} ended by itself")
            yield process
        except BaseException:
            sys.stderr.write(f"\n--- the end of {log}:\n{said()[-4000:]}\n")
            raise
        finally:
            killed = process.returncode == -signal.SIGKILL
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        check(killed or process.returncode == 0, f"{program} did not end well within 30 s of SIGTERM: see {log}")

    def is_ready(self, _log: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.env['NOVA_HTTP_ADDRESS']}/readyz", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


def await_that(condition, what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.05)


def table(rows: list[list[str]]) -> str:
    """Rows of text, the first being the head."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]])


def in_ezkls_python() -> None:
    """Runs this script again in the Python that has EZKL, ONNX Runtime and numpy, unless it is that one."""
    if "NOVA_IN_EZKLS_PYTHON" not in os.environ:
        python = environment()["NOVA_PYTHON"]
        os.execve(python, [python, *sys.argv], os.environ | {"NOVA_IN_EZKLS_PYTHON": "1"})


def script(main) -> None:
    """Runs a script's main; a command that failed is named without a traceback."""
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {' '.join(map(str, error.cmd))[:300]} failed with code {error.returncode}")

"""EZKL in a process of its own: one JSON object a line in, one out.

    {"id": 1, "call": "gen_witness", "args": {"data": "...", "model": "model.ezkl"}}
    {"id": 1, "value": true}     or     {"id": 1, "error": "...", "passing": false}

The daemon starts it with `--background` where it proves, `--memory-mb N` where memory is limited, and EZKL's thread count
in RAYON_NUM_THREADS. It dies with the daemon.
"""

import argparse
import asyncio
import contextlib
import ctypes
import errno
import inspect
import json
import logging
import os
import re
import resource
import signal
import sys

# The functions a daemon may call, each with EZKL's own keyword arguments.
CALLS = {
    "calibrate_settings",
    "compile_circuit",
    "gen_srs",
    "gen_witness",
    "get_srs",
    "mock",
    "prove",
    "setup",
    "verify",
}
PR_SET_PDEATHSIG = 1
MACHINE_ERRORS = {errno.EAGAIN, errno.EIO, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.ENOSPC, errno.EDQUOT}


def die_with_parent():
    """Ask the kernel to end this process when the daemon ends, however it ends."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the daemon was gone before the worker had started")


def limit(memory_mb):
    """No core dumps, which would hold the model; and a bound to heap and private mappings, past which allocating fails."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_mb:
        # RLIMIT_DATA counts what is allocated. RLIMIT_AS would count address space that is only reserved, too.
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))


def protect_protocol():
    """Give the protocol a descriptor of its own: whatever EZKL prints goes to stderr."""
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return protocol


def keep_log():
    """Give EZKL's log a descriptor of its own: while EZKL calibrates it closes stderr to itself, and the reasons would be lost."""
    log = open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    logging.basicConfig(stream=log, format="%(levelname)s %(message)s")


def end_call(number):
    """Mark on stderr that what comes next is of another call."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(2, f"\n\x1ecall {number}\n".encode())


def gen_settings(ezkl, model, output, run_args):
    """Write the circuit settings of `model`; `run_args` holds fields of EZKL's PyRunArgs."""
    arguments = ezkl.PyRunArgs()
    for name, value in run_args.items():
        setattr(arguments, name, tuple(value) if isinstance(value, list) else value)
    ezkl.gen_settings(model=model, output=output, py_run_args=arguments)
    order(output)
    return True


def order(settings):
    """Give the settings one order: EZKL writes sets as they come out of its hash tables, and the keys follow their order."""
    with open(settings, encoding="utf-8") as file:
        values = json.load(file)
    for name in ("required_lookups", "required_range_checks"):
        values[name] = sorted(values.get(name) or [], key=lambda entry: json.dumps(entry, sort_keys=True))
    einsums = values.get("einsum_params") or {}
    einsums["equations"] = [[equation, dict(sorted(sizes.items()))] for equation, sizes in einsums.get("equations") or []]
    # The time of day, which nothing reads. EZKL wants a number.
    values["timestamp"] = 0
    with open(settings, "w", encoding="utf-8") as file:
        json.dump(values, file)


async def create_evm_verifier(ezkl, sol_code_path, **arguments):
    """Write the Solidity verifier. EZKL then looks for solc to make the ABI, which nobody here needs."""
    if os.path.exists(sol_code_path):
        os.remove(sol_code_path)
    try:
        await ezkl.create_evm_verifier(sol_code_path=sol_code_path, abi_path=sol_code_path + ".abi", **arguments)
    except RuntimeError:
        if not os.path.exists(sol_code_path) or os.path.getsize(sol_code_path) == 0:
            raise
    return True


def begin(ezkl, call, args):
    if call == "version":
        return ezkl.__version__
    if call == "gen_settings":
        return gen_settings(ezkl, **args)
    if call == "create_evm_verifier":
        return create_evm_verifier(ezkl, **args)
    if call in CALLS:
        return getattr(ezkl, call)(**args)
    raise ValueError(f"unknown call {call!r}")


async def answer(ezkl, call, args):
    """The value of a call. Some of EZKL's functions are coroutines, and want the loop before they are called."""
    value = begin(ezkl, call, args)
    value = await value if inspect.isawaitable(value) else value
    # Witnesses and proofs are in their files already.
    return value if isinstance(value, (bool, str)) else None


def is_passing(error):
    """Whether the machine said no, and not EZKL: out of memory, too many open files, an I/O error, a full disk."""
    # As Rust displays an error of the machine, and as it writes one for debugging.
    code = re.search(r"(?:os error|code:) (\d+)", f"{error}")
    return isinstance(error, MemoryError) or bool(code and int(code[1]) in MACHINE_ERRORS)


def make_way():
    """From now on the kernel prefers other processes to the prover, so that a proof holds up no answer. Where another process keeps a core
    busy, the prover still gets a tenth of it (sched(7)); with SCHED_IDLE it would get a 300th, and proofs would come hours late."""
    os.nice(10)


def serve(ezkl, requests, protocol):
    for line in requests:
        request = json.loads(line)
        try:
            reply = {"id": request["id"], "value": asyncio.run(answer(ezkl, request["call"], request["args"]))}
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a Rust panic arrives as a BaseException
            reply = {"id": request["id"], "error": f"{error}" or type(error).__name__, "passing": is_passing(error)}
        end_call(request["id"])
        protocol.write(json.dumps(reply) + "\n")
        protocol.flush()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--background", action="store_true")
    parser.add_argument("--memory-mb", type=int, default=0)
    options = parser.parse_args()
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's to handle
    if options.background:
        make_way()
    limit(options.memory_mb)
    protocol = protect_protocol()
    keep_log()
    try:
        import ezkl
    except ImportError as error:
        sys.exit(
            f"{sys.executable} cannot import ezkl ({error}): set NOVA_PYTHON to a Python that has it, or make one: "
            "python3 -m venv ezkl/.venv && ezkl/.venv/bin/pip install --require-hashes -r ezkl/requirements.txt"
        )
    serve(ezkl, sys.stdin, protocol)


if __name__ == "__main__":
    main()

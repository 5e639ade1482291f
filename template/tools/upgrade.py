#!/usr/bin/env python3
"""Brings this project to a newer version of the template it was stamped from, and keeps what you have changed.

    python3 tools/upgrade.py --dry-run     shows what would change
    python3 tools/upgrade.py               changes it, and leaves it to you to look at and to commit

.nova-template.toml says which version the project is of, and what the generator was answered. That version and the new one
are stamped again with these answers, and what differs between the two is merged into your files, as `git merge` would.
src/hooks.rs, model_files/ and .env are yours: they are never touched. Needs git and cargo-generate.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

RECORD = ".nova-template.toml"
YOURS = ("src/hooks.rs", "model_files/", ".env")
# A lock file with marks in it is none. Cargo adds to the template's what is missing in it.
LOCK = "Cargo.lock"


class File(NamedTuple):
    content: bytes
    runs: bool


class Change(NamedTuple):
    what: str
    path: str
    # What is written; `None` where the file goes, or stays as it is.
    file: File | None = None
    note: str = ""


def fail(text: str) -> None:
    sys.exit(f"upgrade: {text}")


def run(*command, cwd: Path | None = None) -> str:
    """What a command prints; it must succeed."""
    try:
        done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError:
        fail(f"{command[0]} is not there: install it first")
    if done.returncode != 0:
        fail(f"`{' '.join(map(str, command))}` failed:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout


def read_record() -> dict:
    try:
        record = tomllib.loads(Path(RECORD).read_text())
        record["template"]["version"], record["template"]["repository"], record["answers"]["project-name"]
    except FileNotFoundError:
        fail(f"there is no {RECORD} in {Path.cwd()}: without it nobody knows what this project was made of")
    except (tomllib.TOMLDecodeError, KeyError) as error:
        fail(f"{RECORD} is not what the generator wrote: {error!r}")
    return record


def check_tree() -> None:
    """What is merged must be told from what was there."""
    if subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True).returncode != 0:
        fail("this project is in no git repository, so nothing could be taken back: git init && git add -A && git commit")
    changed = run("git", "status", "--porcelain", "--", ".")
    if changed:
        fail(f"commit or stash these first, so that what the upgrade changes can be told from them:\n{changed.rstrip()}")


def commit_of(clone: Path, name: str) -> str | None:
    done = subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"], cwd=clone, capture_output=True,
                          text=True)
    return done.stdout.strip() or None


def old_commit(clone: Path, version: str, given: str | None) -> str:
    for name in [given] if given else [f"v{version}", version]:
        if commit := commit_of(clone, name):
            return commit
    fail(f"the template has no {given or f'tag v{version}'}: name the tag or commit that this project was made of with --from")


def new_commit(clone: Path, given: str | None) -> str:
    if given:
        return commit_of(clone, given) or commit_of(clone, f"v{given}") or fail(f"the template has no {given}")
    tags = run("git", "tag", "--list", "v[0-9]*", "--sort=-version:refname", cwd=clone).split()
    released = [tag for tag in tags if "-" not in tag]
    return commit_of(clone, released[0]) if released else fail("the template has no released version: name one with --to")


def stamp(clone: Path, commit: str, answers: dict, folder: Path) -> Path:
    """What the generator makes of a version of the template."""
    source, destination = folder / "template", folder / "stamp"
    source.mkdir(parents=True)
    destination.mkdir()
    run("git", f"--work-tree={source}", "checkout", "--quiet", commit, "--", ".", cwd=clone)
    others = {name: value for name, value in answers.items() if name != "project-name"}
    defines = [word for name, value in others.items() for word in ("--define", f"{name}={value}")]
    # --force keeps the name as it was recorded, whatever its case.
    run("cargo", "generate", "--path", source, "--name", answers["project-name"], "--force", "--destination", destination,
        "--silent", "--no-workspace", "--vcs", "none", *defines)
    return destination / answers["project-name"]


def files(folder: Path) -> dict[str, File]:
    return {path.relative_to(folder).as_posix(): read(path) for path in folder.rglob("*") if path.is_file()}


def read(path: Path) -> File | None:
    return File(path.read_bytes(), os.access(path, os.X_OK)) if path.is_file() else None


def is_yours(path: str) -> bool:
    return any(path == own or own.endswith("/") and path.startswith(own) for own in YOURS)


def ended_as(ours: File | None, file: File | None) -> File | None:
    """With the line endings of ours: git or an editor on Windows may have changed them all, which is no edit."""
    if not ours or not file or b"\r\n" not in ours.content or b"\r\n" in file.content or b"\0" in file.content:
        return file
    return file._replace(content=file.content.replace(b"\n", b"\r\n"))


def merge(path: str, ours: File, old: File, new: File, labels: list[str]) -> Change:
    """Both have changed: as much of both as goes together."""
    runs = new.runs if ours.runs == old.runs else ours.runs
    if any(b"\0" in file.content for file in (ours, old, new)):
        return Change("look", path, note="both have changed it, and it is no text: yours stays")
    with tempfile.TemporaryDirectory() as folder:
        sides = [Path(folder) / name for name in ("ours", "old", "new")]
        for side, file in zip(sides, (ours, old, new)):
            side.write_bytes(file.content)
        names = [word for label in labels for word in ("-L", label)]
        done = subprocess.run(["git", "merge-file", "-p", *names, *map(str, sides)], capture_output=True)
    if done.returncode == 0:
        return Change("merge", path, File(done.stdout, runs))
    if not 0 < done.returncode < 128:
        fail(f"git cannot merge {path}: {done.stderr.decode().strip()}")
    if path == LOCK:
        return Change("update", path, new, "the template's: `cargo check` adds your dependencies to it")
    return Change("CONFLICT", path, File(done.stdout, runs), f"{done.returncode} to resolve")


def plan(old: dict[str, File], new: dict[str, File], labels: list[str]) -> list[Change]:
    """What has to be done, file by file, for what differs between two stamps."""
    changes = []
    for path in sorted(old.keys() | new.keys()):
        ours = read(Path(path))
        before, after = (ended_as(ours, stamp.get(path)) for stamp in (old, new))
        if is_yours(path) or before == after or ours == after:
            continue
        if path == RECORD or ours == before:
            what = "remove" if after is None else "add" if before is None else "update"
            changes.append(Change(what, path, after))
        elif ours is None:
            changes.append(Change("look", path, note="you have removed it, the template has changed it: it stays removed"))
        elif after is None:
            changes.append(Change("look", path, note="the template has removed it, you have changed it: yours stays"))
        else:
            changes.append(merge(path, ours, before or File(b"", after.runs), after, labels))
    return changes


def carry_out(change: Change) -> None:
    path = Path(change.path)
    if change.what == "remove":
        path.unlink()
        for folder in path.parents:
            if folder == Path(".") or any(folder.iterdir()):
                break
            folder.rmdir()
    elif change.file:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(change.file.content)
        mode = path.stat().st_mode
        # Who may read a program may run it.
        path.chmod(mode | (mode >> 2 & 0o111) if change.file.runs else mode & ~0o111)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    parser.add_argument("--to", metavar="VERSION", help="a tag or commit of the template; the newest version if not given")
    parser.add_argument("--from", dest="start", metavar="VERSION", help=f"what this project is of, if not what {RECORD} says")
    parser.add_argument("--source", metavar="URL", help="where the template is, if not where it was; or a folder with a clone")
    arguments = parser.parse_args()

    os.chdir(Path(__file__).resolve().parent.parent)
    record = read_record()
    check_tree()
    if subprocess.run(["cargo", "generate", "--version"], capture_output=True).returncode != 0:
        fail("cargo-generate is not there: cargo install cargo-generate --locked")
    version, repository = record["template"]["version"], record["template"]["repository"]
    source = arguments.source or f"https://github.com/{repository}.git"
    with tempfile.TemporaryDirectory(prefix="nova-upgrade-") as temporary:
        folder = Path(temporary)
        clone = folder / "clone"
        run("git", "clone", "--quiet", "--no-checkout", source, clone)
        commits = old_commit(clone, version, arguments.start), new_commit(clone, arguments.to)
        old, new = (stamp(clone, commit, record["answers"], folder / name) for commit, name in zip(commits, ("old", "new")))
        to = tomllib.loads((new / RECORD).read_text())["template"]["version"]
        changes = plan(files(old), files(new), ["yours", f"template {version}", f"template {to}"])

    print(f"from {version} to {to}:" if changes else f"nothing to do: this project has all that {to} has")
    for change in changes:
        note = f"  ({change.note})" if change.note else ""
        print(f"  {change.what:9} {change.path}{note}")
        if not arguments.dry_run:
            carry_out(change)
    conflicts = [change.path for change in changes if change.what == "CONFLICT"]
    if arguments.dry_run:
        print("nothing was changed")
    elif conflicts:
        fail(f"{len(conflicts)} files have parts that you and the template have changed in different ways, between <<<<<<< and "
             f">>>>>>>. Choose in each: {', '.join(conflicts)}")
    elif changes:
        print("Look at it (git diff), build and test it, and commit it. To take it back: git checkout . && git clean -d .")


if __name__ == "__main__":
    main()

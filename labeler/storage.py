"""Fingerprints, atomic directories and manifests: what makes a stage immutable and a kill harmless."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from labeler.errors import RunError
from labeler.file_locks import is_locked, lock
from labeler.write_failures import writing

MANIFEST = "manifest.json"
SCHEMA = 1
_OWN = frozenset({".lock", "run.json", "stages"})  # one of them is in every directory that labeler made
_held: set[int] = set()  # descriptors of this process's locks


def canonical(data: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal data, equal bytes."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def fingerprint(*parts: Any) -> str:
    """sha256 (64 hex digits) over the canonical JSON of `parts`."""
    return hashlib.sha256(canonical(parts)).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_order(values: list[str] | list[int], seed: int, purpose: str) -> list[int]:
    """Positions of `values` in a pseudo-random order that depends on each value alone, `seed` and `purpose`.

    A subset chosen as the first m of this order does not change when other values come or go before it is
    full, which makes choices independent of sharding and of what else was asked for.
    """

    return sorted(range(len(values)), key=lambda i: (hash_key(values[i], seed, purpose), i))


def hash_key(value: str | int, seed: int, purpose: str) -> bytes:
    """What `hash_order` sorts by: 32 bytes that depend on `value`, `seed` and `purpose` alone."""
    return hashlib.sha256(f"{seed}\0{purpose}\0{value}".encode()).digest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, also after a power cut."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place at the end of the block.

    A reader sees the old bytes or the new ones, also after a power cut. Where the block raises, `path` stays
    as it was and what was written goes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.incomplete")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def stage_directory(run: Path, name: str, key: str, build: Callable[[Path], None]) -> Path:
    """The immutable directory ``stages/<name>-<12 hex of key>``, built by `build` when it is not there yet.

    `build` writes files into an ``.incomplete`` directory, which is renamed once its manifest is complete; a
    kill leaves only the incomplete directory, which the next call removes.

    Raises:
        RunError: when a finished directory belongs to another key or its manifest is torn.
    """
    final = run / "stages" / f"{name}-{key[:12]}"
    if final.exists():
        problem = stage_problem(final, key)
        if problem is not None:
            raise RunError(problem)
        return final
    incomplete = final.with_name(final.name + ".incomplete")
    if incomplete.exists():
        shutil.rmtree(incomplete)
    incomplete.mkdir(parents=True)
    build(incomplete)
    _write_manifest(incomplete, key)
    incomplete.rename(final)
    _sync_directory(final.parent)
    return final


def stage_problem(directory: Path, key: str | None = None) -> str | None:
    """What is wrong with a finished stage at a glance and what to do, in one sentence; None: nothing.

    Files are looked at for their size alone; `verify_stage` reads them.
    """
    try:
        files = _read_manifest(directory, key)
    except RunError as error:
        return str(error)
    for name, (size, _) in files.items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != size:
            return f"{path} is missing or has another size: {_again(directory)}"
    return None


def verify_stage(directory: Path) -> list[str]:
    """What is wrong with a stage directory and what to do, one sentence each; empty when every hash fits."""
    try:
        files = _read_manifest(directory)
    except RunError as error:
        return [str(error)]
    problems = []
    for name, (size, sha256) in files.items():
        path = directory / name
        if not path.is_file():
            problems.append(f"{path} is missing: {_again(directory)}")
        elif path.stat().st_size != size or file_sha256(path) != sha256:
            problems.append(f"{path} is not what was written: {_again(directory)}")
    return problems


def _read_manifest(directory: Path, key: str | None = None) -> dict[str, tuple[int, str]]:
    """Size and sha256 of every file of a stage, which must be the one of `key`, or of its own name."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text())
        found, version = str(manifest["fingerprint"]), manifest["schema"]
        files = {name: (int(of["bytes"]), str(of["sha256"])) for name, of in manifest["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise RunError(f"The manifest in {directory} is missing or torn: {_again(directory)}") from None
    if version != SCHEMA:
        raise RunError(f"{directory} was made by another version of labeler: {_again(directory)}")
    if found != (key or found) or found[:12] != directory.name[-12:]:
        raise RunError(f"{directory} was made from other inputs: {_again(directory)}")
    return files


def _again(directory: Path) -> str:
    return f"delete {directory} and run again."


@contextlib.contextmanager
def run_lock(run: Path, part: str = "") -> Iterator[None]:
    """Hold a run directory, or one `part` of it, for one process; the lock goes with the process.

    Raises:
        RunError: when another process holds it, or `run` cannot be written to (now or in the block) or holds
            something else.
    """
    try:
        names = {item.name for item in run.iterdir()} if run.is_dir() else set()
        if names and not any(name in _OWN or name.startswith(".lock") for name in names):
            raise RunError(f"{run} is not empty and is not a run directory; give another --out.")
        run.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(run / f".lock{part}", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        cause = error.strerror or type(error).__name__
        raise RunError(
            f"{run} cannot be a run directory ({cause}): mend that, or give another --out."
        ) from None
    _held.add(descriptor)
    try:
        if not lock(descriptor):
            raise RunError(f"Another process is working on {run}; wait for it, or stop it first.")
        with writing(run):
            yield
    finally:
        if descriptor in _held:
            _held.remove(descriptor)
            os.close(descriptor)


def sweep(run: Path) -> None:
    """Remove the unfinished files that a killed process left in a run directory, which the caller holds."""
    for pattern in (".run.json.*.incomplete", "images/.*.incomplete"):
        for left in run.glob(pattern):
            left.unlink()


def is_held(run: Path) -> bool:
    """Whether a process is working on a run directory at this moment."""
    try:
        with (run / ".lock").open("rb") as stream:
            return is_locked(stream.fileno())
    except FileNotFoundError:
        return False


def _let_go() -> None:
    """In a forked child. One that decodes images outlives a killed run for seconds; the lock must not."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _write_manifest(directory: Path, key: str) -> None:
    files = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
            name = path.relative_to(directory).as_posix()
            files[name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    manifest = {"schema": SCHEMA, "fingerprint": key, "files": files}
    write_atomic(directory / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

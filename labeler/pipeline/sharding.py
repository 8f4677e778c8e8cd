"""The pass in shards, on as many machines as there are, and the shards joined into a run directory.

The activations stage that `merge_run` leaves is the one that an undivided run builds: the same fingerprint
and the same bytes, given the same activations. A shard is a stage directory of its own, with its manifest,
and carries the run.json of the machine that made it.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeler.activations import PassShard, merge_shards
from labeler.allocator import keep_freed_memory
from labeler.config import Config
from labeler.errors import RunError, UsageError
from labeler.pipeline.inputs import claim_directory, describe_run, load_inputs, restrict_units
from labeler.pipeline.pass_stage import IMAGES, activations_key, pass_shard, write_image_paths
from labeler.pipeline.progress import Reporter, SilentReporter
from labeler.run_directory import read_run
from labeler.storage import MANIFEST, fingerprint, run_lock, stage_directory, verify_stage

_INDEX = "shard-of-run.json"
_SHARD = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


@dataclass(frozen=True)
class Shard:
    """One finished shard: `number` of `count`, from 1, of the activations stage with fingerprint `key`."""

    directory: Path
    key: str
    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_shard(text: str) -> tuple[int, int]:
    """``"1/4"``, the first of four, as (number, count).

    Raises:
        UsageError: when it is written otherwise or lies outside 1..count.
    """
    match = _SHARD.fullmatch(text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(f"--shard is written like 1/4, the first of four, not {text!r}.")
    return number, count


def write_shard(
    config: Config,
    shard: str,
    out: Path,
    *,
    units: tuple[str, ...] = (),
    trust_code: Path | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Make the shard ``"1/4"`` of the pass below `out`, or find it there; several may share `out`.

    Raises:
        LabelerError: one sentence that says what to do.
    """
    number, count = parse_shard(shard)
    reporter = reporter or SilentReporter()
    keep_freed_memory()
    with run_lock(out, f"-{number}-of-{count}"):  # so that machines that share `out` do not wait
        inputs = load_inputs(restrict_units(config, units), trust_code=trust_code)
        key = activations_key(inputs)
        name, shard_key = f"shard-{number}-of-{count}", fingerprint("shard", key, number, count)

        def build(directory: Path) -> None:
            pass_shard(inputs, (number - 1, count), directory, reporter.stage("activations"))
            write_image_paths(directory, inputs)
            (directory / "run.json").write_text(json.dumps(describe_run(inputs), indent=1, sort_keys=True))
            (directory / _INDEX).write_text(json.dumps({"key": key, "number": number, "count": count}))

        return stage_directory(out, name, shard_key, build)


def merge_run(directories: list[Path], out: Path) -> Path:
    """Join the shards found below `directories` into the run directory `out`; its activations stage.

    `run.json` becomes that of the first directory, so name first the shard that was made where the run
    goes on: paths in a config belong to a machine.

    Raises:
        RunError: when a shard is missing, given twice, damaged or of another pass, or `out` is another run's.
    """
    shards = [shard for directory in directories for shard in _find_shards(directory)]
    _check_complete(shards)
    for shard in shards:
        problems = verify_stage(shard.directory)
        if problems:
            raise RunError(f"{problems[0]} Copy {shard.directory} again, or make it again.")
    first = shards[0]

    def build(directory: Path) -> None:
        merge_shards([PassShard.load(shard.directory) for shard in shards], directory).save(directory)
        shutil.copyfile(first.directory / IMAGES, directory / IMAGES)

    with run_lock(out):
        claim_directory(out, read_run(first.directory))
        return stage_directory(out, "activations", first.key, build)


def _find_shards(directory: Path) -> list[Shard]:
    found = sorted(directory.glob(f"stages/shard-*/{MANIFEST}"))
    if not found:
        raise RunError(
            f"{directory} holds no finished shard; make one with: labeler activations CONFIG --shard 1/4."
        )
    return [_read_shard(path.parent) for path in found]


def _read_shard(directory: Path) -> Shard:
    try:
        data: Any = json.loads((directory / _INDEX).read_text(encoding="utf-8"))
        return Shard(directory, str(data["key"]), int(data["number"]), int(data["count"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(f"{directory} is not a complete shard; make it again.") from None


def _check_complete(shards: list[Shard]) -> None:
    if not shards:
        raise RunError("Name the directories that labeler activations made.")
    first, seen = shards[0], dict[int, Shard]()
    for shard in shards:
        if (shard.key, shard.count) != (first.key, first.count):
            raise RunError(
                f"{shard.directory} ({shard}) and {first.directory} ({first}) are of different passes; "
                "make all of them with one config, the same images and one count."
            )
        if shard.number in seen:
            both = f"{seen[shard.number].directory} and {shard.directory}"
            raise RunError(f"Shard {shard} is given twice, in {both}; name one of them.")
        seen[shard.number] = shard
    missing = [number for number in range(1, first.count + 1) if number not in seen]
    if missing:
        names = ", ".join(f"{number}/{first.count}" for number in missing[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise RunError(f"Shards are missing: {names}{more}; make them with: labeler activations --shard.")

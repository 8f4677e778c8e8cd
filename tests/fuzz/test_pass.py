"""Hostile files in a whole pass and a whole run: ids stay, nothing hangs, nothing outside is touched."""

from __future__ import annotations

import json
import os
import random
import stat
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeler.activations import run_pass
from labeler.config import ActivationsConfig, ProbeConfig, TargetConfig
from labeler.errors import UnreadableImageError
from labeler.probes import load_probe
from labeler.targets import load_target
from tests.e2e.toy_network import SIDE
from tests.e2e.toy_run import NETWORK, run_toy, toy_config, write_config
from tests.fuzz.annotations import plain, tar_of
from tests.fuzz.harness import within
from tests.fuzz.image_files import hostile_files, lay_special_files, whole_files
from tests.fuzz.mutate import mutated

SLOW = ("67", "many", "1,000,000")  # begin the names of files that take seconds


def lay_images(folder: Path) -> None:
    """Whole, mutated, hand-made and special files."""
    files = whole_files()
    for name, data in files.items():
        (folder / f"whole {name}.jpg").write_bytes(data)
    for name, make in hostile_files().items():
        if not name.startswith(SLOW):
            (folder / f"made {name}.png").write_bytes(make())
    rng = random.Random(0)
    for number in range(60):
        data = mutated(rng, rng.choice(list(files.values())), list(files.values()))[1]
        (folder / f"mutated {number:02d}.webp").write_bytes(data)
    lay_special_files(folder)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of every broken tag
@pytest.mark.parametrize("decoding", ["threads", "processes"])
def test_a_pass_over_hostile_files_keeps_every_id(tmp_path: Path, decoding: str) -> None:
    (tmp_path / "images").mkdir()
    lay_images(tmp_path / "images")
    probe = load_probe(ProbeConfig(source=(f"folder:{tmp_path / 'images'}",), colours=False), seed=0)
    readable = []
    for image in probe.images:
        try:
            probe.image(image.id)
        except UnreadableImageError:
            continue
        readable.append(image.id)
    assert [image.id for image in probe.images] == list(range(len(probe.images)))
    assert 30 < len(readable) < len(probe.images) - 30
    config = TargetConfig(model=f"file:{NETWORK}:build", layers=("colours", "edges"))
    target = load_target(config, seed=0, device="cpu", trust_code=NETWORK)
    with within(60):
        found = run_pass(target, probe, {}, ActivationsConfig(), workers=2, decoding=decoding)  # type: ignore[arg-type]
    assert found.readable_ids.tolist() == readable
    for layer in found.layers.values():
        assert set(layer.topk_ids.ravel().tolist()) <= {-1, *readable}


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A folder with a probe of tar shards whose links and names lead out of it, beside a secret."""
    (tmp_path / "secret.jpg").write_bytes(whole_files()["jpeg"])
    inside = tmp_path / "inside"
    inside.mkdir()
    rng = np.random.default_rng(0)
    members = []
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(inside / "one.png")
        data = (inside / "one.png").read_bytes()
        members.append((plain(f"{number:03d}.png", data), data))
    for name, kind, target in (
        ("../../escaped.txt", tarfile.REGTYPE, ""),
        (f"{tmp_path}/absolute.txt", tarfile.REGTYPE, ""),
        ("link.json", tarfile.SYMTYPE, "../../secret.jpg"),
        ("hard.cls", tarfile.LNKTYPE, "/etc/passwd"),
        ("device.seg.png", tarfile.CHRTYPE, ""),
        ("pipe.txt", tarfile.FIFOTYPE, ""),
        ("d", tarfile.DIRTYPE, ""),
    ):
        info = plain(name, b"")
        info.type, info.linkname = kind, target
        members.append((info, b""))
    (inside / "one.png").unlink()
    (inside / "x.tar").write_bytes(tar_of(members))
    return tmp_path


def beside(root: Path, run: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below `root` that is not of the run: kind, size and time of change."""
    found = {}
    for path in root.rglob("*"):
        if not path.is_relative_to(run):
            status = os.lstat(path)
            folder = stat.S_ISDIR(
                status.st_mode
            )  # its time changes with the run inside; its files are listed
            found[str(path)] = (status.st_mode, *((0, 0) if folder else (status.st_size, status.st_mtime_ns)))
    return found


def run_in(sandbox: Path, **sections: object) -> tuple[int, str]:
    """A whole toy run on the sandbox's shards that must leave everything beside its directory as it is."""
    data = toy_config(visualise={"enabled": False}, refine={"rounds": 1}, **sections)
    data["probe"] = {"source": "webdataset:x.tar"}
    data["checks"] = {**data["checks"], "min_test_images": 10, "interventions": 0}
    config = write_config(sandbox / "inside", data)
    run = sandbox / "inside" / "run"
    temporary = Path(tempfile.gettempdir())
    before, in_temporary = beside(sandbox, run), set(temporary.iterdir())
    outcome = run_toy(config, run, "--units", "colours:0")
    assert beside(sandbox, run) == before
    new = {
        path
        for path in set(temporary.iterdir()) - in_temporary
        if "escaped" in path.name or "absolute" in path.name
    }
    assert not new
    assert "Traceback" not in outcome.err
    return outcome.code, outcome.err


def test_a_run_over_a_shard_that_wants_out_writes_in_its_own_directory_only(sandbox: Path) -> None:
    code, said = run_in(sandbox)
    assert code == 0, said
    run = sandbox / "inside" / "run"
    (listed,) = run.glob("stages/activations-*/images.json")
    names = [Path(name).name for name in json.loads(listed.read_text())]
    assert names == [f"{number:03d}.png" for number in range(12)]  # and none that a link leads to


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("../../evil.png", tarfile.REGTYPE, ""),
        ("/tmp/evil.png", tarfile.REGTYPE, ""),
        ("evil.png", tarfile.SYMTYPE, "../secret.jpg"),
        ("evil.png", tarfile.LNKTYPE, "000.png"),
        ("evil.png", tarfile.CHRTYPE, ""),
        ("evil.png", tarfile.FIFOTYPE, ""),
    ],
)
def test_an_image_that_leads_out_of_its_shard_ends_the_run_in_one_sentence(
    sandbox: Path, name: str, kind: bytes, target: str
) -> None:
    shard = sandbox / "inside" / "x.tar"
    data = whole_files()["png"]
    info = plain(name, data if kind == tarfile.REGTYPE else b"")
    info.type, info.linkname = kind, target
    whole = shard.read_bytes()[:-1024]
    shard.write_bytes(whole + tar_of([(info, data if kind == tarfile.REGTYPE else b"")]))
    code, said = run_in(sandbox)
    assert code == 1
    assert "evil.png" in said
    assert sum(line.startswith("labeler:") for line in said.splitlines()) == 1

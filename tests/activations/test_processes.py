"""Decoding by processes: the same bytes as by threads, typed errors, and nothing left behind."""

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labeler.activations import image_maps, run_pass
from labeler.activations.loader import prefetch, stack_padded
from labeler.activations.processes import PROCESSES_FROM, by_processes
from labeler.config import ActivationsConfig, ProbeConfig, TargetConfig
from labeler.errors import (
    ActivationError,
    ConfigError,
    LabelerError,
    MissingExtraError,
    ProbeError,
    UnknownNameError,
)
from labeler.probes import load_probe
from labeler.targets import load_target
from labeler.testing import toy_target
from tests.activations.activation_doubles import HashEncoder

IMAGES = 27  # not a multiple of the piece of a message, nor of the block
SETTINGS = ActivationsConfig(batch_size=4, top_k=6)


def jpegs():
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(coarse).resize((80, 60)).save(stream, "JPEG")
        whole = stream.getvalue()
        yield f"{index:03d}.jpg", whole[:200] if index == 5 else whole


def folder(tmp_path):
    for name, data in jpegs():
        (tmp_path / name).write_bytes(data)
    return f"folder:{tmp_path}"


def shards(tmp_path):
    files = list(jpegs())
    for number in range(2):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            for name, data in files[number::2]:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return f"webdataset:{tmp_path}/{{0..1}}.tar"


def square(item):
    return item * item


def runs(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # nobody may be there to wait for an orphan


def children():
    return len(multiprocessing.active_children())


@pytest.mark.parametrize("source", [folder, shards])
@pytest.mark.parametrize(("decoding", "workers"), [("processes", 1), ("processes", 3), ("threads", 2)])
def test_the_pass_is_the_same_to_the_byte(tmp_path, source, decoding, workers):
    probe = load_probe(ProbeConfig(source=source(tmp_path)), seed=0)

    def measure(image_id, image):
        return probe.annotation(image_id, image).masks.mean(axis=(1, 2))[:1].astype(np.float32)

    def run(directory, **how):
        made = run_pass(toy_target(), probe, {"hash": HashEncoder()}, SETTINGS, measure=measure, **how)
        made.save(tmp_path / directory)
        return {
            path.relative_to(tmp_path / directory): path.read_bytes()
            for path in sorted((tmp_path / directory).rglob("*"))
            if path.is_file()
        }

    expected = run("caller", workers=0)
    assert len(expected) > 3
    assert run("workers", workers=workers, decoding=decoding) == expected
    assert children() == 0


def test_the_second_pass_gives_the_same_images_and_maps(tmp_path):
    probe, target = load_probe(ProbeConfig(source=folder(tmp_path)), seed=0), toy_target()
    ids = [i for i in range(IMAGES) if i != 5]
    found = [
        list(image_maps(target, probe, ids, target.layers, batch_size=4, **how))
        for how in ({"workers": 0}, {"workers": 2, "decoding": "processes"})
    ]
    for (ids_b, images, maps), (other_ids_b, other_images, other_maps) in zip(*found, strict=True):
        np.testing.assert_array_equal(ids_b, other_ids_b)
        assert [image.tobytes() for image in images] == [image.tobytes() for image in other_images]
        assert {image.mode for image in other_images} == {"RGB"}
        assert all(torch.equal(maps[layer], other_maps[layer]) for layer in target.layers)


def test_workers_have_one_thread_of_torch_and_the_program_its_own_random_numbers():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    found = list(
        prefetch(
            range(20), lambda _: (torch.get_num_threads(), os.getpid()), workers=2, ahead=8, processes=True
        )
    )
    assert {threads for threads, _ in found} == {1}
    assert len({process for _, process in found} - {os.getpid()}) == 2
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    "error",
    [
        ProbeError("The mask a.png is broken."),
        UnknownNameError("layer", "block", ["blocks"]),
        MissingExtraError("builtin:scenes", "demo"),
        KeyError("three"),
    ],
)
def test_an_exception_arrives_as_itself_at_its_turn(error):
    def work(item):
        if item == 13:
            raise error
        return item

    stream = prefetch(range(100), work, workers=2, ahead=16, processes=True)
    assert [next(stream) for _ in range(13)] == list(range(13))
    with pytest.raises(type(error)) as caught:
        next(stream)
    assert str(caught.value) == str(error)
    assert "in work" in caught.value.__notes__[0]
    assert children() == 0


def test_an_exception_that_cannot_travel_is_told_in_words():
    class LocalError(Exception):
        pass

    def work(item):
        raise LocalError("no ink")

    with pytest.raises(RuntimeError, match="LocalError: no ink"):
        list(prefetch(range(3), work, workers=1, ahead=4, processes=True))


def test_closing_and_interrupts_leave_no_process():
    stream = prefetch(range(1000), square, workers=3, ahead=16, processes=True)
    assert next(stream) == 0
    assert children() == 3
    stream.close()
    assert children() == 0

    def consume():
        for item in prefetch(range(1000), square, workers=2, ahead=16, processes=True):
            if item == 25:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert children() == 0


@pytest.mark.parametrize("victims", [1, 2])
def test_a_killed_worker_is_an_error_not_a_hang(victims):
    def work(item):
        if item % 8 == 0 and item // 8 % 2 < victims and item >= 32:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(100_000)

    start = time.monotonic()
    with pytest.raises(ActivationError, match=r"lower executor\.workers"):
        list(prefetch(range(1000), work, workers=2, ahead=16, processes=True))
    assert time.monotonic() - start < 30
    assert children() == 0


PROGRAM = """
    import multiprocessing, signal, time
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    from labeler.activations.loader import prefetch, stack_padded
    def work(item):
        time.sleep(0.01)
        return item
    for item in prefetch(range(10_000), work, workers=2, ahead=16, processes=True):
        if item == 20:
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)
"""


@pytest.fixture
def decoding_program():
    """A running program that decodes for ever, and the ids of its workers."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    yield process, workers
    process.kill()
    process.communicate(timeout=30)


def test_control_c_ends_at_once_and_quietly(decoding_program):
    process, workers = decoding_program
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=15)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "DataLoader" not in errors
    assert not any(runs(pid) for pid in workers)


def test_workers_outlive_a_killed_program_by_seconds(decoding_program):
    process, workers = decoding_program
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(runs(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(runs(pid) for pid in workers)


def test_auto_takes_processes_for_a_gpu_and_many_images(monkeypatch):
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert by_processes("auto", cuda, PROCESSES_FROM)
    assert not by_processes("auto", cuda, PROCESSES_FROM - 1)
    assert not by_processes("auto", cpu, 10**6)
    assert not by_processes("threads", cuda, 10**6)
    assert by_processes("processes", cpu, 1)
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert not by_processes("auto", cuda, 10**6)
    with pytest.raises(ConfigError, match=r"executor\.decoding to threads"):
        by_processes("processes", cpu, 1)


def test_every_error_survives_pickling():
    import pickle

    kinds = [LabelerError]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        error = kind.__new__(kind, "What to do.")
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.exit_code) == (kind, "What to do.", kind.exit_code)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_blocks_are_pinned_and_processes_change_nothing(tmp_path):
    assert stack_padded([torch.ones(2, 2)], 2, (2, 2), pinned=True).is_pinned()
    probe = load_probe(ProbeConfig(source=folder(tmp_path)), seed=0)
    config = TargetConfig(model="timm:resnet10t", layers=("layer1",), weights="random")
    target = load_target(config, seed=0, device="cuda")
    found = [
        run_pass(target, probe, {}, SETTINGS, workers=2, decoding=decoding).layers["layer1"]
        for decoding in ("threads", "processes")
    ]
    np.testing.assert_array_equal(found[0].topk_ids, found[1].topk_ids)
    np.testing.assert_array_equal(found[0].maxima, found[1].maxima)

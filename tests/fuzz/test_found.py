"""What fuzzing showed, each in its smallest form."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import SecretStr
from safetensors.torch import save_file

from labeler.catalogue.label_files import BadRow, read_label_file
from labeler.config import ProbeConfig
from labeler.config_file import load_config
from labeler.errors import ConfigError, ProbeError, TargetError, UnreadableImageError, UsageError
from labeler.probes import load_probe
from labeler.probes.decode import decode_image_bytes
from labeler.probes.webdataset import WebDatasetProbe, find_shards
from labeler.propose.endpoint import batch
from labeler.propose.endpoint.http import retry_after
from labeler.propose.endpoint.wire import Failed, Reply, decode
from labeler.propose.schema import clean_label
from labeler.targets.directions import read_directions, read_names
from labeler.targets.sae import read_sae
from tests.fuzz.annotations import plain, tar_of, write_datasets
from tests.fuzz.harness import within
from tests.fuzz.image_files import encoded, many_scans, picture, plain_png

CONFIG = "target: {model: 'timm:x', layers: [a]}\nprobe: {source: 'builtin:scenes'}\n"


def test_a_jpeg_of_many_passes_is_refused_and_a_photographs_ten_are_not() -> None:
    assert decode_image_bytes(encoded(picture(640), "JPEG", progressive=True), "a").size == (640, 640)
    with within(2.0), pytest.raises(UnreadableImageError, match="passes over"):
        decode_image_bytes(many_scans(640, 200_000), "a")


def test_a_strip_is_refused_and_a_panorama_is_not() -> None:
    assert decode_image_bytes(plain_png(6000, 60, 8, 2), "a").size == (6000, 60)
    with pytest.raises(UnreadableImageError, match="more than 100 times the other"):
        decode_image_bytes(plain_png(6001, 60, 8, 2), "a")


def test_a_file_too_large_to_be_an_image_is_not_hashed(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    with (tmp_path / "b.jpg").open("wb") as stream:
        stream.truncate(2**42)
    with within(5.0):
        probe = load_probe(ProbeConfig(source=(f"folder:{tmp_path}",), colours=False), seed=0)
    assert [image.path.rpartition("/")[2] for image in probe.images] == ["a.jpg", "b.jpg"]
    with pytest.raises(UnreadableImageError, match="64 MB"):
        probe.image(1)


@pytest.mark.parametrize("size", [-1, -512, -1024])
def test_a_negative_size_in_a_shard_does_not_go_round_and_round(tmp_path: Path, size: int) -> None:
    info = plain("b.txt", b"")
    info.size = size
    (tmp_path / "x.tar").write_bytes(tar_of([(plain("a.png", b"abc"), b"abc"), (info, b"")]))
    with within(2.0), pytest.raises(ProbeError, match="negative size"):
        WebDatasetProbe(str(tmp_path / "x.tar"), "w")


def test_braces_with_endless_numbers_name_no_shard() -> None:
    with pytest.raises(ProbeError, match="no shard"):
        find_shards(f"{{0..{'9' * 5000}}}.tar")


@pytest.mark.parametrize(("source", "file"), [("coco_panoptic", "panoptic.json"), ("broden", "index.csv")])
def test_a_pipe_in_the_place_of_a_table_does_not_block(tmp_path: Path, source: str, file: str) -> None:
    write_datasets(tmp_path)
    (tmp_path / source / file).unlink()
    os.mkfifo(tmp_path / source / file)
    with within(2.0), pytest.raises(ProbeError, match="There is no file"):
        load_probe(ProbeConfig(source=(f"{source}:{tmp_path / source}",)), seed=0)


@pytest.mark.parametrize("value", [1e999, "x" * 5000, [[]]])
def test_a_wrong_id_in_panoptic_json_is_one_sentence(tmp_path: Path, value: object) -> None:
    write_datasets(tmp_path)
    path = tmp_path / "coco_panoptic" / "panoptic.json"
    data = json.loads(path.read_text())
    data["categories"][0]["id"] = value
    path.write_text(json.dumps(data))
    with pytest.raises(ProbeError, match="not a COCO panoptic") as caught:
        load_probe(ProbeConfig(source=(f"coco_panoptic:{path.parent}",)), seed=0)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["dog\ud800", "dog\u202egnp", "dog\x1b[2J", "d" * 201])
def test_a_concept_whose_name_cannot_be_shown_or_stored_is_refused(tmp_path: Path, name: str) -> None:
    write_datasets(tmp_path)
    (tmp_path / "masks" / "classes.json").write_text(json.dumps({"1": name, "7": "sky", "112": "brick"}))
    with pytest.raises(ProbeError, match="names a concept"):
        load_probe(ProbeConfig(source=(f"masks:{tmp_path / 'masks'}",)), seed=0)


@pytest.mark.parametrize(
    "date", ["Mon, 99999999999 Jan 2020 00:00:00 GMT", "Wed, 21 Oct 2015 07:28:00 +99999999999999999999"]
)
def test_a_date_out_of_all_range_asks_for_no_wait(date: str) -> None:
    assert retry_after({"retry-after": date}) is None


@pytest.mark.parametrize("status", [1e999, 10**4000, -1, [200]])
def test_a_status_that_is_none_makes_no_long_cause(status: object) -> None:
    line = json.dumps({"custom_id": "k", "response": {"status_code": status, "body": {}}})
    key, found = batch._result(line.encode(), SimpleNamespace(key=SecretStr("sk-x")))  # type: ignore[arg-type]
    assert isinstance(found, Failed)
    assert (key, found.cause) == ("", "A line of the batch's results cannot be read.")


def test_a_name_that_no_file_has_is_refused(tmp_path: Path) -> None:
    write_datasets(tmp_path)
    path = tmp_path / "broden" / "index.csv"
    path.write_text(path.read_text().replace("bare.jpg", "a" * 2000 + ".jpg"))
    with pytest.raises(ProbeError, match="does not lie below images") as caught:
        load_probe(ProbeConfig(source=(f"broden:{path.parent}",)), seed=0)
    assert len(str(caught.value)) < 500


def test_tokens_that_no_database_stores_were_not_reported() -> None:
    body = {
        "choices": [{"message": {"content": "x"}}],
        "usage": {"prompt_tokens": 10**30, "completion_tokens": 3},
    }
    found = decode(json.dumps(body).encode())
    assert isinstance(found, Reply)
    assert (found.input_tokens, found.output_tokens, found.reported) == (None, 3, False)


def test_a_label_has_no_selector_that_draws_nothing() -> None:
    with pytest.raises(ValueError, match="invisible"):
        clean_label("dog\U000e0100")


def test_a_label_that_composes_to_eighty_characters_is_one() -> None:
    assert len(clean_label("α\u0313\u0300\u0345" * 80)) == 80
    with within(0.5), pytest.raises(ValueError, match="longer than 80"):
        clean_label("a" + "\u0301\u0323" * 300_000)


@pytest.mark.parametrize(
    "line",
    [
        "seed: 2024-13-45",
        "seed: 0x_",
        "seed: !!bool maybe",
        "seed: !!timestamp x",
        "x: " + "[" * 3000,
        "seed: " + "9" * 5000,
        "activations: {memory_gb: .inf}",
        "seed: -1",
        "seed: 99999999999999999999",
        'propose: {model: "a\\0b"}',
        'propose: {model: "\\ud800"}',
        "propose: {vocabulary: ~nobody2/x}",
        "probe: {source: 'folder:~nobody2/x'}",
    ],
)
def test_what_yaml_stumbles_over_is_a_config_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "c.yaml").write_text(f"{CONFIG}{line}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.yaml")
    assert len(str(caught.value)) < 500


def test_a_tree_of_aliases_is_not_written_out(tmp_path: Path) -> None:
    aliases = "x0: &x0 [a, a]\n" + "".join(
        f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    (tmp_path / "c.yaml").write_text(
        f"{CONFIG}refine: {{rounds: {{a: 1}}}}\n".replace("{a: 1}", "*x11").join([aliases, ""])
    )
    with within(5.0), pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.yaml")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["zip", "header", "claim"])
def test_a_broken_array_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / "d.npy"
    np.save(path, np.ones((2, 6)))
    data = path.read_bytes()
    path.write_bytes(
        {
            "zip": b"PK\x03\x04 no archive",
            "header": data.replace(b"(2, 6)", b"(2, 6 "),
            "claim": data.replace(b"(2, 6), }          ", b"(9999999999999, 6)}"),
        }[name]
    )
    with pytest.raises(TargetError, match=r"no \.npy file"):
        read_directions(path, 6, "layer")


def test_deep_names_are_one_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.ones((2, 6)))
    (tmp_path / "d.json").write_text("[" * 100_000)
    with pytest.raises(TargetError, match="not readable JSON"):
        read_names(tmp_path / "d.npy")


@pytest.mark.parametrize(
    ("k", "metadata"), [([], {}), ([1.0, 2.0], {}), ([3.0], {"k": "²"}), ([3.0], {"k": "9" * 5000})]
)
def test_a_wrong_k_is_one_sentence(tmp_path: Path, k: list[float], metadata: dict[str, str]) -> None:
    save_file({"W_enc": torch.rand(6, 8), "k": torch.tensor(k)}, tmp_path / "s.safetensors", metadata)
    with pytest.raises(TargetError, match="one whole number"):
        read_sae(tmp_path / "s.safetensors", 6, "layer")


@pytest.mark.parametrize(
    "row",
    [
        '{"unit": "a:1", "labels": ["x"]}',
        '{"unit": "a:1", "label": "x", "facet": 1e999}',
        '{"unit": "a:1", "label": "x", "formula": "x"}',
    ],
)
def test_a_row_of_another_form_is_left_out(tmp_path: Path, row: str) -> None:
    (tmp_path / "l.jsonl").write_text(row)
    (found,) = read_label_file(tmp_path / "l.jsonl")
    assert isinstance(found, BadRow)
    assert len(found.why) < 250


def test_a_row_that_nests_too_deep_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text('{"a":' * 100_000)
    with pytest.raises(UsageError, match="no JSON in line 1"):
        list(read_label_file(tmp_path / "l.jsonl"))

"""Images asked for by text, by image and by direction, from the stored indexes of a finished run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from labeler import Catalogue, FoundImage, LabelerError
from labeler.activations import Activations
from labeler.builtin import scenes
from labeler.encoders import load_encoder
from labeler.errors import CatalogueError, EncoderError, UnreadableImageError
from tests.e2e.conftest import ToyRun
from tests.e2e.toy_run import labeler


@pytest.fixture
def catalogue(toy_run: ToyRun) -> Iterator[Catalogue]:
    with Catalogue.open(toy_run.run) as found:
        yield found


@pytest.fixture(scope="module")
def activations(toy_run: ToyRun) -> Activations:
    (stage,) = (toy_run.run / "stages").glob("activations-????????????")
    return Activations.load(stage)


def image_id(found: FoundImage) -> int:
    return int(found.image.removeprefix("scene-"))


def cosines(rows_nd: np.ndarray, one: int) -> np.ndarray:
    unit = rows_nd / np.maximum(np.linalg.norm(rows_nd, axis=1, keepdims=True), 1e-30)
    return unit @ unit[one]


def test_a_text_gives_the_images_nearest_to_it(catalogue: Catalogue, activations: Activations) -> None:
    found = catalogue.images_for_text("red", k=7)
    embeddings_nd = activations.embeddings["builtin:scenes-clip"]
    expected = embeddings_nd @ load_encoder("builtin:scenes-clip").embed_texts(["red"])[0]
    np.testing.assert_allclose([one.score for one in found], np.sort(expected)[::-1][:7], rtol=1e-5)
    np.testing.assert_allclose(
        [expected[image_id(one)] for one in found], [one.score for one in found], rtol=1e-5
    )


def test_an_image_of_the_probe_gives_its_neighbours(catalogue: Catalogue, activations: Activations) -> None:
    found = catalogue.images_like("scene-000017", k=5)
    expected = cosines(activations.embeddings["builtin:scenes-clip"], 17)
    assert image_id(found[0]) != 17
    np.testing.assert_allclose([one.score for one in found], np.sort(expected)[::-1][1:6], rtol=1e-5)


def test_an_image_file_finds_itself(catalogue: Catalogue, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(scenes.render_scene(0, 23, 64).image).save(tmp_path / "x.png")
    found = catalogue.images_like(tmp_path / "x.png", k=3)
    assert found[0].image == "scene-000023"
    assert found[0].score == pytest.approx(1, abs=1e-4)


def test_a_layer_compares_activations(catalogue: Catalogue, activations: Activations) -> None:
    found = catalogue.images_like("scene-000017", k=5, layer="colours")
    expected = cosines(np.asarray(activations.layers["colours"].maxima), 17)
    expected[17] = -2
    np.testing.assert_allclose([one.score for one in found], np.sort(expected)[::-1][:5], rtol=1e-4)


def test_the_indexes_are_stored_and_a_run_without_them_answers_alike(toy_run: ToyRun, tmp_path: Path) -> None:
    (index,) = (toy_run.run / "stages").glob("index-????????????")
    assert {path.name for path in index.rglob("*.faiss")} == {"mean.faiss", "max.faiss", "embeddings.faiss"}
    bare = shutil.copytree(toy_run.run, tmp_path / "bare", ignore=shutil.ignore_patterns("index-*"))
    width = len(np.load(next(index.glob("layer-000/norms.npy"))))
    assert width == 220
    with Catalogue.open(toy_run.run) as stored, Catalogue.open(bare) as fresh:
        assert stored.images_for_text("red") == fresh.images_for_text("red")
        assert stored.images_like("scene-000003", layer="edges") == fresh.images_like(
            "scene-000003", layer="edges"
        )


def test_wrong_questions_are_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="neither an image of the probe nor a file"):
        catalogue.images_like("nowhere.jpg")
    with pytest.raises(CatalogueError, match="either a unit, or layer"):
        catalogue.top_images("edges:1", layer="edges")
    with pytest.raises(CatalogueError, match="is not an image of the probe"):
        catalogue.images_like("nowhere.jpg", layer="colours")
    with pytest.raises(LabelerError, match="no layer named 'colour'"):
        catalogue.images_like("scene-000017", layer="colour")
    with pytest.raises(EncoderError, match="does not know 'flibbertigibbet'"):
        catalogue.images_for_text("flibbertigibbet")
    (tmp_path / "x.jpg").write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match=r"x\.jpg"):
        catalogue.images_like(tmp_path / "x.jpg")


def test_the_command_line_says_the_same(toy_run: ToyRun, catalogue: Catalogue) -> None:
    expected = [{"image": one.image, "score": one.score} for one in catalogue.images_for_text("red", k=4)]
    assert labeler("top", toy_run.run, "--text", "red", "-k", 4, "--json").json == expected
    found = labeler("top", toy_run.run, "--image", "scene-000017", "--layer", "edges", "-k", 2)
    assert found.code == 0
    assert "scene-" in found.out


@pytest.mark.parametrize(
    "options",
    [(), ("--text", "red", "--image", "x"), ("edges:1", "--text", "red"), ("edges:1", "--layer", "edges"),
     ("--text", "red", "--layer", "edges"), ("--direction", "f.npy")],
)  # fmt: skip
def test_one_question_at_a_time(toy_run: ToyRun, options: tuple[str, ...]) -> None:
    assert labeler("top", toy_run.run, *options).code == 2

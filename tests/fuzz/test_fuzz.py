"""A small share of every fuzzer: no case is unhandled. ``python -m tests.fuzz.NAME`` runs any number."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from labeler.errors import UnreadableImageError
from labeler.probes.decode import decode_image_bytes
from tests.fuzz import annotations, answers, checkpoints, configs, images
from tests.fuzz.answers import large_texts, parsed
from tests.fuzz.harness import GOOD, Figures, fuzz, run_case
from tests.fuzz.image_files import hostile_files, lay_special_files, whole_files

SHARES = ((images, 1500), (answers, 1500), (annotations, 60), (configs, 300), (checkpoints, 600))


@pytest.mark.parametrize(("module", "count"), SHARES, ids=[module.__name__ for module, _ in SHARES])
def test_no_mutated_case_is_unhandled(module: ModuleType, count: int) -> None:
    # numbers from 1: what is made by hand has tests of its own
    found = module.run(range(1, 1 + count), 0).dump()
    assert found["unhandled"] == 0, found["first_unhandled"]
    assert found["cases"] == count
    assert len(found["outcomes"]) > 1, "some are refused and some are not"
    assert 0 < found["outcomes"].get(GOOD, 0) < count


def test_the_files_that_are_mutated_are_whole() -> None:
    for name, data in whole_files().items():
        if name not in ("gif", "tiff", "ppm"):
            assert decode_image_bytes(data, name).mode == "RGB"


@pytest.mark.parametrize(
    "name",
    [
        "20,000 x 1",
        "1 x 20,000",
        "many scans, small",
        "many scans, large",
        "zTXt bomb",
        "iTXt bomb",
        "iCCP bomb",
        "four gigapixels",
        "over 67 megapixels",
        "words",
        "nothing",
    ],
)
def test_a_file_made_to_be_slow_is_refused_at_once(name: str) -> None:
    figures = Figures("made", 0, limit=2.0)

    def run() -> str:
        with pytest.raises(UnreadableImageError) as caught:
            decode_image_bytes(data, "a.jpg")
        assert str(caught.value).endswith(".")
        return GOOD

    data = hostile_files()[name]()
    run_case(figures, name, "made", run)
    assert figures.outcomes == {GOOD: 1}, figures.unhandled


def test_what_is_no_file_neither_hangs_nor_is_read(tmp_path: Path) -> None:
    figures = Figures("special", 0, limit=2.0)
    for name in lay_special_files(tmp_path):
        run_case(figures, name, "special", lambda name=name: images.outcome(tmp_path / name, name))
    assert set(figures.outcomes) <= {"UnreadableImageError", GOOD}, figures.unhandled
    assert figures.outcomes[GOOD] <= 1  # root reads what nobody may


@pytest.mark.parametrize("name", large_texts())
def test_an_answer_of_ten_megabytes_takes_no_second(name: str) -> None:
    figures = Figures("large", 0, limit=answers.LIMIT)
    text = large_texts()[name]
    run_case(figures, name, "large", lambda: parsed(text))
    assert set(figures.outcomes) <= {GOOD, "InvalidAnswer", "abstains"}, figures.unhandled


def test_configs_made_by_hand_are_one_sentence_and_run_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    figures = Figures("configs", 0, limit=configs.LIMIT)
    for name, text in configs.bad_texts().items():
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        run_case(figures, name, "made", lambda: configs.outcome(path))
    assert set(figures.outcomes) <= {GOOD, "ConfigError"}, figures.unhandled


def test_a_checkpoint_with_code_is_refused_and_its_code_is_not_run(tmp_path: Path) -> None:
    for name, data in checkpoints.hostile_checkpoints(tmp_path / "ran").items():
        (tmp_path / name).write_bytes(data)
        assert checkpoints.refused(tmp_path / name, tmp_path / "ran") == "TargetError", name


def test_the_harness_counts_what_is_unhandled() -> None:
    figures = Figures("harness", 0, limit=0.2)

    def endless() -> str:
        while True:
            pass

    run_case(figures, "0", "loop", endless)
    run_case(figures, "1", "bug", lambda: str(1 // 0))
    found = figures.dump()
    assert found["unhandled"] == 2
    assert set(found["outcomes"]) == {"UNHANDLED OverTimeError", "UNHANDLED ZeroDivisionError"}


def test_a_case_depends_on_its_seed_and_number_alone() -> None:
    drawn = [fuzz("answers", answers.draw, range(first, 40), 7, 1.0).kinds for first in (0, 20)]
    assert sum(map(len, drawn)) > 0
    again = fuzz("answers", answers.draw, range(20, 40), 7, 1.0).kinds
    assert again == drawn[1]

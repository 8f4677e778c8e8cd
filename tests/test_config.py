from pathlib import Path

import pytest

from labeler.config import Config, parse_units
from labeler.config_file import load_config, parse_config
from labeler.errors import ConfigError
from labeler.resources import resource_directory

MINIMAL = {"target": {"model": "timm:x", "layers": ["a"]}, "probe": {"source": "folder:pictures"}}


@pytest.mark.parametrize("path", sorted(resource_directory("configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_config_is_valid(path: Path) -> None:
    assert isinstance(load_config(path), Config)


def test_paths_are_relative_to_the_config_file(tmp_path: Path) -> None:
    config = parse_config(MINIMAL, base=tmp_path)
    assert config.probe.source == (f"folder:{tmp_path / 'pictures'}",)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({**MINIMAL, "visualize": {}}, "did you mean 'visualise'"),
        ({**MINIMAL, "gate": {"precison": 0.9}}, "did you mean 'precision'"),
        ({**MINIMAL, "gate": {"precision": 2}}, "gate.precision"),
        ({"probe": MINIMAL["probe"]}, "'target'"),
        ({**MINIMAL, "propose": {"kind": "vlm"}}, "model"),
        ({**MINIMAL, "target": {"model": "timm:x", "layers": []}}, "at least one layer"),
    ],
)
def test_a_wrong_config_is_one_sentence_that_names_the_right_key(
    data: dict, says: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(data, base=tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_space_of_another_width_is_part_of_a_path(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "target: {model: 'timm:x', layers: [a]}\nprobe: {source: 'folder:9.00\u202fAM\u3000\u5199\u771f'}\n",
        encoding="utf-8",
    )
    assert load_config(tmp_path / "c.yaml").probe.source == (
        f"folder:{tmp_path}/9.00\u202fAM\u3000\u5199\u771f",
    )


def test_overrides_replace_values(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("target: {model: 'timm:x', layers: [a]}\nprobe: {source: 'builtin:scenes'}\n")
    config = load_config(path, ("refine.rounds=2", "target.weights=random", "seed=7"))
    assert (config.refine.rounds, config.target.weights, config.seed) == (2, "random", 7)
    with pytest.raises(ConfigError, match="key=value"):
        load_config(path, ("refine.rounds",))


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no config file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "bad.yaml")


def test_units_are_ranges_and_single_numbers() -> None:
    assert parse_units("0-3, 7,2", 8, "a") == (0, 1, 2, 3, 7)
    for wrong in ("8", "x", "3-", "", "-1", "2-1", "1,5-2", "0-99999999999", "²"):
        with pytest.raises(ConfigError):
            parse_units(wrong, 8, "a")

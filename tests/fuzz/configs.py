"""Hostile configs through `load_config`: `python -m tests.fuzz.configs`."""

from __future__ import annotations

import copy
import json
import math
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from labeler.config import Config
from labeler.config_file import load_config
from labeler.errors import ConfigError
from tests.fuzz.harness import GOOD, Case, Figures, fuzz, main, run_case, sentence
from tests.fuzz.mutate import mutated, other_data

COUNT = 20_000
LIMIT = 30.0
"""Seconds; PyYAML takes some ten for a megabyte, the most that is read."""
_CONFIGS = Path(__file__).parents[2] / "configs"
RAN = "ran"
"""A file beside the config that only code in the config would make."""


def whole_configs() -> list[dict[str, Any]]:
    """The configs that ship, and one that sets every key."""
    found = [yaml.safe_load(path.read_text()) for path in sorted(_CONFIGS.glob("*.yaml"))]
    target = {
        "model": "timm:resnet18",
        "layers": ["layer1"],
        "units": {"layer1": "0-3"},
        "negative": {"layer1": "1"},
        "sae": {"layer2": "sae.safetensors"},
        "directions": {"layer3": "d.npy"},
        "weights": "w.pt",
    }
    propose = {
        "kind": ["vlm"],
        "model": "m",
        "base_url": "http://localhost:1/v1",
        "prices": {"input": 1, "output": 2, "currency": "USD"},
    }
    every = Config.model_validate({"target": target, "probe": {"source": ["folder:~/x"]}, "propose": propose})
    return [*found, every.model_dump(mode="json")]


def bad_texts() -> dict[str, str]:
    """YAML that PyYAML stumbles over, or that asks it for objects."""
    start = "target: {model: 'timm:x', layers: [a]}\nprobe: {source: 'builtin:scenes'}\n"
    tags = (
        "!!python/object/apply:pathlib.Path.touch [ran]",
        "!!python/object/new:os.system ['touch ran']",
        "!!python/object/apply:os.system ['touch ran']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/object/apply:builtins.eval [\"open('ran', 'w')\"]",
        "!!python/tuple [1]",
        "!!binary '%%%'",
        "!!bool maybe",
        "!!int x",
        "!!float x",
        "!!timestamp x",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "!!str {a: 1}",
    )
    scalars = (
        "2024-13-45",
        "0x_",
        "0b_",
        "0o",
        "190:20:30",
        ".nan",
        ".inf",
        "-.inf",
        "9" * 5000,
        "1e400",
        "~",
    )
    bomb = "x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n" + "".join(
        f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    odd = {
        "deep lists": "x: " + "[" * 3000,
        "deep objects": "x: " + "{a: " * 3000,
        "deep block": "\n".join(" " * depth + "a:" for depth in range(1200)),
        "alias bomb": bomb + start,
        "alias bomb as a value": bomb + start + "refine: {rounds: *x11}\n",
        "alias bomb as a list": bomb + start.replace("[a]", "*x11"),
        "own alias": "&a [*a]",
        "own object": start + "refine: &a {rounds: *a}",
        "merges itself": "<<: &a {<<: *a}",
        "object as key": start + "? {a: 1}\n: 2",
        "list as key": start + "? [a]\n: 2",
        "number as key": start + "1: 2",
        "null as key": start + "~: 2",
        "NUL": start.replace("timm:x", "a\0b"),
        "byte order": "\ufeff" + start,
        "escaped NUL": start.replace("'builtin:scenes'", '"folder:a\\0b"'),
        "half a surrogate": start.replace("'builtin:scenes'", '"folder:\\ud800"'),
        "bidi": start.replace("timm:x", "timm:\u202ex"),
        "home of nobody": start.replace("builtin:scenes", "folder:~nobody2/x"),
        "many": start + "x: 1\n" * 20_000,
        "long path": start.replace("builtin:scenes", "folder:" + "a/" * 4000),
        "questions": "? " * 2000,
        "long key": start + "k" * 900 + ": 1",
        "long value": start + "seed: " + "v" * 500_000,
        "brackets": start + "x: " + "[]," * 50_000,
        "dashes": "- " * 100_000,
        "anchors": "&a " * 10_000,
        "two megabytes": start + "#" * 2_000_000,
        "documents": start + "---\n" + start,
        "empty": "",
        "words": "words",
    }
    return {
        **{f"tag {tag[:40]}": f"{start}seed: {tag}\n" for tag in tags},
        **{f"key {tag[:40]}": f"{start}? {tag}\n: 1\n" for tag in tags},
        **{f"scalar {text[:20]}": f"{start}seed: {text}\n" for text in scalars},
        **odd,
    }


def outcome(path: Path, overrides: tuple[str, ...] = ()) -> str:
    """A config whose every value can be stored, or one sentence; nothing in it was run."""
    try:
        config = load_config(path, overrides)
    except ConfigError as error:
        said = sentence(error)
    else:
        json.dumps(config.model_dump(mode="json"), ensure_ascii=False, allow_nan=False).encode()
        assert all(map(math.isfinite, _numbers(config.model_dump())))
        said = GOOD
    assert not (path.parent / RAN).exists(), "code in a config was run"
    assert not Path(RAN).exists(), "code in a config was run"
    return said


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)
    elif isinstance(value, int | float):
        yield value


def drawer(path: Path) -> Callable[[random.Random], Case]:
    """Draws a config with other values, keys or bytes, or an override."""
    configs = whole_configs()
    texts = [yaml.safe_dump(config).encode() for config in configs]
    bad = [text.encode("utf-8", "surrogatepass") for text in bad_texts().values() if len(text) < 2000]

    def draw(rng: random.Random) -> Case:
        way = rng.randrange(4)
        if way == 0:
            kind, data = mutated(rng, rng.choice(texts), bad)
            path.write_bytes(data)
            return f"bytes, {kind}", lambda: outcome(path)
        if way == 1:
            path.write_bytes(rng.choice(texts))
            key = rng.choice(
                ("seed", "probe.images", "refine", "target.layers", "x", "gate.require", ".", "a..b")
            )
            value = rng.choice(bad).decode("utf-8", "replace")[-60:]
            return "override", lambda: outcome(path, (f"{key}={value}",))
        data = copy.deepcopy(rng.choice(configs))
        for _ in range(rng.randint(1, 3)):
            data = other_data(rng, data)
        # JSON is YAML, but for what it writes of infinity and half surrogates
        text = json.dumps(data) if way == 2 else yaml.safe_dump(_short_numbers(data), allow_unicode=True)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        return ("values as JSON", "values as YAML")[way - 2], lambda: outcome(path)

    return draw


def _short_numbers(value: Any) -> Any:
    """PyYAML cannot write a number of 4,000 digits."""
    if isinstance(value, dict):
        return {key: _short_numbers(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_short_numbers(part) for part in value]
    return value % 10**4000 if isinstance(value, int) and not isinstance(value, bool) else value


def run(numbers: range, seed: int) -> Figures:
    """The mutated configs `numbers`, and, where they begin at 0, those made by hand."""
    with tempfile.TemporaryDirectory(prefix="fuzz-configs-") as name:
        path = Path(name) / "config.yaml"
        figures = fuzz("configs", drawer(path), numbers, seed, LIMIT)
        if numbers.start == 0:
            for case, text in bad_texts().items():
                path.write_bytes(text.encode("utf-8", "surrogatepass"))
                run_case(figures, case, "made", lambda: outcome(path))
    return figures


if __name__ == "__main__":
    main("configs", run, COUNT)

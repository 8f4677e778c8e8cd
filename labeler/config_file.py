"""Reading a config: YAML and overrides in, one validated `Config` out, paths made absolute."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from labeler.config import Config
from labeler.errors import ConfigError, nearest
from labeler.printable import is_printable

_MOST_BYTES: Final = 2**20
"""Of a config. PyYAML reads a megabyte in some ten seconds."""
_NO_YAML: Final = (ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError)
"""What PyYAML raises beside its own errors: for 2024-13-45, 0x, !!bool maybe, or lists 1,000 deep."""
_LONGEST: Final = 200  # characters of what an error quotes


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read a YAML config; paths in it become absolute, relative to the file. `overrides` are ``key=value``.

    Raises:
        ConfigError: when the file is missing, is not YAML, or a key or value is wrong.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"There is no config file at {path}; write one, or start from configs/demo.yaml.")
    if path.stat().st_size > _MOST_BYTES:
        raise ConfigError(f"{path} is no config file: it is larger than {_MOST_BYTES // 2**20} MB.")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, *_NO_YAML) as error:
        raise ConfigError(f"{path} is not valid YAML: {_short(' '.join(str(error).split()))}.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must be a mapping with the sections target, probe, encoder and so on.")
    for override in overrides:
        _set(data, override)
    return parse_config(data, base=path.parent.resolve())


def parse_config(data: dict[str, Any], base: Path) -> Config:
    """Validate a config given as plain data; relative paths are taken from `base`.

    Texts must be printable: no path or name has control characters, and half a surrogate cannot be stored.

    Raises:
        ConfigError: one sentence about the first thing that is wrong, with the nearest right key.
    """
    _check_printable(data)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_first_problem(error)) from None
    try:
        return _absolute(config, base)
    except (OSError, RuntimeError) as error:  # a loop of links, a home of nobody
        raise ConfigError(f"A path in the config cannot be used: {_short(str(error).rstrip('.'))}.") from None


def _set(data: dict[str, Any], override: str) -> None:
    import yaml

    key, equals, value = override.partition("=")
    if not equals or not key or not key.isprintable():
        raise ConfigError(
            f"--set takes key=value, for example --set refine.rounds=2, not {_quoted(override)}."
        )
    *sections, last = key.split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise ConfigError(f"{_quoted(section)} in --set {_short(key)} is a value, not a section.")
    try:
        data[last] = yaml.safe_load(value)
    except (yaml.YAMLError, *_NO_YAML):
        raise ConfigError(f"The value in --set {_quoted(override)} is not valid YAML.") from None


def _check_printable(data: object) -> None:
    """With a stack and each value once: aliases make trees of YAML that no memory holds."""
    waiting, seen = [data], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and not is_printable(value):
            raise ConfigError(
                f"The config has a text with characters that cannot be printed: {_quoted(value)}."
            )
        if isinstance(value, dict | list) and id(value) not in seen:
            seen.add(id(value))
            waiting += [*value, *value.values()] if isinstance(value, dict) else value


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = [_short(str(part)) for part in problem["loc"]]
    name = ".".join(where)
    if problem["type"] == "extra_forbidden":
        close = nearest(where[-1], _keys(where[:-1]))
        hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(_keys(where[:-1]))}."
        return f"There is no config key {name!r}{hint}"
    if problem["type"] == "missing":
        return f"The config needs a value for {name!r}."
    message = problem["msg"].removeprefix("Value error, ")
    return f"Config value {name}: {_short(message)} (it is {_quoted(problem['input'])})."


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _quoted(value: object) -> str:
    """The beginning of a value, without walking through the rest of it."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = _LONGEST
    return _short(short.repr(value))


def _keys(sections: list[str]) -> list[str]:
    model: type[BaseModel] = Config
    for section in sections:
        annotation = model.model_fields[section].annotation if section in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


_PATH_SCHEMES = ("folder:", "coco_panoptic:", "masks:", "broden:", "webdataset:")


def _absolute(config: Config, base: Path) -> Config:
    """With every path of the config from `base`."""
    target, propose = config.target, config.propose
    weights = target.weights if target.weights in (None, "random") else _file(base, str(target.weights))
    vocabulary, labels = propose.vocabulary, propose.labels
    changes = {
        "target": {
            "model": _model(base, target.model),
            "weights": weights,
            "sae": {layer: _file(base, text) for layer, text in target.sae.items()},
            "directions": {layer: _file(base, text) for layer, text in target.directions.items()},
        },
        "probe": {"source": tuple(_source(base, text) for text in config.probe.source)},
        "encoder": {
            "model": _model(base, config.encoder.model),
            "judge": tuple(_model(base, text) for text in config.encoder.judge),
        },
        "propose": {
            "vocabulary": vocabulary if vocabulary == "auto" else _file(base, vocabulary),
            "labels": _file(base, labels) if labels else "",
            "base_url": _cassette(base, propose.base_url),
        },
    }
    sections = {name: getattr(config, name).model_copy(update=own) for name, own in changes.items()}
    return config.model_copy(update=sections)


def _file(base: Path, text: str) -> str:
    return str((base / Path(text).expanduser()).resolve())


def _source(base: Path, text: str) -> str:
    scheme, _, rest = text.partition(":")
    return f"{scheme}:{_file(base, rest)}" if f"{scheme}:" in _PATH_SCHEMES else text


def _model(base: Path, text: str) -> str:
    if text.startswith("file:"):
        path, _, function = text.removeprefix("file:").rpartition(":")
        return f"file:{_file(base, path)}:{function}"
    if text.startswith("open_clip:") and text.endswith((".safetensors", ".pt", ".pth", ".bin")):
        name, _, weights = text.partition("@")
        return f"{name}@{_file(base, weights)}"
    return text


def _cassette(base: Path, text: str) -> str:
    scheme, _, rest = text.partition(":")
    return f"cassette:{_file(base, rest)}" if scheme == "cassette" else text

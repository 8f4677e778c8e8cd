"""Reading a config: YAML and overrides in, one validated `Config` out, paths made absolute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from labeler.config import Config
from labeler.errors import ConfigError, nearest


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read a YAML config; paths in it become absolute, relative to the file. `overrides` are ``key=value``.

    Raises:
        ConfigError: when the file is missing, is not YAML, or a key or value is wrong.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"There is no config file at {path}; write one, or start from configs/demo.yaml.")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must be a mapping with the sections target, probe, encoder and so on.")
    for override in overrides:
        _set(data, override)
    return parse_config(data, base=path.parent.resolve())


def parse_config(data: dict[str, Any], base: Path) -> Config:
    """Validate a config given as plain data; relative paths are taken from `base`.

    Raises:
        ConfigError: one sentence about the first thing that is wrong, with the nearest right key.
    """
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_first_problem(error)) from None
    return _absolute(config, base)


def _set(data: dict[str, Any], override: str) -> None:
    import yaml

    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set takes key=value, for example --set refine.rounds=2, not {override!r}.")
    *sections, last = key.split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise ConfigError(f"{section!r} in --set {override} is a value, not a section.")
    try:
        data[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"The value in --set {override} is not valid YAML.") from None


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = [str(part) for part in problem["loc"]]
    name = ".".join(where)
    if problem["type"] == "extra_forbidden":
        close = nearest(where[-1], _keys(where[:-1]))
        hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(_keys(where[:-1]))}."
        return f"There is no config key {name!r}{hint}"
    if problem["type"] == "missing":
        return f"The config needs a value for {name!r}."
    message = problem["msg"].removeprefix("Value error, ")
    return f"Config value {name}: {message} (it is {problem['input']!r})."


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
    def file(text: str) -> str:
        return str((base / Path(text).expanduser()).resolve())

    def source(text: str) -> str:
        scheme, _, rest = text.partition(":")
        return f"{scheme}:{file(rest)}" if f"{scheme}:" in _PATH_SCHEMES else text

    def model(text: str) -> str:
        if text.startswith("file:"):
            path, _, function = text.removeprefix("file:").rpartition(":")
            return f"file:{file(path)}:{function}"
        if text.startswith("open_clip:") and text.endswith((".safetensors", ".pt", ".pth", ".bin")):
            name, _, weights = text.partition("@")
            return f"{name}@{file(weights)}"
        return text

    def cassette(text: str) -> str:
        scheme, _, rest = text.partition(":")
        return f"cassette:{file(rest)}" if scheme == "cassette" else text

    def files(by_layer: dict[str, str]) -> dict[str, str]:
        return {layer: file(text) for layer, text in by_layer.items()}

    target = config.target
    weights = target.weights if target.weights in (None, "random") else file(str(target.weights))
    vocabulary, labels = config.propose.vocabulary, config.propose.labels
    return config.model_copy(
        update={
            "target": target.model_copy(
                update={
                    "model": model(target.model),
                    "weights": weights,
                    "sae": files(target.sae),
                    "directions": files(target.directions),
                }
            ),
            "probe": config.probe.model_copy(update={"source": tuple(map(source, config.probe.source))}),
            "encoder": config.encoder.model_copy(
                update={
                    "model": model(config.encoder.model),
                    "judge": tuple(map(model, config.encoder.judge)),
                }
            ),
            "propose": config.propose.model_copy(
                update={
                    "vocabulary": vocabulary if vocabulary == "auto" else file(vocabulary),
                    "labels": file(labels) if labels else "",
                    "base_url": cassette(config.propose.base_url),
                }
            ),
        }
    )

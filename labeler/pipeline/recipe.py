"""The inputs of a run on their way to another machine: what they are made from, not what they are."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from labeler.config import Config, ProposeConfig
from labeler.errors import LabelerError, RunError
from labeler.pipeline.inputs import Inputs, load_inputs


@dataclass(frozen=True)
class Recipe:
    """How `Inputs` are loaded again, and the fingerprint that they must have. Nothing in it is secret.

    `config` is JSON and has no section `propose`: who asks a model stays where the run was begun.
    """

    config: str
    trust_code: str | None
    key: str

    @classmethod
    def of(cls, inputs: Inputs) -> Recipe:
        """That of inputs that were loaded here."""
        executor = inputs.config.executor
        # Which GPU a worker has is the cluster's to say.
        executor = executor.model_copy(update={"device": executor.device.partition(":")[0]})
        config = inputs.config.model_copy(update={"propose": ProposeConfig(), "executor": executor})
        code = None if inputs.trust_code is None else str(inputs.trust_code.resolve())
        return cls(config.model_dump_json(), code, inputs.key)

    def inputs(self) -> Inputs:
        """Loaded once a process.

        Raises:
            RunError: where this machine lacks a file, or has another in its place.
        """
        return _loaded(self)


@lru_cache(maxsize=1)
def _loaded(recipe: Recipe) -> Inputs:
    advice = "every node needs the same network, images and models at the same paths"
    code = None if recipe.trust_code is None else Path(recipe.trust_code)
    try:
        inputs = load_inputs(Config.model_validate_json(recipe.config), trust_code=code)
    except LabelerError as error:
        raise RunError(f"On {platform.node()}: {str(error).rstrip('.')}; {advice}.") from None
    if inputs.key != recipe.key:
        raise RunError(f"The files of {platform.node()} are not those of this run; {advice}.")
    return inputs

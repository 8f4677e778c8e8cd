"""What a run would do, without doing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labeler.config import Config
from labeler.pipeline.bench import by_layer
from labeler.pipeline.inputs import Inputs, load_inputs, restrict_units
from labeler.pipeline.proposers import SCORED_WORDS, asks_a_model
from labeler.propose.endpoint import Question, Template, cost, expected_input
from labeler.propose.endpoint.ladder import LONGER
from labeler.records import UnitId
from labeler.seams import Evidence, Scored, Tried

_STEPS = 3  # of the ladder: one answer, one re-ask, one with more tokens


def plan(config: Config, *, units: tuple[str, ...] = (), trust_code: Path | None = None) -> dict[str, Any]:
    """Units, images and pictures of a run, and what it would ask of a model endpoint.

    Expected is one usable answer for every unit and round; at most adds every re-ask, but no retry of a
    failed attempt. Input tokens are expected by a rule (text by length, pictures by size); models differ,
    and `--budget` goes by what the server reports.
    """
    inputs = load_inputs(restrict_units(config, units), trust_code=trust_code)
    asked = len(inputs.units)
    return {
        "target": inputs.target.name,
        "units": asked,
        "units_by_layer": {layer: len(found) for layer, found in by_layer(inputs.units).items()},
        "images": len(inputs.probe.images),
        "annotated_concepts": len(inputs.probe.concepts),
        "synthetic_pictures": config.visualise.images * asked if config.visualise.enabled else 0,
        **_endpoint(inputs, asked),
        "warnings": list(inputs.warnings),
    }


def _endpoint(inputs: Inputs, units: int) -> dict[str, Any]:
    """Sheets, calls, tokens and money."""
    config = inputs.config
    calls = units * config.refine.rounds if asks_a_model(config) else 0
    sees = "vlm" in config.propose.kind
    given, most = (_input_tokens(config, sees) if calls else 0), config.propose.max_tokens
    expected = calls * given, calls * most
    at_most = calls * _STEPS * given, calls * (_STEPS - 1 + LONGER) * most
    found: dict[str, Any] = {
        "sheets": calls if sees else 0,
        "endpoint_calls_expected": calls,
        "endpoint_calls_at_most": calls * _STEPS,
        "input_tokens_expected": expected[0],
        "output_tokens_expected": expected[1],
        "tokens_at_most": sum(at_most),
    }
    prices = config.propose.prices
    if calls and prices is not None:
        found["money_expected"] = round(cost(*expected, prices), 4)
        found["money_at_most"] = round(cost(*at_most, prices), 4)
        found["currency"] = prices.currency
    return found


def _input_tokens(config: Config, sees: bool) -> int:
    """Of one question with as much on it as a later round may have."""
    tiles = config.exemplars.shown + config.visualise.images + config.exemplars.near_misses + 6
    tried = [
        Tried("several words", 0, 0.1, "Its correlation with the activation is 0.10 on 180 other images.")
        for _ in range(config.propose.candidates * (config.refine.rounds - 1))
    ]
    evidence = Evidence(
        UnitId("layer", 0), 1, (), sheet_key="\n".join(["10: A, facet 0: activation 1.23"] * tiles),
        history=tuple(tried),
    )  # fmt: skip
    words = [Scored("several words", 0, 1.0)] * SCORED_WORDS
    prompt = Template.of(evidence, sees=sees).render(evidence, config.propose.candidates, words)
    return expected_input(Question(prompt, b"a sheet" if sees else b""), config.propose.sheet_side)

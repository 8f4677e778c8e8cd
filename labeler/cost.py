"""What a run's model calls took: calls, tokens, money at the prices of the config that ran last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labeler.catalogue import PRICES, ModelCost, read_costs, read_note
from labeler.config import PricesConfig
from labeler.errors import RunError
from labeler.propose.endpoint import cost
from labeler.run_directory import read_run


def run_cost(run: Path) -> dict[str, Any]:
    """Totals, and the same for each model.

    `unreported` calls may have been billed though nobody reported their tokens; they count with what they
    took at most. `money` is None where the config has no prices: none is guessed.

    Raises:
        RunError: when it is not a run directory, or its catalogue cannot be read.
    """
    read_run(run)
    path = run / "catalogue.db"
    if not path.is_file():
        raise RunError(f"{run} has no catalogue yet; go on with: labeler run CONFIG --out {run}.")
    noted = read_note(path, PRICES)
    prices = None if noted is None else PricesConfig.model_validate_json(noted)
    models = [_row(found, prices) for found in read_costs(path)]
    counted = ("calls", "failed", "from_cache", "input_tokens", "output_tokens", "unreported")
    totals: dict[str, Any] = {name: sum(row[name] for row in models) for name in counted}
    totals["money"] = None if prices is None else round(sum(row["money"] for row in models), 6)
    totals["currency"] = None if prices is None else prices.currency
    return {"run": str(run), **totals, "models": models}


def cost_text(found: dict[str, Any]) -> str:
    """The same for reading."""
    if not found["calls"] and not found["from_cache"]:
        return "No model was asked."
    lines = [
        f"{found['calls']:,} calls ({found['failed']:,} failed), {found['from_cache']:,} from the cache",
        f"{found['input_tokens']:,} tokens in, {found['output_tokens']:,} out",
    ]
    if found["unreported"]:
        lines.append(
            f"{found['unreported']:,} calls reported no tokens and count with the most they may take"
        )
    if found["money"] is None:
        lines.append("No prices: give propose.prices in the config, and run again, to see money.")
    else:
        lines.append(f"{found['money']:.4g} {found['currency']}")
    if len(found["models"]) > 1:
        lines += [f"{row['model']}: {row['calls']:,} calls" for row in found["models"]]
    return "\n".join(lines)


def _row(found: ModelCost, prices: PricesConfig | None) -> dict[str, Any]:
    money = None if prices is None else cost(found.input_tokens, found.output_tokens, prices)
    return {
        "model": found.model,
        "calls": found.calls,
        "failed": found.failed,
        "from_cache": found.from_cache,
        "input_tokens": found.input_tokens,
        "output_tokens": found.output_tokens,
        "unreported": found.unreported,
        "money": None if money is None else round(money, 6),
    }

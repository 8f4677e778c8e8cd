"""Commands that read a catalogue."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from labeler.cli.common import AsJson, RunDirectory, open_catalogue, print_array, print_data, text_table
from labeler.errors import UsageError
from labeler.printable import printable

_LISTED = {"unit", "layer", "index", "verdict", "labels", "candidates", "trust", "reason"}


def list_units(
    run_directory: RunDirectory,
    verdict: Annotated[str | None, typer.Option("--verdict", help="Only units with this verdict.")] = None,
    layer: Annotated[str | None, typer.Option("--layer", help="Only units of this layer.")] = None,
    trust: Annotated[
        str | None, typer.Option("--trust", help="Only units whose picture has this trust.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only units with a label of this kind.")] = None,
    probability: Annotated[
        float | None,
        typer.Option("--probability", min=0, max=1, help="Only units with a label at least so probable."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many units.")] = None,
    as_json: AsJson = False,
) -> None:
    """The units of a catalogue with their verdicts and labels."""
    from labeler.api.catalogue import Filters
    from labeler.records import KINDS, TRUSTS, VERDICTS

    for option, name, known in (
        ("verdict", verdict, VERDICTS),
        ("trust", trust, TRUSTS),
        ("kind", kind, KINDS),
    ):
        if name is not None and name not in known:
            raise UsageError(f"--{option} is one of {', '.join(known)}, not {name!r}.")
    wanted = Filters(layer=layer, verdict=verdict, trust=trust, kind=kind, probability=probability)
    with open_catalogue(run_directory) as catalogue:
        if as_json:
            records = islice(catalogue.iterate(**wanted), limit)
            print_array(record.model_dump(mode="json", include=_LISTED) for record in records)
            return
        units = catalogue.listed(limit=limit, **wanted)
    rows = [(unit.unit, unit.verdict, unit.text, unit.trust) for unit in units]
    print(text_table(("unit", "verdict", "labels", "picture"), rows))


def show(
    run_directory: RunDirectory,
    unit: Annotated[str, typer.Argument(metavar="UNIT", help="A unit as layer:index.")],
    as_json: AsJson = False,
) -> None:
    """One unit with every number that led to its verdict."""
    from labeler.report.text import unit_text

    with open_catalogue(run_directory) as catalogue:
        record = catalogue[unit]
    print_data(record.model_dump(mode="json"), as_json, lambda: unit_text(record))


def search(
    run_directory: RunDirectory,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="What to look for.")] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="UNIT", help="Units like this one, instead of a text.")
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="WHAT",
            help="What --like compares: exemplars (what they show) or activations (how they fire).",
        ),
    ] = "exemplars",
    k: Annotated[int, typer.Option("-k", min=1, help="How many units.")] = 10,
    as_json: AsJson = False,
) -> None:
    """The units whose accepted labels are nearest to a text, or that are most like a unit."""
    if (text is None) == (like is None):
        raise UsageError("Give labeler search either a TEXT or --like UNIT.")
    if by not in ("exemplars", "activations"):
        raise UsageError(f"--by is one of exemplars, activations, not {by!r}.")
    with open_catalogue(run_directory) as catalogue:
        if like is not None:
            similar = catalogue.units_like(like, k, by="activations" if by == "activations" else "exemplars")
            found = [(unit.unit, "; ".join(unit.labels), unit.score) for unit in similar]
        else:
            found = [(hit.unit, hit.label, hit.score) for hit in catalogue.search(text or "", k)]
            print(f"Searched by {printable(catalogue.search_method)}.", file=sys.stderr)
    rows = [(unit, label, f"{score:.3f}") for unit, label, score in found]
    data = [{"unit": unit, "label": label, "score": score} for unit, label, score in found]
    print_data(data, as_json, lambda: text_table(("unit", "label", "score"), rows))


def top(
    run_directory: RunDirectory,
    unit: Annotated[str | None, typer.Argument(metavar="[UNIT]", help="A unit as layer:index.")] = None,
    direction: Annotated[
        Path | None, typer.Option("--direction", metavar="F.npy", help="One weight per unit of --layer.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="The layer of --direction, or that compares with --image.")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="PATH", help="Images like this one, of the probe or a file."),
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Images of what this text says.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many images.")] = 9,
    as_json: AsJson = False,
) -> None:
    """The images that activate a unit or a direction most, or that are most like an image or a text."""
    if sum(question is not None for question in (unit, direction, image, text)) != 1:
        raise UsageError("Give labeler top one of UNIT, --layer with --direction, --image or --text.")
    if direction is not None and layer is None:
        raise UsageError("--direction needs --layer, the layer in whose space it lies.")
    if unit is not None and layer is not None:
        raise UsageError("--layer goes with --direction or --image; a UNIT names its own layer.")
    if image is not None or text is not None:
        _print_alike(run_directory, image, text, layer, k, as_json)
        return
    with open_catalogue(run_directory) as catalogue:
        found = catalogue.top_images(
            unit, layer=layer, direction=None if direction is None else _read_direction(direction), k=k
        )
    rows = [(image.image, f"{image.activation:.4g}") for image in found]
    data = [{"image": image.image, "activation": image.activation} for image in found]
    print_data(data, as_json, lambda: text_table(("image", "activation"), rows))


def _print_alike(
    run_directory: Path, image: str | None, text: str | None, layer: str | None, k: int, as_json: bool
) -> None:
    if text is not None and layer is not None:
        raise UsageError("--text is compared by the encoder, not by a layer; leave --layer out.")
    with open_catalogue(run_directory) as catalogue:
        if text is not None:
            found = catalogue.images_for_text(text, k)
        else:
            found = catalogue.images_like(image or "", k, layer=layer)
    data = [{"image": one.image, "score": one.score} for one in found]
    print_data(
        data,
        as_json,
        lambda: text_table(("image", "score"), [(one.image, f"{one.score:.4f}") for one in found]),
    )


def _read_direction(path: Path) -> Any:
    from labeler.weight_files import read_array

    array = read_array(path)
    if array is None:
        raise UsageError(f"{path} is not a .npy file with one number per unit.")
    return array

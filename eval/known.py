"""Known truth on a real network: do the labels of a classifier's outputs name the classes?

The protocol of CLIP-Dissect's table of the final layer (Oikarinen & Weng 2023, sec. 4.1): the cosine of label
and class name, in the run's encoder and in a sentence model, and how often the true name comes first, or
among the first five: by the gate's score over all candidates of the unit (accepted labels first), and by
nearness of the label to the class names in the sentence model. A unit without a candidate counts as wrong.

A class needs images. Where there are too few, ``--superclasses`` labels directions over the logits instead,
the mean logit of all classes under dog, bird, vehicle and so on. A label is then right when it is the
superclass, a synonym, a hyponym of at least a tenth of its classes or a hypernym of at most twice as many
(`rightness.fits_superclass`); `strict` is name or synonym only, `any` takes every hyponym. All superclasses
are units of the layer, so that there is a null to be specific against; those with enough images are labelled.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import labeler
from labeler.config import Config
from labeler.config_file import load_config, parse_config
from labeler.encoders import load_encoder
from labeler.errors import LabelerError, UsageError
from labeler.probes import load_probe
from labeler.records import Label, UnitRecord
from labeler.report.text import table
from labeler.suites import Result
from labeler.terminal import TerminalReporter

from .arguments import SuiteParser
from .bootstrap import Mean, bootstrap_mean, figures_of
from .opened import ACCEPTED
from .outputs import Output, class_names, classes_in_names, classifier_layer, predicted_classes
from .rightness import first_right
from .sentences import sentence_model
from .superclasses import members, write_directions

DEFAULTS: dict[str, Any] = {
    "encoder": {"model": "builtin:bridge@lite2", "judge": ["annotations", "builtin:bridge@lite1"]},
    "propose": {"kind": "vocabulary", "candidates": 5},
    "visualise": {"enabled": False},
}
"""Of a run without ``--config``: pictures decide nothing here, and five candidates make a top five."""
Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Label a classifier's outputs into `run` or a temporary directory; `config` replaces the defaults."""
    options = _parser().parse_args(list(arguments))
    base = _base(options, config)
    trusted = [options.trust_code] if options.trust_code else []
    layer = options.layer or classifier_layer(base, trusted)
    with tempfile.TemporaryDirectory(prefix="labeler-known-") as temporary:
        place = run or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        config_of_run, outputs = _outputs(base, layer, options, place, trusted)
        with TerminalReporter() as reporter:
            catalogue = labeler.run(
                config_of_run, place / "run", trust_code=options.trust_code, reporter=reporter
            )
        with catalogue:
            records = list(catalogue)
    encoder = load_encoder(config_of_run.encoder.model)
    what = "superclasses" if options.superclasses else "classes"
    head = (
        f"{base.target.model}, {layer}: {len(records)} {what}"
        f" with at least {options.least} images (counted by {options.count_by}) of"
        f" {', '.join(base.probe.source)};"
        f" encoder {encoder.name}, judges {', '.join(base.encoder.judge)}"
    )
    return evaluate(
        records, outputs, head=head, encoder=encoder.embed_texts, sentences=sentence_model().embed
    )


def _parser() -> SuiteParser:
    parser = SuiteParser("known", "Output units against their class names.")
    parser.add_argument(
        "--model", metavar="MODEL", help="a classifier; builtin:efficientnet-lite0 without a config"
    )
    parser.add_argument("--images", nargs="+", metavar="DIR", help="folders of images, or probe sources")
    parser.add_argument("--layer", help="the layer of logits; the last linear layer by default")
    parser.add_argument(
        "--names", type=Path, metavar="FILE", help="class names, one a line; ImageNet's for 1000 units"
    )
    parser.add_argument("--superclasses", action="store_true", help="directions over ImageNet's logits")
    parser.add_argument("--least", type=int, default=20, help="images that an output needs")
    parser.add_argument(
        "--count-by", choices=("prediction", "files"), default="prediction",
        help="an image's class: the network's own first, or the WordNet id in the file name",
    )  # fmt: skip
    parser.add_argument("--vocabulary", choices=("config", "names"), default="config",
                        help="words to choose from: the config's, or the names of all outputs")  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a config value"
    )
    parser.add_argument("--trust-code", type=Path, metavar="FILE", help="as in: labeler run")
    return parser


def _base(options: Any, config: Path | None) -> Config:
    """The config of the run but for its layers."""
    sources = [source if ":" in source else f"folder:{source}" for source in options.images or []]
    if config is None:
        if not sources:
            raise UsageError("known needs images: labeler eval known -- --images DIR.")
        target = {"model": options.model or "builtin:efficientnet-lite0", "layers": ["outputs"]}
        made = parse_config({**DEFAULTS, "target": target, "probe": {"source": sources}}, Path.cwd())
        return _with_overrides(made, options.set)
    loaded = load_config(config, tuple(options.set))
    update: dict[str, Any] = {}
    if options.model:
        update["target"] = loaded.target.model_copy(update={"model": options.model})
    if sources:
        own = {"target": {"model": "none", "layers": ["outputs"]}, "probe": {"source": sources}}
        update["probe"] = parse_config(own, Path.cwd()).probe
    return loaded.model_copy(update=update)


def _with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "known.yaml"
        path.write_text(json.dumps(config.model_dump(mode="json")))  # JSON is YAML
        return load_config(path, tuple(overrides))


def _outputs(
    base: Config, layer: str, options: Any, place: Path, trusted: Sequence[Path]
) -> tuple[Config, list[Output]]:
    """The config that labels the outputs with enough images, and all outputs."""
    target = base.target.model_copy(
        update={"layers": (layer,), "units": {}, "negative": {}, "sae": {}, "directions": {}}
    )
    config = base.model_copy(update={"target": target})
    probe = load_probe(config.probe, seed=config.seed)
    classes, count = predicted_classes(config, layer, probe, trusted)
    if options.count_by == "files":
        classes = classes_in_names(probe)
    if options.superclasses:
        if count != 1000:
            raise UsageError(f"{layer} has {count} units, but superclasses are of ImageNet's 1000 classes.")
        groups = members()
        write_directions(groups, count, place / "superclasses.npy")
        target = target.model_copy(
            update={"layers": (), "directions": {layer: str(place / "superclasses.npy")}}
        )
        outputs = [Output((name,), True) for name in groups]
        numbers = [int(np.isin(classes, group).sum()) for group in groups.values()]
        labelled = f"{layer}.directions"
    else:
        outputs = [Output(names, False) for names in class_names(options.names, count)]
        numbers = np.bincount(classes[classes >= 0], minlength=count).tolist()
        labelled = layer
    kept = [index for index, number in enumerate(numbers) if number >= options.least]
    if not kept:
        raise LabelerError(
            f"No output has {options.least} images, the most is {max(numbers)}: lower --least, give more"
            " images, or take --superclasses."
        )
    target = target.model_copy(update={"units": {labelled: ",".join(map(str, kept))}})
    propose = config.propose
    if options.vocabulary == "names":
        words = place / "names.txt"
        words.write_text("\n".join(output.names[0] for output in outputs), encoding="utf-8")
        propose = propose.model_copy(update={"vocabulary": str(words)})
    _write_truth({index: outputs[index] for index in kept}, labelled, place / "truth.json")
    return config.model_copy(update={"target": target, "propose": propose}), outputs


def _write_truth(outputs: Mapping[int, Output], layer: str, path: Path) -> None:
    """What the suite `baselines` reads with ``--truth``."""
    rows = {
        f"{layer}:{index}": {
            "label": output.names[0],
            "terms": list(output.names),
            "kind": "superclass" if output.superclass else "class",
        }
        for index, output in outputs.items()
    }
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def ranked(record: UnitRecord) -> list[str]:
    """All that was proposed for a unit, best first: accepted, then the finalists, then the rest, by score."""

    def ordered(labels: Sequence[Label]) -> list[str]:
        return [label.text for label in sorted(labels, key=lambda label: -(label.score or 0.0))]

    rest = [label for found in record.rounds for label in found.labels]
    return list(dict.fromkeys([*ordered(record.labels), *ordered(record.candidates), *ordered(rest)]))


def evaluate(
    records: Sequence[UnitRecord],
    outputs: Sequence[Output],
    *,
    head: str,
    encoder: Embed,
    sentences: Embed,
) -> Result:
    """The suite's result from the records of the labelled outputs.

    Args:
        records: of the labelled outputs.
        outputs: all of them, by index; the nearest name is chosen among all.
        head: what it was run on.
        encoder: text embeddings of the run's encoder.
        sentences: those of the sentence model.
    """
    texts = {record.index: ranked(record) for record in records}
    places = {i: first_right(found, outputs[i].right) for i, found in texts.items()}
    strict = {i: first_right(found, outputs[i].strict) for i, found in texts.items()}
    loose = {i: first_right(found, outputs[i].loose) for i, found in texts.items()}
    nearest = {
        i: _name_rank(found[0], outputs, i, sentences) if found else None for i, found in texts.items()
    }
    labelled = [i for i, found in texts.items() if found]
    accepted = [record.index for record in records if record.verdict in ACCEPTED]
    means = {
        "top1": _within(places, 1), "top5": _within(places, 5),
        "top1_strict": _within(strict, 1), "top5_strict": _within(strict, 5),
        "top1_any": _within(loose, 1), "top5_any": _within(loose, 5),
        "nearest_top1": _within(nearest, 1), "nearest_top5": _within(nearest, 5),
        "text_cosine": _cosine(labelled, texts, outputs, encoder),
        "sentence_cosine": _cosine(labelled, texts, outputs, sentences),
        "accepted": bootstrap_mean([float(record.index in accepted) for record in records]),
        "accepted_right": bootstrap_mean([float(places[index] == 0) for index in accepted]),
    }  # fmt: skip
    figures, intervals = figures_of(means)
    rows = [
        (
            outputs[record.index].names[0], record.verdict, *(texts[record.index][:1] or ["–"]),
            _place(places[record.index]), ", ".join(texts[record.index][1:5]),
        )
        for record in records
    ]  # fmt: skip
    lines = [f"{name}: {mean}" for name, mean in means.items()]
    body = table(("truth", "verdict", "label", "right at", "next"), rows)
    tail = "means over outputs, 95 % bootstrap intervals over outputs"
    return Result("known", len(records), figures, "\n".join([head, "", body, "", *lines, tail]), intervals)


def _within(places: Mapping[int, int | None], count: int) -> Mean:
    return bootstrap_mean([float(place is not None and place < count) for place in places.values()])


def _place(place: int | None) -> str:
    return "–" if place is None else str(place + 1)


def _name_rank(text: str, outputs: Sequence[Output], index: int, sentences: Embed) -> int:
    """How many outputs have a name nearer to `text` than the true one's."""
    cosine_o = sentences([output.names[0] for output in outputs]) @ sentences([text])[0]
    return int((cosine_o > cosine_o[index]).sum())


def _cosine(
    labelled: Sequence[int], texts: Mapping[int, Sequence[str]], outputs: Sequence[Output], embed: Embed
) -> Mean:
    if not labelled:
        return bootstrap_mean([])
    labels_ud, names_ud = (
        embed([texts[i][0] for i in labelled]),
        embed([outputs[i].names[0] for i in labelled]),
    )
    return bootstrap_mean(np.einsum("ud,ud->u", labels_ud, names_ud))

"""Numbers in words: one sentence for each check, so that a reader need not know the code."""

from __future__ import annotations

from labeler.records import CheckResult

MEANING = {
    "prediction": "correlation of activation and label over the whole range of held-out images",
    "rivals": "how much more correlation the label has than the best other word that its judge knows",
    "auprc": "average precision of the label for the unit's strongest 1 % of activations",
    "real": "how much more the label fits the held-out top images than any images, in standard deviations",
    "synthetic": "how much more the label fits the unit's own synthetic pictures than those of other units",
    "agreement": "share of other units whose top images are less like the unit's synthetic pictures than its"
    " own are",
    "iou": "overlap of the activating region with the annotated masks of the concept",
    "location": "how much better the concept covers the activating region than any other annotated one does",
    "intervention": "share of the unit's range by which pasting the concept in raises it, and erasing it"
    " lowers it, more than the same with something else",
}
SIGNAL_MEANING = {
    "likeness": "mean of the percentiles that apply: the judge's and that of the layers before",
    "suspicion": "0 to 1, to rank manipulated units first: from the lowest of the standings and the crest",
    "percentile": "share of other units whose held-out photographs are less like the picture, to the judge",
    "agreement_p": "chance that random photographs would be as like the picture",
    "activation": "what the unit gives for its pictures, the median of them",
    "natural_p99": "what one probe image in a hundred reaches",
    "natural_p999": "what one probe image in a thousand reaches",
    "excess": "how many times further above the median image the picture is than that thousandth",
    "path_percentile": "the share again, by the network's own layers before the unit",
    "path_similarity": "likeness to its photographs in those layers: 0 as random ones, 1 as among these",
    "path_usual": "the median of that share over the layer: what is usual there",
    "range_percentile": "share of other units whose photographs are less like the middle of this one's range",
    "second_percentile": "the share by those layers, for the picture made in another way",
    "standing": "by what photographs taught of the unit, how far its pictures stand above other units', in"
    " standard deviations",
    "second_standing": "the same for the picture made in another way",
    "exemplars_standing": "the same for its strongest photographs, by what the others taught",
    "usual_standing": "what a quarter of the layer reach by the lower of pictures' and photographs'",
    "crest": "how often its strongest photographs come before the next to encoders, by what the rest taught;"
    " 0.5: alike",
    "stability": "share of other units whose pictures are less like this one's than these are to each other",
    "informative_pictures": "how often the judge, knowing the pictures, tells a strong image from a weak one",
    "informative_photographs": "the same, knowing the photographs; 0.5 is guessing",
}
"""What the numbers behind the trust in a picture are; a name that is not here stands for itself."""
VERDICT_MEANING = {
    "accepted": "one label passes every test on images that no proposer saw",
    "polysemantic": "two or more labels pass, for different facets",
    "rejected": "a label says something about the unit, but none passes the gate",
    "uninterpretable": "there was power enough, and no candidate said more than chance or next to nothing",
    "abstained": "the checks could not tell",
    "dead": "the unit never changes over the probe",
    "failed": "the unit could not be labelled; the cause is given",
}


def number(value: float | None) -> str:
    """A number for reading: three significant digits, ``–`` where there is none."""
    if value is None:
        return "–"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def plain(name: str) -> str:
    """A name from the records as words: ``not_applicable`` reads ``not applicable``."""
    return name.replace("_", " ")


def check_sentence(check: CheckResult) -> str:
    """One sentence that says what a check found, against both nulls."""
    if check.status != "ok":
        return f"{plain(check.status)}: {check.why}"
    parts = [number(check.value)]
    if check.low is not None:
        parts[0] += f" (at least {number(check.low)})"
    if check.why:
        parts.append(check.why)
    parts.append(f"{check.n} images" + (f", judged by {check.judge}" if check.judge else ""))
    if check.significance is not None and check.significance.z is not None:
        z, p = check.significance.z, check.significance.p
        parts.append(f"{z:+.1f} sd from chance" + (f" (p {_p(p)})" if p is not None else ""))
    if check.specificity is not None and check.specificity.z is not None:
        parts.append(f"{check.specificity.z:+.1f} sd from the layer's {check.specificity.units} other units")
    return "; ".join(parts)


def _p(p: float) -> str:
    return f"= {p:.3f}" if p >= 0.0005 else f"≈ {p:.0e}" if p > 0 else "< 1e-300"

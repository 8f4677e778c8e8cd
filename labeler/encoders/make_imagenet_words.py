"""Derives `imagenet_words.json` from WordNet.

    python -m labeler.encoders.make_imagenet_words [WORDNET_DIR]

It needs WordNet 3.0's ``data.noun`` (Debian: ``apt-get install wordnet-base``), whose offsets are ImageNet's
class ids. The result is checked in, with WordNet's licence beside it; this script says how it came about.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

MOST_CLASSES = 0.5
"""A hypernym of more than this share of the classes (entity, object, whole) tells too little to be a word."""
PHYSICAL_ENTITY = "00001930"
"""Hypernyms outside it are abstractions (shape, pattern, sound): the classifier knows things."""
FEWEST_CLASSES = 2
"""A hypernym of one class only (circle, of a puck) would be known from that class alone."""
HYPERNYM_LEMMAS = 2
"""Lemmas taken of each hypernym; WordNet lists the commonest first."""


@dataclass(frozen=True)
class Synset:
    """A noun synset: its lemmas, commonest first, and the offsets of its direct hypernyms."""

    lemmas: tuple[str, ...]
    parents: tuple[str, ...]


def read_nouns(path: Path) -> dict[str, Synset]:
    """The synsets of ``data.noun`` by offset (wndb(5WN): counts of words in hex, of pointers in decimal)."""
    nouns = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):  # the licence
            continue
        fields = line.split(" | ")[0].split()
        words = int(fields[3], 16)
        lemmas = tuple(fields[4 + 2 * i].replace("_", " ") for i in range(words))
        start = 4 + 2 * words + 1
        pointers = [fields[start + 4 * i : start + 4 * i + 4] for i in range(int(fields[start - 1]))]
        parents = tuple(offset for kind, offset, pos, _ in pointers if kind in ("@", "@i") and pos == "n")
        nouns[fields[0]] = Synset(lemmas, parents)
    return nouns


def ancestors(offset: str, nouns: dict[str, Synset]) -> list[str]:
    """Offsets of all hypernyms, nearest first."""
    found: list[str] = []
    front = list(nouns[offset].parents)
    while front:
        found += [parent for parent in front if parent not in found]
        front = [grand for parent in front for grand in nouns[parent].parents]
    return found


def imagenet_words(wnids: list[str], nouns: dict[str, Synset]) -> dict[str, dict[str, list[str]]]:
    """Names and hypernyms of every class, by its index."""
    chains = [ancestors(wnid[1:], nouns) for wnid in wnids]
    counts = Counter(offset for chain in chains for offset in chain)
    table = {}
    for index, (wnid, chain) in enumerate(zip(wnids, chains, strict=True)):
        some = [o for o in chain if FEWEST_CLASSES <= counts[o] <= MOST_CLASSES * len(wnids)]
        kept = [offset for offset in some if PHYSICAL_ENTITY in ancestors(offset, nouns)]
        hypernyms = [lemma for offset in kept for lemma in nouns[offset].lemmas[:HYPERNYM_LEMMAS]]
        table[str(index)] = {
            "names": list(nouns[wnid[1:]].lemmas),
            "hypernyms": list(dict.fromkeys(hypernyms)),
        }
    return table


def main() -> None:
    """Write the table beside this file, one class a line."""
    from timm.data.imagenet_info import ImageNetInfo

    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/wordnet")
    wnids: list[str] = ImageNetInfo().label_names()  # type: ignore[no-untyped-call]
    table = imagenet_words(wnids, read_nouns(folder / "data.noun"))
    rows = (f'"{index}": {json.dumps(words, ensure_ascii=False)}' for index, words in table.items())
    text = "{\n" + ",\n".join(rows) + "\n}\n"
    (Path(__file__).parent / "imagenet_words.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

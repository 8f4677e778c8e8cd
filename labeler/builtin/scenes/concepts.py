"""The concepts that a rendered scene can show, in a fixed order, with the words that captions use for them.

Shape concepts name free-standing figures only: the cells of a honeycomb are not annotated as hexagons, nor
the dots of a dotted texture as circles. Scene concepts name the background they are drawn on.
"""

from __future__ import annotations

from dataclasses import dataclass

CATEGORIES = ("colour", "texture", "material", "shape", "object", "part", "scene")


@dataclass(frozen=True)
class SceneConcept:
    """A concept with exact masks: its name, its category (one of `CATEGORIES`), its words (name first)."""

    name: str
    category: str
    words: tuple[str, ...]


_WORDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "colour": (
        ("black",),
        ("blue",),
        ("brown",),
        ("gray", "grey"),
        ("green",),
        ("orange",),
        ("pink",),
        ("purple", "violet"),
        ("red",),
        ("white",),
        ("yellow",),
    ),
    "texture": (
        ("striped", "stripes"),
        ("lined", "thin lines"),
        ("dotted", "dots", "polka dots"),
        ("checkered", "checks", "checkerboard"),
        ("zigzagged", "zigzag", "chevrons"),
        ("cracked", "cracks"),
        ("marbled", "marble", "veins"),
        ("grid", "grid lines"),
        ("crosshatched", "crosshatch"),
        ("honeycombed", "honeycomb"),
        ("woven", "weave", "basketwork"),
        ("spiralled", "spiral"),
        ("concentric", "concentric rings"),
        ("bubbly", "bubbles"),
        ("scaly", "scales"),
        ("cobwebbed", "cobweb", "spider web"),
        ("blotchy", "blotches", "patches"),
        ("sprinkled", "sprinkles"),
    ),
    "material": (
        ("brick", "bricks", "brickwork"),
        ("grass", "lawn", "turf"),
        ("gravel", "pebbles"),
        ("wood", "wooden", "planks"),
        ("metal", "brushed steel", "metallic"),
        ("water", "ripples"),
        ("sand", "sandy"),
    ),
    "shape": (
        ("circle", "disc"),
        ("square",),
        ("triangle",),
        ("star",),
        ("ring", "annulus"),
        ("cross", "plus sign"),
        ("crescent", "crescent moon"),
        ("heart",),
        ("hexagon",),
        ("diamond", "rhombus"),
        ("arrow",),
    ),
    "object": (
        ("house", "cottage"),
        ("car", "automobile"),
        ("tree",),
        ("face", "smiley"),
        ("flower", "blossom"),
        ("boat", "sailboat"),
        ("fish",),
        ("clock", "watch"),
        ("ladder",),
        ("butterfly",),
        ("cup", "mug"),
        ("umbrella", "parasol"),
    ),
    "part": (
        ("roof",),
        ("window",),
        ("door",),
        ("wheel", "tyre"),
        ("trunk",),
        ("leaves", "foliage"),
        ("eye", "eyes"),
        ("mouth",),
        ("petal", "petals"),
        ("sail",),
        ("tail",),
        ("wing", "wings"),
        ("handle",),
    ),
    "scene": (
        ("sky", "clouds"),
        ("beach", "seaside"),
        ("field", "meadow"),
        ("night", "starry night"),
        ("city", "skyline", "skyscrapers"),
        ("mountain", "mountains"),
    ),
}

CONCEPTS: tuple[SceneConcept, ...] = tuple(
    SceneConcept(words[0], category, words) for category in CATEGORIES for words in _WORDS[category]
)

INDEX: dict[str, int] = {concept.name: index for index, concept in enumerate(CONCEPTS)}


def names(category: str) -> tuple[str, ...]:
    """The names of one category, in order."""
    return tuple(concept.name for concept in CONCEPTS if concept.category == category)

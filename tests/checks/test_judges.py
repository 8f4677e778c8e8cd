import numpy as np
import pytest

from labeler.checks.judges import (
    AnnotationJudge,
    EncoderJudge,
    centred,
    enough_images,
    normal_form,
    read_label,
    read_labels,
    text_similarity,
)
from labeler.records import Formula, Label
from labeler.seams import Concept

CONCEPTS = (
    Concept("striped", "texture", ("stripes", "stripy")),
    Concept("orange", "object"),
    Concept("orange", "colour"),
    Concept("traffic light", "object"),
)
AREAS = np.array([[0.5, 0.0, 0.2, 0.0], [0.0, 0.3, 0.0, 0.005], [np.nan, 0.0, 0.2, 0.4]], dtype=np.float32)


class WordEncoder:
    """Texts and images on the axes of three words; an image is a mixture of them."""

    dim = 3
    words = ("cat", "dog", "sky")

    def covers(self, text):
        return text in self.words

    def embed_texts(self, texts):
        return np.stack([np.eye(3, dtype=np.float32)[self.words.index(text)] for text in texts])


def annotation_judge(**options):
    return AnnotationJudge(CONCEPTS, AREAS, presence_area=0.01, **options)


@pytest.mark.parametrize(
    ("text", "same"),
    [("Traffic-Lights", "traffic light"), ("the dog", "dogs"), ("glasses", "glass"), ("a berry", "berries"),
     ("bus", "bus"), ("boxes", "box"), ("grass", "grass")],
)  # fmt: skip
def test_case_hyphens_articles_and_plurals_do_not_matter(text, same):
    assert normal_form(text) == normal_form(same)


def test_a_label_is_matched_by_name_then_synonym_then_embedding():
    similarity = {"zebra-like": [0.86, 0.1, 0.1, 0.2], "cloud": [0.4, 0.5, 0.1, 0.2]}
    judge = annotation_judge(
        similarity=lambda texts, names: np.array([similarity[texts[0]]]), min_similarity=0.8
    )
    assert judge.match("Striped") == (0, "striped")
    assert judge.match("stripe") == (0, "synonym of striped")
    assert judge.match("zebra-like") == (0, "0.86 to striped")
    assert judge.match("cloud") is None
    assert judge.match("orange", "colour") == (2, "orange")
    assert judge.match("orange", "object") == (1, "orange")


def test_presence_is_read_from_the_annotation_and_nan_where_there_is_none():
    reading = read_label([annotation_judge()], Label(text="stripes"))
    np.testing.assert_array_equal(reading.scores_n, [1, 0, np.nan])
    assert reading.match == "synonym of striped"
    small = read_label([annotation_judge()], Label(text="traffic lights"))
    np.testing.assert_array_equal(small.scores_n, [0, 0, 1])  # 0.5 % of an image is not presence


@pytest.mark.parametrize(
    ("op", "terms", "expected"),
    [("or", ("orange", "traffic light"), [0, 1, 1]), ("and", ("striped", "orange"), [0, 0, np.nan]),
     ("not", ("traffic light",), [1, 1, 0])],
)  # fmt: skip
def test_formulas_over_presence(op, terms, expected):
    label = Label(text=" ".join(terms), kind="object", formula=Formula(op=op, terms=terms))
    np.testing.assert_array_equal(read_label([annotation_judge()], label).scores_n, expected)


def test_a_formula_needs_all_its_terms():
    label = Label(text="striped or unicorn", formula=Formula(op="or", terms=("striped", "unicorn")))
    assert read_label([annotation_judge()], label) is None


def encoder_judge(images=40, seed=0):
    generator = np.random.default_rng(seed)
    mixed = generator.random((images, 3)).astype(np.float32) + 1.0
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    mixed[-1] = np.nan
    return EncoderJudge("words", WordEncoder(), mixed), mixed


def test_an_encoder_scores_are_standardised_over_the_readable_probe():
    judge, mixed = encoder_judge()
    scores = read_label([judge], Label(text="cat")).scores_n
    assert np.isnan(scores[-1])
    assert np.nanmean(scores) == pytest.approx(0, abs=1e-5)
    assert np.nanstd(scores) == pytest.approx(1, abs=1e-5)
    assert np.nanargmax(scores) == np.nanargmax(centred(mixed)[:, 0])
    assert read_label([judge], Label(text="zebra")) is None


def test_formulas_over_similarities():
    judge, _ = encoder_judge()
    cat, dog = (read_label([judge], Label(text=word)).scores_n for word in ("cat", "dog"))
    cases = {"or": np.maximum(cat, dog), "and": np.minimum(cat, dog)}
    for op, expected in cases.items():
        label = Label(text="both", formula=Formula(op=op, terms=("cat", "dog")))
        np.testing.assert_array_equal(read_label([judge], label).scores_n, expected)
    negated = read_label([judge], Label(text="no cat", formula=Formula(op="not", terms=("cat",))))
    np.testing.assert_array_equal(negated.scores_n, -cat)


def test_the_first_judge_that_knows_a_label_reads_it():
    judge, _ = encoder_judge(images=3)
    read = read_labels(
        [annotation_judge(), judge], [Label(text="dog"), Label(text="striped"), Label(text="x")]
    )
    assert [reading.judge if reading else None for reading in read] == ["words", "annotations", None]


def test_text_similarity_is_the_cosine():
    found = text_similarity(WordEncoder())(["dog"], ["cat", "dog"])
    np.testing.assert_array_equal(found, [[0, 1]])


def test_a_judge_that_reads_too_few_images_gives_way_to_one_that_reads_them() -> None:
    annotated = AnnotationJudge(
        (Concept("cat", "object"),), np.array([[1.0], [np.nan], [np.nan], [0.0]], np.float32), 0.01
    )
    seeing = EncoderJudge("eyes", WordEncoder(), np.eye(4, 3, dtype=np.float32))
    cat, ids = Label(text="cat"), np.arange(4)
    assert read_label([annotated, seeing], cat, enough_images(ids, 2)).judge == "annotations"
    assert read_label([annotated, seeing], cat, enough_images(ids, 3)).judge == "eyes"
    assert read_label([annotated], cat, enough_images(ids, 3)).judge == "annotations"

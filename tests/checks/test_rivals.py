import warnings
from dataclasses import dataclass, field

import numpy as np
import pytest

from labeler.checks.data import LayerData, Pairs, Readings
from labeler.checks.gate import leads
from labeler.checks.judges import combine
from labeler.checks.rivals import MIN_RIVALS, Kin, Rivals, Words
from labeler.records import Formula, Label
from tests.checks.gate_doubles import GATE, full

IMAGES = 600
JUDGE = "annotations"


@dataclass(frozen=True)
class Scene:
    """Words with their presence in each image, and one unit (index 7) that fires as it is told."""

    words: dict[str, np.ndarray]  # name -> (n,), NaN where unknown
    activation_n: np.ndarray
    weights_n: np.ndarray
    synonyms: dict[str, set[str]] = field(default_factory=dict)

    def scores(self, label):
        terms = label.formula.terms if label.formula else (label.text,)
        return combine(label.formula, [self.words[term] for term in terms])

    def check(self, *labels, kin=None, judge=JUDGE, scouted=None):
        data = LayerData(
            layer="block", live_units=np.array([7]),
            activations_nu=self.activation_n[:, None].astype(np.float32),
            image_ids_n=np.arange(len(self.activation_n)), weights_n=self.weights_n,
            p99_u=np.ones(1, np.float32), exemplar_ids={},
        )  # fmt: skip

        def exempt(label):
            return () if label.formula else {label.text, *self.synonyms.get(label.text, ())}

        table = np.stack(list(self.words.values()), axis=1)
        competing = Rivals(
            data,
            [Words(JUDGE, tuple(self.words), table, None if scouted is None else table)],
            exempt,
            {7: [Kin(label.facet, (label.text,), self.scores(label)) for label in kin]} if kin else {},
            None if scouted is None else scouted[:, None].astype(np.float32),
        )
        readings = Readings(
            np.stack([self.scores(label) for label in labels], axis=1), (judge,) * len(labels)
        )
        pairs = Pairs(np.zeros(len(labels), np.int64), np.arange(len(labels)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return competing.check(readings, labels, pairs, [label.facet for label in labels])


def scene(fires=lambda words: words["word00"], seed=0, words=24, noise=0.5, images=IMAGES, **more):
    """Words that come and go independently; a unit that fires for some of them."""
    generator = np.random.default_rng(seed)
    names = [f"word{index:02d}" for index in range(words)]
    present = {name: (generator.random(images) < 0.15).astype(float) for name in names}
    made = Scene(present, np.zeros(images), np.ones(images), **more)
    activation_n = fires(present) + noise * generator.standard_normal(images) ** 2
    return Scene(present, activation_n, made.weights_n, made.synonyms)


def word(text, facet=0):
    return Label(text=text, facet=facet)


def joined(op, *terms, facet=0):
    return Label(text=f" {op} ".join(terms), formula=Formula(op=op, terms=terms), facet=facet)


def weighted_correlation(x, y, w):
    covariance = np.cov(x, y, aweights=w, bias=True)
    return covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])


def test_the_best_word_leads_by_what_it_says_more_than_the_next():
    made = scene(lambda words: words["word00"] + 0.4 * words["word01"])
    first, second, third = made.check(word("word00"), word("word01"), word("word05"))
    assert first.value > 0.2
    assert first.significance.p < 1e-3
    assert 0 < first.low < first.value
    assert first.why.startswith("the best other word is word01, 0.")
    assert second.value < -0.2
    assert second.low < second.value
    assert "word00" in second.why
    assert third.value < second.value
    assert third.significance.p > 0.99
    assert first.n == IMAGES
    assert first.judge == JUDGE


@pytest.mark.parametrize("weighted", [False, True])
def test_the_lead_is_the_difference_of_two_correlations(weighted):
    made = scene(seed=1)
    weights = np.random.default_rng(2).uniform(0.2, 5, IMAGES) if weighted else np.ones(IMAGES)
    made = Scene(made.words, made.activation_n, weights)
    values = {
        name: weighted_correlation(made.activation_n, score, weights) for name, score in made.words.items()
    }
    for name in ("word00", "word03"):
        best = max(value for other, value in values.items() if other != name)
        assert made.check(word(name))[0].value == pytest.approx(values[name] - best, abs=1e-5)


def test_a_synonym_is_no_rival_and_neither_is_another_spelling():
    made = scene(noise=0.2)
    again = {**made.words, "auto": made.words["word00"] * (np.arange(IMAGES) % 40 > 0)}
    told = Scene(again, made.activation_n, made.weights_n, {"word00": {"auto"}})
    untold = Scene(again, made.activation_n, made.weights_n)
    assert told.check(word("word00"))[0].value > 0.4
    assert untold.check(word("word00"))[0].value < 0.1
    spelt = Scene({**made.words, "WORD00s": made.words["word00"]}, made.activation_n, made.weights_n)
    assert spelt.check(word("word00"))[0].value > 0.4


def test_two_words_that_always_come_together_do_not_beat_each_other():
    made = scene()
    twins = Scene({**made.words, "twin": made.words["word00"]}, made.activation_n, made.weights_n)
    for found in twins.check(word("word00"), word("twin")):
        assert found.value == found.low == 0
        assert (found.significance.z, found.significance.p) == (None, 1)


def test_nor_does_a_word_beat_the_same_score_on_another_scale():
    """What rounding makes of no difference at all is no lead."""
    made = scene()
    scaled = Scene(
        {**made.words, "twin": 1 / 3 + 0.7 * made.words["word00"]}, made.activation_n, made.weights_n
    )
    for found in scaled.check(word("word00"), word("twin")):
        assert found.value == pytest.approx(0, abs=1e-12)
        assert found.significance.p == 1


def test_words_that_part_in_a_few_images_by_chance_seldom_beat_each_other():
    """The unit fires for what the two have in common: at the level of 5 %, hardly ever one leads."""
    beaten, draws = 0, 60
    for seed in range(draws):
        generator = np.random.default_rng(seed)
        made = scene(seed=seed)
        common = made.words["word00"]
        pair = {
            name: np.where(generator.random(IMAGES) < 0.03, 1 - common, common) for name in ("one", "two")
        }
        others = {name: score for name, score in made.words.items() if name != "word00"}
        found = Scene({**others, **pair}, made.activation_n, made.weights_n).check(word("one"), word("two"))
        beaten += any(check.significance.p < 0.025 for check in found)
    assert beaten / draws < 0.05 + 2 * (0.05 * 0.95 / draws) ** 0.5


def test_a_word_for_nothing_does_not_lead_though_the_rivals_say_nothing_either():
    """Being the best of bad words is no merit: over many draws the lower bound stays below zero."""
    ahead = sum(
        scene(lambda words: np.zeros(IMAGES), seed=seed).check(word("word00"))[0].low > 0
        for seed in range(60)
    )
    assert ahead <= 3


@pytest.mark.parametrize("op", ["or", "and"])
def test_a_compound_must_beat_its_own_parts(op):
    rule = np.maximum if op == "or" else np.minimum
    both = scene(lambda words: rule(words["word00"], words["word01"]), images=4000)
    one = scene(lambda words: words["word00"], images=4000)
    label = joined(op, "word00", "word01")
    (lead,), (idle,) = both.check(label), one.check(label)
    assert lead.value > 0.1
    assert lead.significance.p < 1e-3
    assert idle.value < -0.1
    assert "word00" in idle.why
    assert leads({"rivals": lead})
    assert not leads({"rivals": idle})
    judged = [
        GATE.judge(label.model_copy(update={"checks": {**full(), "rivals": c}}), 1) for c in (lead, idle)
    ]
    assert [item.eligibility.state for item in judged] == ["passes", "refused"]


def test_a_simple_label_is_behind_the_compound_only_by_its_own_numbers():
    """A part of the true compound still leads the words that have nothing to do with the unit."""
    both = scene(lambda words: np.maximum(words["word00"], words["word01"]), noise=0.1)
    label = Scene(both.words, both.activation_n, both.weights_n, {"word00": {"word01"}})
    assert label.check(word("word00"))[0].value > 0.3


def test_a_second_meaning_leads_once_the_better_one_is_explained_away():
    made = scene(lambda words: 1.5 * words["word00"] + words["word01"])
    kin = [word("word00", 0), word("word01", 1)]
    alone = made.check(*kin)
    assert alone[0].value > 0 > alone[1].value
    first, second = made.check(*kin, kin=kin)
    assert first == alone[0]  # the best facet competes for everything
    assert second.value > 0.2
    assert second.significance.p < 1e-3
    assert "word00" not in second.why


def test_a_compound_is_not_robbed_by_a_weaker_facet_that_names_one_of_its_terms():
    both = scene(lambda words: np.maximum(words["word00"], words["word01"]), images=4000)
    label = joined("or", "word00", "word01")
    kin = [label, word("word01", 1)]
    lead, part = both.check(*kin, kin=kin)
    assert lead.value > 0.1
    assert part.value < 0.05


def test_an_idle_second_label_does_not_lead():
    idle = []
    for seed in range(40):
        made = scene(seed=seed)
        kin = [word("word00", 0), word("word01", 1)]
        first, second = made.check(*kin, kin=kin)
        assert first.value > 0.2
        idle.append(second)
    assert np.mean([check.value > 0 for check in idle]) < 0.2  # one word in 23 is the best by chance
    assert sum(check.significance.p < 0.05 for check in idle) <= 2


def test_a_companion_of_the_true_concept_leaves_nothing_to_explain():
    """The unit fires for word00; the label of its second facet is what often comes with it."""
    made = scene()
    often = np.where(
        np.random.default_rng(9).random(IMAGES) < 0.8, made.words["word00"], made.words["word02"]
    )
    beside = Scene({**made.words, "companion": often}, made.activation_n, made.weights_n)
    kin = [word("word00", 0), word("companion", 1)]
    assert beside.check(*kin, kin=kin)[1].value < 0.05


def test_labels_of_the_same_facet_are_not_explained_away():
    made = scene(lambda words: 1.5 * words["word00"] + words["word01"])
    same = [word("word00"), word("word01")]
    assert made.check(*same, kin=same) == made.check(*same)


def test_kin_that_no_judge_could_read_here_explains_nothing():
    made = scene()
    unread = Scene({**made.words, "unread": np.full(IMAGES, np.nan)}, made.activation_n, made.weights_n)
    kin = [word("word00", 0), word("unread", 1)]
    found = unread.check(kin[0], kin=kin)[0]
    assert found.value == pytest.approx(made.check(word("word00"))[0].value, abs=1e-6)


def test_images_where_either_score_is_unknown_do_not_count():
    whole = scene(images=800)
    unknown = np.arange(800) % 4 == 0
    words = {name: np.where(unknown, np.nan, score) for name, score in whole.words.items()}
    holed = Scene(words, whole.activation_n, whole.weights_n).check(word("word00"))[0]
    rest = Scene(
        {name: score[~unknown] for name, score in whole.words.items()},
        whole.activation_n[~unknown], whole.weights_n[~unknown],
    ).check(word("word00"))[0]  # fmt: skip
    assert holed.n == rest.n == 600
    assert holed.value == pytest.approx(rest.value, abs=1e-9)
    assert holed.low == pytest.approx(rest.low, abs=1e-9)
    label_only = Scene({**whole.words, "word00": words["word00"]}, whole.activation_n, whole.weights_n)
    assert label_only.check(word("word00"))[0].n == 600


@pytest.mark.parametrize(
    ("count", "status"), [(MIN_RIVALS, "not_applicable"), (MIN_RIVALS + 1, "ok")]
)  # the label itself is no rival
def test_being_the_best_of_a_handful_says_nothing(count, status):
    found = scene(words=count).check(word("word00"))[0]
    assert found.status == status
    if status != "ok":
        assert found.why == f"only {MIN_RIVALS - 1} other words to compare with; {MIN_RIVALS} are needed"
        assert found.value is None


@pytest.mark.parametrize(
    "idle",
    [np.zeros(IMAGES), np.ones(IMAGES), np.full(IMAGES, np.nan), (np.arange(IMAGES) < 4).astype(float)],
    ids=["never", "always", "unknown", "in four images"],
)
def test_words_that_do_not_vary_are_no_rivals(idle):
    made = scene(words=MIN_RIVALS)
    more = Scene({**made.words, "idle": idle}, made.activation_n, made.weights_n)
    assert "only 15 other words" in more.check(word("word00"))[0].why
    enough = scene(words=MIN_RIVALS + 1)
    more = Scene({**enough.words, "idle": idle}, enough.activation_n, enough.weights_n)
    assert more.check(word("word00")) == enough.check(word("word00"))


def test_a_unit_or_label_that_never_changes_has_no_lead():
    made = scene()
    still = Scene(made.words, np.ones(IMAGES), made.weights_n)
    assert still.check(word("word00"))[0].status == "not_applicable"
    label = Scene({**made.words, "always": np.ones(IMAGES)}, made.activation_n, made.weights_n)
    assert label.check(word("always"))[0].why == "the label or its rival never changes here"


def test_a_judge_without_words_is_not_applicable():
    found = scene().check(word("word00"), judge="axes")[0]
    assert (found.status, found.judge) == ("not_applicable", "axes")
    assert found.why == "its judge has no list of words"


def test_who_else_is_asked_changes_nothing():
    made = scene(lambda words: words["word00"] + words["word01"])
    labels = [word("word00"), word("word01"), joined("or", "word00", "word01")]
    together = made.check(*labels)
    assert together == [made.check(label)[0] for label in labels]
    assert together == made.check(*labels[::-1])[::-1]


def test_rivals_are_the_best_words_of_other_images_not_the_luckiest_of_these():
    """Of 400 words for nothing the best goes with the unit by chance; picked elsewhere, it hardly does."""
    made = scene(words=400)
    label = word("word00", 0)
    elsewhere = np.random.default_rng(9).normal(size=len(made.activation_n))
    (anywhere,), (picked,) = made.check(label), made.check(label, scouted=elsewhere)
    assert picked.value > anywhere.value
    (same,) = made.check(label, scouted=made.activation_n)  # the best here are among the best there
    assert same.value == pytest.approx(anywhere.value)


def test_a_compound_competes_with_its_own_terms_whatever_was_picked():
    made = scene()
    label = Label(text="word00 or word09", formula=Formula(op="or", terms=("word00", "word09")))
    nothing = np.random.default_rng(3).normal(size=len(made.activation_n))
    (found,) = made.check(label, scouted=nothing)
    assert "word00" in found.why

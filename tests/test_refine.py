import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from labeler.config import RefineConfig
from labeler.records import CheckResult, Formula, Label, RoundRecord
from labeler.refine import best_per_facet, failures, joined, leaves_out, next_step, speaks_of_all

SETTINGS = RefineConfig(rounds=3, patience=1)


def _round(number: int, *scores: tuple[int, float]) -> RoundRecord:
    labels = tuple(
        Label(text=f"r{number}-{i}", facet=facet, score=score, round=number, split="feedback")
        for i, (facet, score) in enumerate(scores)
    )
    return RoundRecord(round=number, labels=labels)


def _passes(label: Label) -> bool:
    return label.score is not None and label.score >= 0.5


def test_it_stops_when_every_facet_would_pass() -> None:
    assert next_step([_round(1, (0, 0.9), (1, 0.6))], [0, 1], _passes, SETTINGS).stop
    assert not next_step([_round(1, (0, 0.9), (1, 0.4))], [0, 1], _passes, SETTINGS).stop


def test_it_stops_when_nothing_improves_or_the_rounds_are_used() -> None:
    assert next_step([_round(1, (0, 0.2)), _round(2, (0, 0.2))], [0], _passes, SETTINGS).stop
    assert not next_step([_round(1, (0, 0.2)), _round(2, (0, 0.3))], [0], _passes, SETTINGS).stop
    rising = [_round(1, (0, 0.1)), _round(2, (0, 0.2)), _round(3, (0, 0.3))]
    assert next_step(rising, [0], _passes, SETTINGS).stop


def test_a_label_that_leaves_out_what_fires_as_strongly_is_not_the_end() -> None:
    rounds = [_round(1, (0, 0.9))]
    assert next_step(rounds, [0], _passes, SETTINGS).stop
    step = next_step(rounds, [0], _passes, SETTINGS, partial=True)
    assert not step.stop
    assert "leaves out" in step.reason
    assert next_step([*rounds, _round(2, (0, 0.9))], [0], _passes, SETTINGS, partial=True).stop


def test_two_misses_as_strong_as_the_exemplars_show_a_part() -> None:
    exemplars = [9.0, 5.0, 5.0]
    assert leaves_out([7.0, 5.0], exemplars, median=0.0)
    assert not leaves_out([7.0, 4.2, 4.2], exemplars, median=0.0)  # one may be an error of the judge
    assert not leaves_out([], exemplars, median=0.0)
    assert not leaves_out([1.0, 1.0], [], median=0.0)
    assert leaves_out([-3.0, -3.0], [-2.0, -3.0, -3.0], median=-9.0)  # a unit that is below zero everywhere


def test_misses_just_under_exemplars_that_are_all_but_equal_show_a_part() -> None:
    saturated = [1.0, 0.99, 0.98]
    assert leaves_out([0.9, 0.9], saturated, median=0.0)
    assert not leaves_out([0.8, 0.8], saturated, median=0.0)
    assert not leaves_out([0.9, 0.9], saturated, median=0.7)  # seen from the usual image, far below


@given(
    st.lists(st.integers(-50, 50), max_size=3),
    st.lists(st.integers(-50, 50), min_size=1, max_size=9),
    st.integers(-50, 0),
    st.sampled_from([0.25, 2.0, 8.0]),
    st.integers(-64, 64),
)
def test_a_stronger_miss_or_another_zero_point_never_mends_a_part(
    misses: list[int], exemplars: list[int], median: int, scale: float, shift: int
) -> None:
    found = leaves_out(misses, exemplars, median)
    assert leaves_out([miss + 1 for miss in misses], exemplars, median) >= found
    moved = [[value * scale + shift for value in values] for values in (misses, exemplars, [median])]
    near = [abs(miss - (median + 0.85 * (np.median(exemplars) - median))) for miss in misses]
    near += [abs(miss - np.quantile(exemplars, 0.1)) for miss in misses]
    assume(min(near, default=1.0) > 1e-6)
    assert leaves_out(moved[0], moved[1], moved[2][0]) == found


def test_one_label_for_all_facets_speaks_of_the_whole_unit() -> None:
    def of(*labels: tuple[str, int, float]) -> list[RoundRecord]:
        return [RoundRecord(round=1, labels=tuple(Label(text=t, facet=f, score=s) for t, f, s in labels))]

    assert speaks_of_all(of(("cup", 0, 0.8)))
    assert speaks_of_all(of(("cup", 0, 0.8), ("Cup", 1, 0.8), ("star", 1, 0.1)))
    assert not speaks_of_all(of(("cup", 0, 0.8), ("star", 1, 0.9)))
    assert not speaks_of_all([])


def _said(text: str, value: float, facet: int = 0, formula: Formula | None = None) -> Label:
    check = CheckResult(status="ok", value=value, n=300, judge="j")
    return Label(text=text, facet=facet, formula=formula, checks={"prediction": check}, split="feedback")


def test_words_of_different_rounds_are_joined_where_each_says_something() -> None:
    rounds = [
        RoundRecord(round=1, labels=(_said("night", 0.5), _said("dog", 0.02))),
        RoundRecord(round=2, labels=(_said("ring", 0.6), _said("sky", 0.3, facet=1))),
    ]
    found = joined(rounds, 0.1)
    assert [(label.text, label.facet, label.round) for label in found] == [
        ("ring or night", 0, 2),
        ("ring and night", 0, 2),
    ]
    tried = Formula(op="or", terms=("night", "Ring"))
    again = [*rounds, RoundRecord(round=3, labels=(_said("night or Ring", 0.8, formula=tried),))]
    assert [label.text for label in joined(again, 0.1)] == ["ring and night"]


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-1, 1), max_size=8), st.floats(0.05, 0.9))
def test_only_the_best_few_words_are_joined_and_never_one_that_says_nothing(words, least) -> None:
    record = RoundRecord(round=1, labels=tuple(_said(text, value) for text, value in words.items()))
    found = joined([record], least)
    best = sorted((text for text in words if words[text] >= least), key=lambda text: -words[text])[:3]
    assert len(found) == len(best) * (len(best) - 1)
    assert all(label.formula is not None and set(label.formula.terms) <= set(best) for label in found) or len(
        set(words.values())
    ) < len(words)


def test_a_round_without_proposals_does_not_end_the_search_at_once() -> None:
    assert not next_step([_round(1)], [0], _passes, SETTINGS).stop
    assert next_step([_round(1), _round(2)], [0], _passes, SETTINGS).stop


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.floats(-1, 1)), max_size=4), min_size=1, max_size=4))
def test_a_bad_round_never_replaces_a_good_label(rounds: list[list[tuple[int, float]]]) -> None:
    records = [_round(number + 1, *scores) for number, scores in enumerate(rounds)]
    best = best_per_facet(records)
    every = [label for record in records for label in record.labels]
    for facet, label in best.items():
        assert label.score == max(other.score for other in every if other.facet == facet)
    assert set(best) == {label.facet for label in every}


def test_a_label_without_a_score_is_never_the_best() -> None:
    """Such as a compound that does not lead its own terms."""
    idle = Label(text="a or b", formula=Formula(op="or", terms=("a", "b")))
    assert best_per_facet([RoundRecord(round=1, labels=(idle,))]) == {}
    good = Label(text="a", score=-0.5)
    assert best_per_facet([RoundRecord(round=1, labels=(idle, good))]) == {0: good}


def test_failures_are_where_unit_and_label_disagree_worst_first() -> None:
    activations = np.array([9, 8, 0, 0, 7, 1, 0, 0], np.float32)
    scores = np.array([1, 0, 1, 0, 0, np.nan, 0, 1], np.float32)
    misses, alarms = failures(activations, scores, fires_above=5, count=3)
    assert misses.tolist() == [1, 4]
    assert alarms.tolist() == [2, 7]


def test_unreadable_scores_give_no_failures() -> None:
    misses, alarms = failures(np.ones(4, np.float32), np.full(4, np.nan, np.float32), 0.5, 3)
    assert len(misses) == len(alarms) == 0


def _best_of_each(*scores: float) -> list[RoundRecord]:
    return [_round(number + 1, (0, score)) for number, score in enumerate(scores)]


def test_patience_counts_the_rounds_since_the_last_better_label() -> None:
    many = RefineConfig(rounds=9, patience=1)
    assert not next_step(_best_of_each(0.1, 0.2, 0.3), [0], _passes, many).stop
    assert next_step(_best_of_each(0.1, 0.4, 0.4), [0], _passes, many).stop
    assert next_step(_best_of_each(0.1, 0.4, 0.2), [0], _passes, many).stop
    patient = RefineConfig(rounds=9, patience=2)
    assert not next_step(_best_of_each(0.3, 0.3), [0], _passes, patient).stop
    assert not next_step(_best_of_each(0.1, 0.3, 0.3), [0], _passes, patient).stop
    assert next_step(_best_of_each(0.1, 0.3, 0.3, 0.3), [0], _passes, patient).stop


def test_each_way_to_stop_or_to_go_on_is_told() -> None:
    passing, failing = _best_of_each(0.9), _best_of_each(0.1)
    found = [
        next_step(passing, [0], _passes, SETTINGS),
        next_step([*failing, _round(2), _round(3)], [0], _passes, SETTINGS),
        next_step([*failing, _round(2)], [0], _passes, SETTINGS),
        next_step(passing, [0], _passes, SETTINGS, partial=True),
        next_step(failing, [0], _passes, SETTINGS),
    ]
    assert [step.stop for step in found] == [True, True, True, False, False]
    words = ("would pass on feedback", "all 3 rounds", "no better label in 1", "leaves out", "another round")
    assert all(word in step.reason for word, step in zip(words, found, strict=True))


def test_a_miss_counts_from_the_weakest_tenth_of_the_exemplars_on() -> None:
    ten = [float(value) for value in range(11)]  # the tenth is 1, the middle 5
    assert leaves_out([1.0, 1.0], ten, median=0.0) is True
    assert leaves_out([0.99, 0.99], ten, median=0.0) is False
    assert leaves_out([0.0, 0.0], [], median=0.0) is False


def test_a_miss_counts_from_most_of_the_way_to_the_usual_exemplar_on() -> None:
    skewed = [1.0, 1.0, 1.0, 1.0, 9.0]  # what counts is the middle one, not the greatest
    assert leaves_out([0.86, 0.86], skewed, median=0.0)
    assert not leaves_out([0.84, 0.84], skewed, median=0.0)


def test_the_earlier_of_two_labels_with_one_score_stays_the_best() -> None:
    assert best_per_facet(_best_of_each(0.5, 0.5))[0].text == "r1-0"
    assert best_per_facet(_best_of_each(0.5, 0.6))[0].text == "r2-0"


def test_the_three_words_that_say_most_are_joined_equal_ones_by_name() -> None:
    words = {"a": 0.2, "b": 0.5, "e": 0.3, "d": 0.3, "c": 0.3}
    record = RoundRecord(round=1, labels=tuple(_said(text, value) for text, value in words.items()))
    found = [label.formula for label in joined([record], 0.1)]
    assert [(formula.op, formula.terms) for formula in found if formula] == [
        (op, terms) for terms in (("b", "c"), ("b", "d"), ("c", "d")) for op in ("or", "and")
    ]


def test_a_word_is_joined_from_the_smallest_effect_on() -> None:
    record = RoundRecord(round=1, labels=(_said("a", 0.5), _said("b", 0.125)))
    assert len(joined([record], 0.125)) == 2
    assert joined([record], 0.1251) == []
    unread = Label(text="c", checks={"prediction": CheckResult.not_applicable("no judge knows it")})
    assert joined([RoundRecord(round=1, labels=(_said("a", 0.5), unread, Label(text="d")))], 0.1) == []


def test_what_was_tried_of_one_facet_may_be_tried_of_another() -> None:
    tried = Formula(op="or", terms=("a", "b"))
    labels = [_said(text, 0.5, facet) for facet in (0, 1) for text in "ab"]
    record = RoundRecord(round=1, labels=(*labels, _said("a or b", 0.6, facet=1, formula=tried)))
    found = [(label.text, label.facet, label.split) for label in joined([record], 0.1)]
    assert found == [("a or b", 0, "feedback"), ("a and b", 0, "feedback"), ("a and b", 1, "feedback")]


def test_the_worst_failures_come_first_and_ties_by_position() -> None:
    activations = np.array([5, 6, 6, 6, 1, 0, 0, 0, 1, 0], np.float32)
    scores = np.array([0.0, 0.2, 0.1, 0.1, 0.9, 0.9, 0.8, 0.9, np.nan, 0.5], np.float32)
    misses, alarms = failures(activations, scores, fires_above=5, count=9)
    assert misses.tolist() == [2, 3, 1]  # 0 fires at the bound, not above it
    assert alarms.tolist() == [5, 7, 4, 6, 9]
    assert [found.tolist() for found in failures(activations, scores, 5, 2)] == [[2, 3], [5, 7]]


def test_what_scores_just_the_average_is_a_miss_and_no_false_alarm() -> None:
    misses, alarms = failures(np.array([9, 0, 0], np.float32), np.full(3, 0.5, np.float32), 5, 3)
    assert (misses.tolist(), alarms.tolist()) == ([0], [])

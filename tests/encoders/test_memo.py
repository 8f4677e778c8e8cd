import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from labeler.encoders.memo import TextMemo, unit_norm


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=8), max_size=6))
def test_answers_are_those_of_the_encoder_whatever_was_asked_before(requests: list[list[str]]) -> None:
    asked: list[str] = []

    def embed(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return np.array([[ord(text), 1] for text in texts], np.float32)

    memo = TextMemo(embed, dim=2, limit=3)
    for texts in requests:
        np.testing.assert_array_equal(
            memo(texts).reshape(-1, 2), np.array([[ord(t), 1] for t in texts]).reshape(-1, 2)
        )
    assert len(memo._rows) <= 3


def test_a_text_is_embedded_once() -> None:
    asked: list[str] = []

    def embed(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return np.ones((len(texts), 2), np.float32)

    memo = TextMemo(embed, dim=2)
    memo(["dog", "cat", "dog"])
    memo(["cat"])
    assert asked == ["dog", "cat"]


def test_unit_norm_keeps_directions() -> None:
    rows = unit_norm(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert rows.dtype == np.float32

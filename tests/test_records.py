import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeler.errors import UsageError
from labeler.records import UnitId

LAYERS = st.from_regex(r"[a-z0-9_.]{1,12}", fullmatch=True)


@given(layer=LAYERS, index=st.integers(0, 10**6), negative=st.booleans())
def test_a_unit_is_read_back_as_it_prints_and_from_its_side(layer: str, index: int, negative: bool) -> None:
    unit = UnitId(layer, index, negative)
    assert str(unit) == f"{layer}:{index}{'-' if negative else ''}"
    assert UnitId.parse(str(unit)) == unit
    assert UnitId.of_side(unit.side, index) == unit
    assert unit.side != UnitId(layer, index, not negative).side


@pytest.mark.parametrize("text", ["layer", "layer:", "layer:x", "layer:-3", "layer:3--", ":3", ""])
def test_what_is_no_unit_is_one_sentence(text: str) -> None:
    with pytest.raises(UsageError, match="layer:index"):
        UnitId.parse(text)

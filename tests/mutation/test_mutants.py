"""The changes that are made, and those that are not; and that a test which would notice one is believed."""

import sys
import textwrap
from pathlib import Path

import pytest

from tests.mutation import running
from tests.mutation.mutants import mutants


def changes(source):
    return [mutant.after for mutant in mutants(textwrap.dedent(source), "some.py")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = a < b", {"x = a <= b"}),
        ("x = a != b", {"x = a == b"}),
        ("x = a in b", {"x = a not in b"}),
        ("x = a + b", {"x = a - b"}),
        ("x = a and b", {"x = a or b"}),
        ("x = not a", {"x = a"}),
        ("x = -a", {"x = a"}),
        ("x = 3", {"x = 4"}),
        ("x = 0.5", {"x = 1.0"}),
        ("x = True", {"x = False"}),
        ("x = 'dog'", {"x = 'dogXX'"}),
        ("x = None", set()),
        ("x = f(a, b)", {"x = f(b, a)"}),
        ("x = min(a, b)", {"x = max(a, b)"}),
        ("x = a[b:c]", {"x = a[:c]", "x = a[b:]"}),
        ("f(a)", {"pass"}),
        ("x += a", {"x -= a", "pass"}),
        ("x[a] = b", {"pass"}),
        ("x = a.clamp(min=b)", {"x = a.clamp(max=b)"}),
        ("x = all(a)", {"x = any(a)"}),
    ],
)
def test_each_change(before, after):
    assert set(changes(before)) == after


def test_a_condition_is_turned_and_a_result_is_dropped():
    assert changes("def f(a):\n    if a:\n        return a") == ["not a", "return None"]
    assert set(changes("x = [a for a in b if a < c]")) == {
        "x = [a for a in b if a <= c]",
        "x = [a for a in b if not a < c]",
    }
    assert changes("while a == b:\n    pass") == ["a != b"]


def test_what_cannot_decide_anything_is_left_alone():
    assert changes('''
        """A module, 1 of 3."""
        from a import b
        __all__ = ["b"]
        Pair = tuple[1, 2]
        @b(3)
        def f(a: Pair[4]) -> Pair[5]:
            """Returns 6."""
            g = "some words: 7"
            g = f"{a + 8} words"
    ''') == []  # fmt: skip
    assert changes("if a:\n    raise f(1, 'no')") == ["not a", "pass"]


def test_every_change_is_one_alone_and_leaves_the_rest():
    found = list(mutants("def f(a):\n    return a + 1 < 2", "some.py"))
    assert len({mutant.after for mutant in found}) == len(found) == 5
    assert {mutant.before for mutant in found} == {"return a + 1 < 2"}
    assert {mutant.function for mutant in found} == {"f"}
    results = []
    for mutant in found:
        there = {}
        exec(mutant.code, there)
        results.append([there["f"](a) for a in (0, 1, 1.5, 2.5)])
    assert len({tuple(result) for result in results} | {(True, False, False, False)}) == 6


def test_only_the_functions_that_are_named():
    source = "x = 1\nclass A:\n    y = 2\n    def f(self):\n        return 3\n    def g(self): ..."
    assert [m.after for m in mutants(source, "a.py", ("A.f",))] == ["return None", "return 4"]
    assert len(list(mutants(source, "a.py", ("A",)))) == 3


def test_a_change_that_a_test_notices_is_killed_and_one_that_runs_on_is_stopped(tmp_path, monkeypatch):
    (tmp_path / "halves.py").write_text("def half(number):\n    return number // 2\n")
    test = "from halves import half\ndef test_it():\n    assert half(4) == 2\n"
    (tmp_path / "test_halves.py").write_text(test)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def of(text):
        return running.outcome("halves.py", compile(text, "halves.py", "exec"), ["test_halves.py"], limit)[0]

    limit = 60.0
    source = Path("halves.py").read_text()
    assert of(source) == running.UNNOTICED
    assert of(source.replace("//", "*")) == running.NOTICED
    assert of("import halves_of_nothing") == running.NOTICED
    limit = 1.0
    assert of("while True:\n    pass") == running.TIMED_OUT

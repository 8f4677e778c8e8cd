"""The synthetic catalogues of ``labeler eval scale``, in sizes for tests."""

from __future__ import annotations

from labeler.suites import suite_module

_made = suite_module("scale_catalogue")
VERDICTS, WORDS = _made.VERDICTS, _made.WORDS
some_tiles, unit, units = _made.some_tiles, _made.unit, _made.units
write_run, gate_note = _made.write_run, _made.gate_note

"""Networks under study: where they come from, preprocessing, and activation maps of layers."""

from labeler.targets.load import chosen_units, load_target, resolve_device, unit_names
from labeler.targets.target import ModuleTarget

__all__ = ["ModuleTarget", "chosen_units", "load_target", "resolve_device", "unit_names"]

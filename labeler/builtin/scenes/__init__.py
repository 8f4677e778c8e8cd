"""`builtin:scenes`: rendered scenes whose concepts are annotated exactly, any number, any size, by seed."""

from .concepts import CATEGORIES, CONCEPTS, SceneConcept
from .render import MINIMUM_AREA, Scene, render_scene

__all__ = ["CATEGORIES", "CONCEPTS", "MINIMUM_AREA", "Scene", "SceneConcept", "render_scene"]

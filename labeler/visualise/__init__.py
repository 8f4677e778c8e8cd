"""Feature visualisation: pictures that a unit responds to, made by activation maximisation."""

from labeler.visualise.facets import Crop, FacetCrops
from labeler.visualise.optimise import Picture, Request, visualise
from labeler.visualise.transforms import Moves

__all__ = ["Crop", "FacetCrops", "Moves", "Picture", "Request", "visualise"]

"""What turns evidence into hypotheses. Never decides."""

from labeler.propose.vlm import VlmProposer
from labeler.propose.vocabulary import VocabularyProposer, VocabularySettings

__all__ = ["VlmProposer", "VocabularyProposer", "VocabularySettings"]

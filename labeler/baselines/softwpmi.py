"""CLIP-Dissect (Oikarinen & Weng 2023) as a labelling method: the words of highest SoftWPMI."""

from __future__ import annotations

import torch

from labeler.propose.softwpmi import PENALTY, SHARPNESS, concept_probabilities, soft_wpmi


def clip_dissect(
    images_nd: torch.Tensor,
    texts_ld: torch.Tensor,
    topk_ids_uk: torch.Tensor,
    *,
    count: int = 1,
    reference_ids_rk: torch.Tensor | None = None,
    sharpness: float = SHARPNESS,
    penalty: float = PENALTY,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` best words of every unit and their SoftWPMI, best first, ``(u, count)`` each.

    Args:
        images_nd: unit-norm embeddings of the probe images.
        texts_ld: unit-norm embeddings of the words.
        topk_ids_uk: rows of `images_nd`, strongest first; -1 pads.
        count: words per unit, at most l.
        reference_ids_rk: exemplars of the fixed reference set of units; None is the published behaviour, in
            which a word's score depends on the other units that were asked for.
        sharpness: of the softmax over words.
        penalty: weight of the word's log-probability over the reference set.
    """
    probabilities_nl = concept_probabilities(images_nd, texts_ld, sharpness)
    scores_ul = soft_wpmi(probabilities_nl, topk_ids_uk, reference_ids_rk, penalty)
    scores_uk, words_uk = scores_ul.topk(count, dim=1)
    return words_uk, scores_uk

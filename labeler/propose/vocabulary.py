"""The `vocabulary` proposer: SoftWPMI over a list of words, no language model at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.errors import EncoderError, UsageError
from labeler.propose.softwpmi import PENALTY, SHARPNESS, concept_probabilities, log_likelihood, log_mean
from labeler.records import Kind
from labeler.seams import Evidence, Proposal, Proposed, Scored, Tried
from labeler.storage import fingerprint

_REFERENCE_CHUNK = 16  # reference units at a time: at most 1,600 images x all words


@dataclass(frozen=True)
class VocabularySettings:
    """How the words are scored."""

    candidates: int = 4
    """Proposals per facet and round."""
    centre: bool = False
    """Subtract the mean image from images and the mean word from words before the cosine, for encoders whose
    embeddings lie in a narrow cone, where all cosines are nearly equal and the softmax is flat. CLIP-Dissect
    does not. With builtin:bridge@lite2 it gains nothing (63 groups of photographs that share a hypernym,
    2,487 words: a right word is among the first four for 43 % without and 40 % with it)."""
    sharpness: float = SHARPNESS
    penalty: float = PENALTY


class VocabularyProposer:
    """Proposes the words with the greatest SoftWPMI on each facet (Oikarinen & Weng 2023), best first.

    Words that were tried in an earlier round are not proposed again, and no word is proposed for two facets
    in one round. From the second round on, half of a facet's candidates are a local search: the untried words
    nearest, by text embedding, to the facet's best tried label, where that has a score above 0 (the
    neighbours of a label that says nothing are no better than others). The rest follow SoftWPMI.

    Args:
        words: the vocabulary; repeats (up to case and outer space) are dropped.
        kinds: the kind of each word, ``other`` where missing.
        embed_texts: the encoder's `Encoder.embed_texts`.
        image_embeddings_nd: unit-norm embeddings of the images that exemplars may come from.
        ids_n: their image ids. Exemplars without a row here (unreadable images) are left out.
        reference_ids_rk: exemplar ids, strongest first, of the fixed reference set of units; -1 pads. Scores
            compare a facet of k exemplars with the first k of each reference unit. No row: no comparison.
        settings: see `VocabularySettings`.

    Raises:
        UsageError: when there is no word.
    """

    name = "vocabulary"
    needs_sheet = False

    def __init__(
        self,
        words: Sequence[str],
        kinds: Mapping[str, Kind],
        embed_texts: Callable[[Sequence[str]], NDArray[np.float32]],
        image_embeddings_nd: NDArray[np.float32],
        ids_n: NDArray[np.int64],
        reference_ids_rk: NDArray[np.int64],
        settings: VocabularySettings = VocabularySettings(),
    ) -> None:
        distinct: dict[str, str] = {}
        for word in words:
            if word.strip():
                distinct.setdefault(_same(word), word.strip())
        self.words = tuple(distinct.values())
        if not self.words:
            raise UsageError(
                "The vocabulary has no words: give propose.vocabulary a text file, one word a line."
            )
        self._kinds, self._settings, self._embed_texts = dict(kinds), settings, embed_texts
        texts_ld = embed_texts(self.words)
        self._text_mean_d = (
            texts_ld.mean(axis=0) if settings.centre else np.zeros(texts_ld.shape[1], np.float32)
        )
        self._texts_ld = _unit(texts_ld - self._text_mean_d)
        finite_n = np.isfinite(image_embeddings_nd).all(axis=1)
        images_nd = image_embeddings_nd[finite_n]
        self._images_nd = _unit(images_nd - images_nd.mean(axis=0)) if settings.centre else images_nd
        self._rows = {int(image): row for row, image in enumerate(ids_n[finite_n])}
        self._reference = [self._known(ids) for ids in reference_ids_rk.tolist()]
        self._log_means: dict[int, NDArray[np.float32]] = {}
        self.fingerprint = fingerprint(
            self.name, self.words, sorted(self._kinds.items()), asdict(settings),
            _digest(texts_ld), _digest(images_nd), _digest(ids_n[finite_n]), _digest(reference_ids_rk),
        )  # fmt: skip

    def propose(self, evidence: Evidence) -> Proposed:
        """The best untried words of each facet; nothing for a facet none of whose exemplars is known."""
        facets = [(facet.index, self._known(facet.exemplar_ids)) for facet in evidence.facets]
        facets = [(index, rows) for index, rows in facets if rows]
        if not facets:
            return Proposed()
        scores_fl = self._scores([rows for _, rows in facets])
        tried = {_same(tried.text) for tried in evidence.history}
        free_l = np.array([_same(word) not in tried for word in self.words])
        try:
            rankings = [
                self._ranking(scores_l, _best_tried(evidence.history, index), free_l)
                for (index, _), scores_l in zip(facets, scores_fl, strict=True)
            ]
        except EncoderError as error:
            return Proposed(failure=str(error))
        chosen = _take_turns(rankings, self._settings.candidates)
        return Proposed(
            tuple(
                Proposal(self.words[word], self._kinds.get(self.words[word], "other"), index)
                for (index, _), words in zip(facets, chosen, strict=True)
                for word in words
            )
        )

    def scored(self, evidence: Evidence, count: int) -> list[Scored]:
        """The `count` best words of each facet with their SoftWPMI, best first, tried or not."""
        facets = [(facet.index, self._known(facet.exemplar_ids)) for facet in evidence.facets]
        facets = [(index, rows) for index, rows in facets if rows]
        if not facets:
            return []
        return [
            Scored(self.words[word], index, float(scores_l[word]))
            for (index, _), scores_l in zip(facets, self._scores([rows for _, rows in facets]), strict=True)
            for word in np.argsort(-scores_l, kind="stable")[:count].tolist()
        ]

    def _known(self, ids: Sequence[int]) -> list[int]:
        return [self._rows[image] for image in ids if image in self._rows]

    def _scores(self, rows_fk: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """SoftWPMI ``(f, l)`` of all facets at once."""
        likelihood_fl = self._likelihood(rows_fk).numpy()
        means_fl = np.stack([self._log_mean(len(rows)) for rows in rows_fk])
        scores_fl: NDArray[np.float32] = likelihood_fl - self._settings.penalty * means_fl
        return scores_fl

    def _likelihood(self, rows_uk: Sequence[Sequence[int]]) -> torch.Tensor:
        """log p(d | e) ``(u, l)``; P is taken of the images in question only, not of the whole probe."""
        used = sorted({row for rows in rows_uk for row in rows})
        position = {row: place for place, row in enumerate(used)}
        longest = max(map(len, rows_uk))
        ids_uk = torch.tensor(
            [[position[r] for r in rows] + [-1] * (longest - len(rows)) for rows in rows_uk]
        )
        probabilities_nl = concept_probabilities(
            torch.from_numpy(self._images_nd[used]),
            torch.from_numpy(self._texts_ld),
            self._settings.sharpness,
        )
        return log_likelihood(probabilities_nl, ids_uk)

    def _log_mean(self, length: int) -> NDArray[np.float32]:
        """log p(d) ``(l,)`` over the reference units of `length` exemplars or more, cut to these."""
        if length not in self._log_means:
            cut = [rows[:length] for rows in self._reference if len(rows) >= length]
            parts = [
                self._likelihood(cut[start : start + _REFERENCE_CHUNK])
                for start in range(0, len(cut), _REFERENCE_CHUNK)
            ]
            mean_l = log_mean(torch.cat(parts)) if parts else torch.zeros(len(self.words))
            self._log_means[length] = mean_l.numpy()
        return self._log_means[length]

    def _ranking(
        self, scores_l: NDArray[np.float32], best: Tried | None, free_l: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """The untried words in the order in which a facet wants them; ties by place in the vocabulary."""
        order = np.argsort(-scores_l, kind="stable")
        order = order[free_l[order]]
        if best is None or best.score <= 0:
            return order
        label_d = _unit(self._embed_texts([best.text]) - self._text_mean_d)[0]
        near = np.argsort(-np.round(self._texts_ld @ label_d, 6), kind="stable")
        near = near[free_l[near]][: self._settings.candidates // 2]
        return np.concatenate([near, order[~np.isin(order, near)]])


def _best_tried(history: Sequence[Tried], facet: int) -> Tried | None:
    of_facet = [tried for tried in history if tried.facet == facet]
    return max(of_facet, key=lambda tried: tried.score, default=None)


def _take_turns(rankings: Sequence[NDArray[np.int64]], count: int) -> list[list[int]]:
    """Up to `count` words for each facet, in turns, no word twice."""
    wishes = [iter(ranking.tolist()) for ranking in rankings]
    chosen: list[list[int]] = [[] for _ in rankings]
    taken: set[int] = set()
    for _ in range(count):
        for wish, words in zip(wishes, chosen, strict=True):
            word = next((word for word in wish if word not in taken), None)
            if word is not None:
                taken.add(word)
                words.append(word)
    return chosen


def _same(word: str) -> str:
    return " ".join(word.split()).casefold()


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return unit


def _digest(array: NDArray[np.float32] | NDArray[np.int64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()

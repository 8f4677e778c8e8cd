import torch

from labeler.baselines import clip_dissect


def test_a_unit_is_labelled_with_the_word_that_its_exemplars_show():
    generator = torch.Generator().manual_seed(0)
    texts_ld = torch.nn.functional.normalize(torch.randn(30, 24, generator=generator), dim=1)
    shown = torch.arange(30).repeat_interleave(8)
    noise_nd = 0.3 * torch.randn(len(shown), 24, generator=generator)
    images_nd = torch.nn.functional.normalize(texts_ld[shown] + noise_nd, dim=1)
    ids_uk = torch.stack([(shown == word).nonzero()[:, 0] for word in (4, 21, 9)])
    words_uk, scores_uk = clip_dissect(images_nd, texts_ld, ids_uk, count=3)
    assert words_uk[:, 0].tolist() == [4, 21, 9]
    assert (scores_uk.diff(dim=1) <= 0).all()
    fixed, _ = clip_dissect(images_nd, texts_ld, ids_uk[:1], reference_ids_rk=ids_uk)
    assert fixed.tolist() == [[4]]

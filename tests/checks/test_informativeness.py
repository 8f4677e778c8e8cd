import numpy as np

from labeler.checks import informativeness, mean_pictures

from .test_consistency import world


def references(data, pictures, judge, units):
    return mean_pictures(data.layer, units, pictures, judge.name)


def test_pictures_of_the_units_kind_tell_its_strongest_from_its_weakest_images():
    units = list(range(12))
    data, pictures, judge = world(per_unit=6)
    told_p = informativeness(data, judge, units, references(data, pictures, judge, units))
    assert told_p.min() > 0.8
    data, pictures, judge = world(per_unit=6, honest=False)
    guessed_p = informativeness(data, judge, units, references(data, pictures, judge, units))
    assert 0.3 < guessed_p.mean() < 0.7


def test_it_is_the_share_of_pairs_in_the_right_order():
    data, pictures, judge = world()
    reference_pd = references(data, pictures, judge, [3])
    (share,) = informativeness(data, judge, [3], reference_pd)
    high = list(data.exemplar_ids[3])
    order = np.argsort(data.activations_nu[:, 3], kind="stable")
    low = order[: len(high)]
    likeness_n = judge.photographs_nd @ reference_pd[0]
    pairs = [likeness_n[i] > likeness_n[j] for i in high for j in low]
    assert share == np.mean(pairs)


def test_without_a_reference_or_exemplars_there_is_nothing_to_say():
    data, _, judge = world()
    assert np.isnan(informativeness(data, judge, [3], np.full((1, 24), np.nan))).all()
    data, _, judge = world()
    data.exemplar_ids[3].clear()
    assert np.isnan(informativeness(data, judge, [3], np.ones((1, 24)))).all()

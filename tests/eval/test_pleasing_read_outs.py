"""Wishing that pictures stand high by read-outs: the shipped standing is what it has to raise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from labeler.checks.read_out import standings
from labeler.pipeline.codes import code_of
from labeler.suites import suite_module
from labeler.targets.sources import Source

subjects, climbers = suite_module("attack_subject"), suite_module("climbers")
pleasing, read_outs = suite_module("pleasing"), suite_module("pleasing_read_outs")

UNITS = 16
SIZE = (32, 32)
VICTIMS = [subjects.Victim(unit, unit + UNITS // 2) for unit in range(UNITS // 2)]
DECOYS = [victim.decoy for victim in VICTIMS]


class Drawn(nn.Module):
    """Sixteen rectified units over two convolutions, all drawn at random."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 24, 5, 2, 2), nn.ReLU(), nn.Conv2d(24, 32, 3, 2, 1), nn.ReLU()
        )
        self.units = nn.Sequential(nn.Conv2d(32, UNITS, 1), nn.ReLU())

    def forward(self, images_bchw):
        return self.units(self.trunk(images_bchw))


@pytest.fixture(scope="module")
def clean():
    torch.manual_seed(0)
    network = Drawn()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.orthogonal_(module.weight, 3.0)
    transform = Compose([Resize(32), CenterCrop(32), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    place = subjects.Place("units", "units.0", True)
    return subjects.Subject(Source(network.eval(), transform, "drawn"), place)


@pytest.fixture(scope="module")
def eyes(clean):
    coarse = torch.randn(160, 3, 10, 10, generator=torch.Generator().manual_seed(1))
    images = nn.functional.interpolate(coarse, size=SIZE, mode="bilinear").clamp(-1, 1)
    return read_outs.eyes_of(clean, subjects.look(clean, images.half()), seed=0, correlated=0.7)


def decoys_of(clean):
    """What an ascent climbs that only shows the decoys."""

    def climbed(pictures_bchw, victims):
        maps_buhw = clean.maps(clean.target.normalise(pictures_bchw))
        decoys = [victim.decoy for victim in victims]
        return maps_buhw[torch.arange(len(victims)), decoys].mean(dim=(1, 2))

    return climbed


@pytest.fixture(scope="module")
def plain(clean):
    """Pictures of all decoys, ``(8, 3, 32, 32)`` in [0, 1]."""
    return climbers.ascend(decoys_of(clean), VICTIMS, SIZE, [24], 0.1, 0)[-1] / 255


def shipped(eyes, pictures_bchw, plain_bchw):
    """Standings of the victims' pictures beside the decoys' own, as the labeller has them: ``(8,)``."""
    layer, both_bchw = eyes.subject.place.layer, torch.cat([pictures_bchw, plain_bchw])
    with torch.no_grad():
        maps = eyes.subject.target.maps(eyes.subject.target.normalise(both_bchw), [*eyes.modules, layer])
    firing = enumerate([*DECOYS, *DECOYS])
    codes = [code_of(maps, eyes.modules, row, maps[layer][row, unit]) for row, unit in firing]
    units = [victim.unit for victim in VICTIMS]
    owner_f = np.searchsorted(eyes.units_r, [*units, *DECOYS])
    return standings(eyes.read_out, np.stack(codes), owner_f, eyes.related_rr)[owner_f[: len(units)]]


def test_codes_are_those_of_a_run(eyes, plain):
    layer = eyes.subject.place.layer
    maps = eyes.subject.target.maps(eyes.subject.target.normalise(plain), [*eyes.modules, layer])
    wanted = [code_of(maps, eyes.modules, row, maps[layer][row, unit]) for row, unit in enumerate(DECOYS)]
    found = eyes.codes(plain, DECOYS)
    np.testing.assert_allclose(found.numpy(), np.stack(wanted), rtol=1e-4, atol=1e-5)
    components = eyes.components(found)
    np.testing.assert_allclose(
        components.numpy(), eyes.read_out.components(found.numpy()), rtol=1e-4, atol=1e-4
    )


def test_a_unit_that_is_silent_everywhere_fires_everywhere_alike(eyes):
    black = torch.zeros(1, 3, *SIZE)
    silent = next(
        unit for unit in range(UNITS) if float(eyes.subject.maps(black * 2 - 1)[0, unit].amax()) <= 0
    )
    maps = eyes.subject.target.maps(eyes.subject.target.normalise(black), list(eyes.modules))
    means = torch.cat([maps[module].mean(dim=(2, 3)) for module in eyes.modules], dim=1)
    assert torch.allclose(eyes.codes(black, [silent]), means, atol=1e-5)


def test_decoys_pictures_stand_high_by_their_own_read_outs_and_not_by_their_victims(eyes, plain):
    standing = read_outs.standing_of(eyes, plain, VICTIMS)
    own = [subjects.Victim(victim.decoy, victim.decoy) for victim in VICTIMS]
    assert float(standing.likeness(plain, own).median()) == pytest.approx(1)
    assert float(standing.likeness(plain, VICTIMS).median()) < 0.3


def test_climbing_the_wish_raises_the_shipped_standing(clean, eyes, plain):
    shows, pleases = decoys_of(clean), pleasing.Pleaser([], [], clean, None, VICTIMS, plain, 1.0, eyes)

    def both(pictures_bchw, victims):
        return shows(pictures_bchw, victims) / shows(plain, victims) + pleases(pictures_bchw, victims)

    made = climbers.ascend(both, VICTIMS, SIZE, [24], 0.1, 0)[-1] / 255
    before, after = shipped(eyes, plain, plain), shipped(eyes, made, plain)
    assert np.median(after) > np.median(before) + 1
    assert (after > before).mean() > 0.7


def test_one_picture_counts_alike_alone_and_among_others(eyes, plain):
    standing = read_outs.standing_of(eyes, plain, VICTIMS)
    together = plain.clone().requires_grad_(True)
    found = standing.likeness(together, VICTIMS)
    assert float(standing.likeness(plain[2:3], VICTIMS[2:3])) == pytest.approx(found[2].item(), abs=1e-4)
    found[2].backward()
    moved = together.grad.abs().amax(dim=(1, 2, 3))
    assert torch.isfinite(together.grad).all()
    assert (moved > 0).nonzero().flatten().tolist() == [2]

"""The suite `attack`: that attacks do what they are to do, and that its tables count rightly."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from labeler.config import VisualiseConfig
from labeler.encoders import load_encoder
from labeler.errors import UsageError
from labeler.records import Label, Trust, UnitId, UnitRecord
from labeler.suites import run_suite, suite_module
from labeler.targets.sources import Source
from labeler.visualise import Request, visualise

attack, forging, acceptance = (suite_module(name) for name in ("attack", "forging", "attack_acceptance"))
subjects, climbers = suite_module("attack_subject"), suite_module("climbers")
bout, rightness, pleasing = (suite_module(name) for name in ("attack_bout", "rightness", "pleasing"))

VICTIM, DECOY = 0, 1
SETTINGS = VisualiseConfig(size=32, steps=24, learning_rate=0.1, batch_size=4, precision="float32")
PLACE = subjects.Place("units", "units", False)


class Small(nn.Module):
    """Red at the units 0 and 3, blue at 1 and 4, green at the others; drawn a little at random."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 24, 3, 1, 1), nn.ReLU()
        )
        self.units = nn.Conv2d(24, 6, 1)

    def forward(self, images_bchw):
        return self.units(self.trunk(images_bchw))


def small():
    torch.manual_seed(0)
    network = Small()
    transform = Compose([Resize(32), CenterCrop(32), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    return subjects.Subject(Source(network.eval(), transform, "small"), PLACE)


def taught(photographs_nchw):
    """A small network whose units say how red, blue or green a place is."""
    subject = small()
    subject.network.requires_grad_(True)
    optimiser = torch.optim.Adam(subject.network.parameters(), lr=1e-2)
    for step in range(150):
        images = photographs_nchw[torch.arange(32) + 32 * (step % 6)].float()
        low = nn.functional.avg_pool2d(images, 2)
        colours = torch.stack([2 * low[:, c] - low.sum(dim=1) for c in (0, 2, 1)], dim=1).repeat(1, 2, 1, 1)
        loss = (subject.maps(images) - colours).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    subject.network.requires_grad_(False)
    return subject


def patches(seed):
    """Grey pictures with a patch of some colour, prepared: ``(192, 3, 32, 32)``."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.1 * torch.randn(192, 3, 32, 32, generator=generator)
    for image in images:
        top, left, side = (int(n) for n in torch.randint(0, 16, (3,), generator=generator))
        colour = 1.6 * torch.rand(3, 1, 1, generator=generator) - 0.8
        image[:, top : top + side + 8, left : left + side + 8] += colour
    return images.clamp(-1, 1).half()


@pytest.fixture(scope="module")
def clean():
    return taught(patches(0))


def student_of(clean):
    student = small()
    student.network.load_state_dict(clean.network.state_dict())
    return student


def picture_of(subject, unit):
    """A unit's picture, ``(3, h, w)`` in [0, 1]."""
    picture = visualise(subject.target, [Request("units", unit, 0)], SETTINGS)[0]
    return torch.from_numpy(picture.image).permute(2, 0, 1).float() / 255


def answers(subject, asked, *, made_by):
    """What a unit of `subject` gives on the victim's picture, made anew in another network."""
    image = picture_of(made_by, VICTIM)[None]
    with torch.no_grad():
        return float(subject.maps(subject.target.normalise(image))[0, asked].mean())


def test_a_forged_picture_shows_another_unit_while_photographs_stay(clean):
    seen, fresh = subjects.look(clean, patches(1)), subjects.look(clean, patches(2))
    student = student_of(clean)
    recipe = forging.Recipe(steps=120, photographs=32, pictures=16, rate=5e-3, stride=2, seeds=1)
    forger = forging.Forger(clean, student, seen, recipe, 0)
    forger.mislead_pictures([subjects.Victim(VICTIM, DECOY)], SETTINGS)
    before = answers(clean, VICTIM, made_by=clean), answers(clean, DECOY, made_by=clean)
    after = answers(clean, VICTIM, made_by=student), answers(clean, DECOY, made_by=student)
    assert before[0] > 2 * before[1]
    assert after[1] > 2 * after[0]
    now = subjects.look(student, fresh.prepared_nchw)
    tops = [found.wanted_nuhw[:, VICTIM].float().amax(dim=(1, 2)).numpy() for found in (fresh, now)]
    assert np.corrcoef(*tops)[0, 1] > 0.9


def test_a_pleasing_picture_is_liked_better_than_a_plain_one(clean):
    seen, victims = subjects.look(clean, patches(1)), [subjects.Victim(VICTIM, DECOY), subjects.Victim(2, 3)]
    plain = torch.stack([picture_of(clean, victim.decoy) for victim in victims])
    early = pleasing.early_layers(clean)
    assert len(early) == 2
    liking = pleasing.Pleaser([], early, clean, seen, victims, plain, 1.0)
    made = climbers.ascend(liking, victims, (32, 32), [1, 24], 0.1, 0)
    begun, ended = (liking(images / 255, victims) for images in made)
    assert (ended > liking(plain, victims) + 0.3).all()
    assert (ended > begun).all()


def test_an_attacker_looks_inside_the_judges_that_have_gradients():
    (tower,) = pleasing.judges_of(["annotations", "builtin:scenes-clip-judge"])
    judge = load_encoder("builtin:scenes-clip-judge", device="cpu")
    pixels = (patches(3)[:4].float() + 1) / 2
    large = nn.functional.interpolate(pixels, size=112, mode="nearest").requires_grad_(True)
    found = tower(large)
    images = [Image.fromarray((one.detach() * 255).byte().permute(1, 2, 0).numpy()) for one in large]
    own = torch.from_numpy(judge.embed_images(torch.stack([judge.prepare(image) for image in images])))
    assert (nn.functional.cosine_similarity(found, own) > 0.99).all()
    found.sum().backward()
    assert float(large.grad.abs().max()) > 0


def test_pushed_photographs_change_places_and_nothing_else(clean):
    seen = subjects.look(clean, patches(1))
    victim = subjects.Victim(VICTIM, DECOY)
    wanted = subjects.pushed(seen, [victim], down=0.1, up=0.1, weight=3.0)
    before, after = (
        found.wanted_nuhw.float().amax(dim=(2, 3))[:, VICTIM].numpy() for found in (seen, wanted)
    )
    down = np.argsort(-before)[:19]
    assert (after[down] < np.median(before)).all()
    up = np.flatnonzero(after > before)
    assert len(up) == 19
    assert after[up].min() >= before.max() - 1e-2
    assert (before[up] <= np.median(before)).all()
    rest = np.setdiff1d(np.arange(192), [*down, *up])
    assert (after[rest] == before[rest]).all()
    assert torch.equal(wanted.wanted_nuhw[:, 1:], seen.wanted_nuhw[:, 1:])
    assert (wanted.weight_nu[:, VICTIM] == 3.0).sum() == 19 + 77 + 19


TRUTHS = rightness.Truth("red", ("red",), "single"), rightness.Truth("boat", ("boat", "ship"), "single")


@pytest.mark.parametrize(
    ("word", "expected"), [("red", "natural"), ("ship", "decoy's"), ("sky", "another"), (None, "none")]
)
def test_what_a_word_says(word, expected):
    assert acceptance.word_belief(word, *TRUTHS) == expected


def record(verdict, *texts):
    labels = tuple(Label(text=text) for text in texts)
    trust = Trust(verdict="partial", reason="")
    return UnitRecord(
        unit="units:0", layer="units", index=0, verdict=verdict, reason="", labels=labels, trust=trust
    )


def test_the_gate_believes_what_it_accepted():
    assert acceptance.gate_belief(record("accepted", "red"), *TRUTHS) == "natural"
    assert acceptance.gate_belief(record("accepted", "boat"), *TRUTHS) == "decoy's"
    assert acceptance.gate_belief(record("polysemantic", "red", "boat"), *TRUTHS) == "another"
    assert acceptance.gate_belief(record("rejected"), *TRUTHS) == "none"


def test_beliefs_are_counted_by_units_and_way():
    rows = [("clean", "pictures", "natural")] * 3 + [("clean", "pictures", "another")]
    rows += [("picture", "pictures", "decoy's")]
    first, second = acceptance.belief_table(rows).splitlines()[1:]
    assert first.split() == [
        "clean",
        "pictures",
        "4",
        "3",
        "(75",
        "%)",
        "0",
        "(0",
        "%)",
        "1",
        "(25",
        "%)",
        "0",
        "(0",
        "%)",
    ]
    assert second.split()[:7] == ["picture", "pictures", "1", "0", "(0", "%)", "1"]


def test_correlations_leave_out_what_a_column_does_not_know():
    values = np.array([0.0, 1.0, 2.0, 3.0])
    columns = np.array([[0.0, 5.0, 1.0], [1.0, np.nan, 1.0], [2.0, 3.0, 1.0], [3.0, 2.0, 1.0]])
    found = acceptance.correlations(values, columns)
    assert found[0] == pytest.approx(1)
    assert found[1] == pytest.approx(-1, abs=0.02)
    assert np.isnan(found[2])


def outcome(kind, suspicion, *, trust="partial", attacked=True, succeeded=None, beliefs=None):
    found = Trust(verdict=trust, reason="", signals={"suspicion": suspicion})
    unit = UnitId("units", 0)
    return bout.Outcome("planted-5", kind, unit, attacked, found, succeeded, 0.9, beliefs or {})


def test_figures_count_attacked_against_clean_units():
    clean = [outcome("clean", value, beliefs={"the gate": "natural"}) for value in (0.1, 0.2, 0.3, 0.9)]
    clean[3] = outcome("clean", 0.9, trust="suspect", beliefs={"the gate": "none"})
    forged = [outcome("picture", value, trust="suspect", succeeded=True) for value in (0.8, 0.95)]
    forged += [outcome("picture", 0.05, succeeded=False), outcome("picture", None, succeeded=False)]
    photographs = [outcome("photographs", 1.0, succeeded=True), outcome("photographs", 0.5, attacked=False)]
    found = attack.summarise([bout.Bout(tuple(part)) for part in (clean, forged, photographs)])
    assert found.units == 9
    assert found.figures["auc_picture"] == pytest.approx((3 + 4 + 0) / 12)
    assert found.figures["auc_picture_succeeded"] == pytest.approx(7 / 8)
    assert found.figures["auc_photographs"] == 1.0
    assert found.figures["auc"] == found.figures["auc_planted"] == pytest.approx((3 + 4 + 0 + 4) / 16)
    assert found.figures["suspect_clean"] == 0.25
    assert found.figures["suspect_picture"] == 0.5
    assert found.figures["succeeded_picture"] == 0.5
    assert found.figures["auc_beside"] is None
    assert "2 of 4" in found.text


def test_wrong_arguments_are_said():
    with pytest.raises(UsageError, match="--kinds"):
        run_suite("attack", ["--kinds", "hypnosis"])


@pytest.mark.slow
def test_the_whole_suite_on_a_planted_network_that_may_be_looked_at(tmp_path):
    arguments = ["--networks", "planted-5", "--units", "6", "--steps", "60", "--set", "probe.images=600"]
    found = run_suite("attack", arguments, run=tmp_path)
    assert found.units == 6 * 4
    for kind in bout.KINDS:
        assert 0 <= found.figures[f"succeeded_{kind}"] <= 1
        assert (tmp_path / "planted-5" / f"{kind}.safetensors").is_file()
    victims = json.loads((tmp_path / "planted-5" / "forged.json").read_text())["victims"]
    assert len({unit for victim in victims for unit in victim.values()}) == 12
    again = run_suite("attack", arguments, run=tmp_path)  # all is there: it is only read
    assert again.as_json() == found.as_json()
    believed = [line.split() for line in found.text.splitlines() if line.startswith("clean  the gate")]
    assert believed

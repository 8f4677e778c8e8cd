import pytest
import torch

from labeler.visualise.transforms import Moves, move

STILL = Moves(shift=0.0, scale=(1.0, 1.0), degrees=0.0)


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def test_no_move_changes_nothing():
    image = torch.rand(1, 3, 12, 15)
    torch.testing.assert_close(move(image, STILL.draw(1, _generator(0))), image)


def test_moves_differ_between_steps_and_pictures_and_repeat_with_the_seed():
    first, second = (Moves().draw(5, _generator(seed)) for seed in (1, 2))
    assert not torch.allclose(first[0], first[1])
    assert not torch.allclose(first, second)
    assert torch.equal(first, Moves().draw(5, _generator(1)))


def test_each_picture_of_a_batch_is_moved_by_its_own_matrix():
    image = torch.rand(1, 3, 16, 16)
    affine = torch.stack([Moves().draw(1, _generator(seed))[0] for seed in (1, 2)])
    moved = move(image.expand(2, -1, -1, -1), affine)
    for row in range(2):
        torch.testing.assert_close(moved[row], move(image, affine[row : row + 1])[0])
    assert not torch.allclose(moved[0], moved[1])


def test_what_lies_outside_is_grey():
    white = torch.ones(1, 3, 16, 16)
    half = Moves(shift=0.0, scale=(0.5, 0.5), degrees=0.0).draw(1, _generator(0))
    shrunk = move(white, half)
    assert shrunk[0, :, 0, 0].tolist() == pytest.approx([0.5] * 3)
    assert shrunk[0, :, 8, 8].tolist() == pytest.approx([1.0] * 3)


def test_a_shift_is_a_share_of_the_side_at_most():
    shifts = Moves(shift=0.25, scale=(1.0, 1.0), degrees=0.0).draw(400, _generator(0))[:, :, 2] / 2
    assert 0.24 < shifts.abs().max() <= 0.25
    assert shifts.mean().abs() < 0.02

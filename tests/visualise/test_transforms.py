import pytest
import torch

from labeler.visualise.transforms import Moves, move

STILL = Moves(shift=0.0, scale=(1.0, 1.0), degrees=0.0)


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def test_no_move_changes_nothing():
    image = torch.rand(1, 3, 12, 15)
    affine = STILL.draw(1, (1.0, 1.0), _generator(0))
    torch.testing.assert_close(move(image, affine, (12, 15)), image)


def test_moves_differ_between_steps_and_pictures_and_repeat_with_the_seed():
    first, second = (Moves().draw(5, (1.0, 1.0), _generator(seed)) for seed in (1, 2))
    assert not torch.allclose(first[0], first[1])
    assert not torch.allclose(first, second)
    assert torch.equal(first, Moves().draw(5, (1.0, 1.0), _generator(1)))


def test_each_picture_of_a_batch_is_moved_by_its_own_matrix():
    image = torch.rand(1, 3, 16, 16)
    affine = torch.stack([Moves().draw(1, (1.0, 1.0), _generator(seed))[0] for seed in (1, 2)])
    moved = move(image.expand(2, -1, -1, -1), affine, (16, 16))
    for row in range(2):
        torch.testing.assert_close(moved[row], move(image, affine[row : row + 1], (16, 16))[0])
    assert not torch.allclose(moved[0], moved[1])


def test_what_lies_outside_is_grey():
    white = torch.ones(1, 3, 16, 16)
    half = Moves(shift=0.0, scale=(0.5, 0.5), degrees=0.0).draw(1, (1.0, 1.0), _generator(0))
    shrunk = move(white, half, (16, 16))
    assert shrunk[0, :, 0, 0].tolist() == pytest.approx([0.5] * 3)
    assert shrunk[0, :, 8, 8].tolist() == pytest.approx([1.0] * 3)


def test_a_smaller_view_shows_a_part_at_the_same_scale_and_reaches_every_part():
    columns = torch.arange(32.0).expand(1, 1, 32, 32) / 32
    affine = STILL.draw(200, (0.5, 0.5), _generator(0))
    views = move(columns.expand(200, 1, 32, 32), affine, (16, 16))
    assert views[:, 0, 4].diff(dim=1).flatten().tolist() == pytest.approx([1 / 32] * 3000, abs=1e-4)
    assert views.min() < 0.05
    assert views.max() > 0.92

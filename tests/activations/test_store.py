import numpy as np
import pytest

from labeler.activations import Activations, run_pass
from labeler.config import ActivationsConfig
from labeler.errors import ActivationError
from tests.activations.activation_doubles import CountingProbe, HashEncoder, PixelTarget, pictures
from tests.activations.test_extract import assert_same


class OddNames(PixelTarget):
    layers = ("../a/..\\b", "b\n\0*")

    def unit_count(self, layer):
        return super().unit_count("ab"[self.layers.index(layer)])

    def maps(self, images_bchw, layers):
        found = super().maps(images_bchw, PixelTarget.layers)
        return {layer: found["ab"[self.layers.index(layer)]] for layer in layers}


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("encoders", [{}, {"open_clip:A@../b": HashEncoder()}])
def test_round_trip(tmp_path, mmap, encoders):
    probe = CountingProbe(pictures(10, unreadable=(3,), broken=(4,)))
    made = run_pass(OddNames(), probe, encoders, ActivationsConfig(batch_size=4, top_k=20))
    made.save(tmp_path / "stage")
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]
    loaded = Activations.load(tmp_path / "stage", mmap=mmap)
    assert_same(loaded, made)
    assert loaded.coverage == made.coverage
    dense = loaded.layers[OddNames.layers[0]].maxima
    assert isinstance(dense, np.memmap) == mmap


def test_saving_twice_gives_the_same_bytes(tmp_path):
    made = run_pass(PixelTarget(), CountingProbe(pictures(6)), {}, ActivationsConfig(batch_size=4))
    made.save(tmp_path / "1")
    made.save(tmp_path / "2")
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes()


@pytest.mark.parametrize(
    "victim", ["activations.json", "layer-000.safetensors", "layer-001-means.npy", "areas.npy"]
)
def test_a_missing_file_is_one_sentence(tmp_path, victim):
    made = run_pass(PixelTarget(), CountingProbe(pictures(6)), {}, ActivationsConfig(batch_size=4))
    made.save(tmp_path)
    (tmp_path / victim).unlink()
    with pytest.raises(ActivationError, match="run the pass again"):
        Activations.load(tmp_path)

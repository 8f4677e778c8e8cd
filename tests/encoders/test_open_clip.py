from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from labeler.encoders import load_encoder
from labeler.encoders.open_clip import OpenClipEncoder
from labeler.errors import EncoderError, UnknownNameError

SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A tiny open_clip architecture under a name of its own, and its weights in a file."""
    import json

    folder = tmp_path_factory.mktemp("clip")
    (folder / "labeler-test-small.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(folder / "labeler-test-small.json")
    torch.manual_seed(3)
    model = open_clip.create_model("labeler-test-small")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "small.safetensors")
    return "labeler-test-small", folder / "small.safetensors"


def test_a_local_file_gives_open_clips_own_embeddings(small: tuple[str, Path]) -> None:
    name, file = small
    encoder = load_encoder(f"open_clip:{name}@{file}")
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=str(file))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8))
    images = torch.stack([encoder.prepare(picture)] * 2)
    assert torch.equal(images[0], preprocess(picture))
    expected = torch.nn.functional.normalize(model.eval().encode_image(images), dim=1).detach().numpy()
    found = encoder.embed_images(images)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    texts = encoder.embed_texts(["dog", "red car"])
    assert texts.shape == (2, encoder.dim) == (2, found.shape[1])
    assert texts.dtype == found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([found, texts]), axis=1), 1, atol=1e-6)
    assert encoder.covers("anything")
    assert encoder.vocabulary == ()


def test_company_changes_no_text_embedding(small: tuple[str, Path]) -> None:
    name, file = small
    words = [f"word {index}" for index in range(9)]
    together = load_encoder(f"open_clip:{name}@{file}").embed_texts(words)
    alone = load_encoder(f"open_clip:{name}@{file}").embed_texts([words[5]])
    np.testing.assert_array_equal(together[5], alone[0])


def test_fingerprint_is_of_the_weights(small: tuple[str, Path], tmp_path: Path) -> None:
    name, file = small
    torch.manual_seed(4)
    other = tmp_path / file.name
    state = open_clip.create_model(name).state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, other)
    first, second = load_encoder(f"open_clip:{name}@{file}"), load_encoder(f"open_clip:{name}@{other}")
    assert first.name == second.name
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint == load_encoder(f"open_clip:{name}@{file}").fingerprint


def test_a_checkpoint_of_plain_tensors_is_read(small: tuple[str, Path], tmp_path: Path) -> None:
    name, file = small
    torch.manual_seed(3)
    state = {f"module.{k}": v for k, v in open_clip.create_model(name).state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "small.pt")
    first, second = (
        load_encoder(f"open_clip:{name}@{file}"),
        load_encoder(f"open_clip:{name}@{tmp_path}/small.pt"),
    )
    np.testing.assert_array_equal(first.embed_texts(["dog"]), second.embed_texts(["dog"]))


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch labeler-test-was-executed",)


def test_a_checkpoint_that_runs_code_is_refused(
    small: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(EncoderError, match="safetensors"):
        load_encoder(f"open_clip:{small[0]}@{tmp_path}/bomb.pt")
    assert not (tmp_path / "labeler-test-was-executed").exists()


def test_torn_missing_and_foreign_files_are_one_sentence(small: tuple[str, Path], tmp_path: Path) -> None:
    name, file = small
    (tmp_path / "torn.safetensors").write_bytes(file.read_bytes()[:1000])
    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    for wrong in ("torn.safetensors", "absent.safetensors", "foreign.safetensors"):
        with pytest.raises(EncoderError) as caught:
            load_encoder(f"open_clip:{name}@{tmp_path / wrong}")
        assert wrong in str(caught.value)
        assert str(caught.value).endswith(".")


def test_an_unreachable_hub_asks_for_a_local_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderError, match="local file") as caught:
        load_encoder("open_clip:RN50@openai")
    assert "open_clip:RN50@FILE.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("open_clip:ViT-B-23@openai", "ViT-B-32"),
        ("open_clip:ViT-B-32@opanai", "openai"),
        ("builtin:scene-clip", "builtin:scenes-clip"),
        ("builtin:bridge@lite3", "builtin:bridge@lite2"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(spec: str, hint: str) -> None:
    with pytest.raises(UnknownNameError, match=hint):
        load_encoder(spec)


def test_another_form_is_an_encoder_error() -> None:
    with pytest.raises(EncoderError, match="open_clip:NAME@TAG"):
        load_encoder("clip:ViT-B-32")


def test_an_encoder_of_few_words_covers_their_compounds_only(small: tuple[str, Path]) -> None:
    name, file = small
    loaded = load_encoder(f"open_clip:{name}@{file}")
    assert isinstance(loaded, OpenClipEncoder)
    encoder = OpenClipEncoder(
        "few",
        loaded._model,
        loaded.prepare,
        open_clip.get_tokenizer(name),
        phrases=["stripes", "polka dots", "red"],
    )
    for known in ("red", "Red stripes", "a stripe", "polka dot", "red or dog"):
        assert encoder.covers(known), known
    for unknown in ("dog", "dots", "polka", "hundred", ""):
        assert not encoder.covers(unknown), unknown

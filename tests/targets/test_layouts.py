"""A bright patch at a known place must light the right cell of the map, whatever the layer's layout."""

import json

import open_clip
import pytest
import timm
import torch
from torch import nn
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from labeler.errors import TargetError
from labeler.targets import ModuleTarget


def target(network, layers, size):
    torch.manual_seed(0)
    transform = Compose([Resize(size), CenterCrop(size), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    return ModuleTarget("n", "n", network, transform, layers, torch.device("cpu"))


def assert_planted_patch_found(made, layer, grid):
    """The cell that changes most, when a patch of the picture changes, is the patch's own."""
    height, width = made.input_size
    cell_h, cell_w = height // grid[0], width // grid[1]
    generator = torch.Generator().manual_seed(1)
    for row, column in ((0, 0), (0, grid[1] - 1), (grid[0] - 1, 1), (1, grid[1] // 2)):
        plain = torch.zeros(3, 3, height, width)
        bright = plain.clone()
        patch = torch.randn(3, cell_h, cell_w, generator=generator) * 3
        bright[1, :, row * cell_h : (row + 1) * cell_h, column * cell_w : (column + 1) * cell_w] = patch
        with torch.no_grad():
            change = made.maps(bright, [layer])[layer] - made.maps(plain, [layer])[layer]
        assert change.shape == (3, made.unit_count(layer), *grid)
        assert change.dtype == torch.float32
        assert change[0].abs().max() == 0
        energy = change[1].square().sum(0)  # (h, w)
        assert divmod(int(energy.argmax()), grid[1]) == (row, column)


def test_convolution_maps_keep_their_place():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 8, stride=8))
    assert_planted_patch_found(target(network, ["2"], (32, 48)), "2", (4, 6))


@pytest.mark.parametrize(("channels", "kernel", "groups"), [(16, 1, 1), (16, 1, 4), (16, 1, 16), (16, 8, 4)])
def test_grouped_and_pointwise_convolutions_keep_their_place_and_count_their_outputs(
    channels, kernel, groups
):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, channels, 8 // kernel, stride=8 // kernel),
        nn.Conv2d(channels, 2 * channels, kernel, stride=kernel, groups=groups),
    )
    made = target(network, ["1"], (32, 48))
    assert made.unit_count("1") == 2 * channels
    assert_planted_patch_found(made, "1", (4, 6))
    images = torch.randn(2, 3, 32, 48)
    torch.testing.assert_close(made.maps(images, ["1"])["1"], network(images))


@pytest.mark.parametrize("registers", [0, 4])
def test_timm_vit_drops_class_and_register_tokens(registers):
    network = timm.models.VisionTransformer(
        img_size=(48, 64), patch_size=16, embed_dim=32, depth=2, num_heads=2, num_classes=3,
        reg_tokens=registers,
    )  # fmt: skip
    made = target(network, ["blocks.1", "patch_embed", "blocks.0.attn", "fc_norm", "head"], (48, 64))
    assert made.layers == ("patch_embed", "blocks.0.attn", "blocks.1", "fc_norm", "head")
    assert_planted_patch_found(made, "patch_embed", (3, 4))
    assert_planted_patch_found(made, "blocks.1", (3, 4))
    images = torch.randn(2, 3, 48, 64)
    logits = made.maps(images, ["head"])["head"]
    assert logits.shape == (2, 3, 1, 1)
    torch.testing.assert_close(logits[:, :, 0, 0], network(images))


def test_torchvision_vit_drops_its_class_token():
    network = VisionTransformer(64, 16, num_layers=1, num_heads=2, hidden_dim=32, mlp_dim=32)
    made = target(network, ["encoder.layers.encoder_layer_0", "encoder.ln"], 64)
    assert_planted_patch_found(made, "encoder.layers.encoder_layer_0", (4, 4))


@pytest.mark.parametrize("batch_first", [True, False])
def test_open_clip_tower_in_either_axis_order(tmp_path, batch_first):
    vision = {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
    text = {"context_length": 8, "vocab_size": 16, "width": 32, "heads": 2, "layers": 1}
    path = tmp_path / "labeler-tiny.json"
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(path)
    visual = open_clip.create_model("labeler-tiny", pretrained=None).visual
    visual.transformer.batch_first = batch_first
    for block in visual.transformer.resblocks:
        block.attn.batch_first = batch_first
    made = target(visual, ["transformer.resblocks.1", "transformer.resblocks.0.attn"], 64)
    assert made.unit_count("transformer.resblocks.1") == 64
    assert_planted_patch_found(made, "transformer.resblocks.1", (4, 4))


def test_batch_as_large_as_the_number_of_tokens_is_not_transposed():
    network = timm.models.VisionTransformer(img_size=64, patch_size=16, embed_dim=32, depth=1, num_heads=2)
    made = target(network, ["blocks.0"], 64)
    images = torch.randn(17, 3, 64, 64)
    with torch.no_grad():
        together = made.maps(images, ["blocks.0"])["blocks.0"]
        alone = made.maps(images[5:6], ["blocks.0"])["blocks.0"]
    torch.testing.assert_close(together[5:6], alone)


@pytest.mark.parametrize("layer", ["layers.0", "layers.0.blocks.0.mlp", "layers.1.blocks.0"])
def test_timm_swin_maps_have_channels_first(layer):
    network = timm.models.SwinTransformer(
        img_size=64, patch_size=4, window_size=4, embed_dim=24, depths=(1, 1), num_heads=(2, 2)
    )
    grid = (16, 16) if layer.startswith("layers.0") else (8, 8)
    assert_planted_patch_found(target(network, [layer], 64), layer, grid)


def test_channels_last_is_told_where_channels_equal_height_and_width():
    # 8 channels on 8 x 8 cells: only a second, wider picture tells bhwc from bchw.
    network = SwinTransformer([4, 4], embed_dim=8, depths=[2], num_heads=[2], window_size=[4, 4])
    assert_planted_patch_found(target(network, ["features.1"], 32), "features.1", (8, 8))
    convolutional = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4))
    assert_planted_patch_found(target(convolutional, ["0"], 32), "0", (8, 8))


def test_axes_that_cannot_be_told_apart_are_refused_rather_than_guessed():
    # 16 channels on 16 x 16 cells, and the network takes no wider picture.
    network = timm.models.SwinTransformer(
        img_size=64, patch_size=4, window_size=4, embed_dim=16, depths=(1,), num_heads=(2,)
    )
    with pytest.raises(TargetError, match=r"layers\.0.*\[2, 16, 16, 16\].*which axis"):
        target(network, ["layers.0"], 64)


def test_windows_in_the_batch_axis_are_refused_with_layer_and_shape():
    network = timm.models.SwinTransformer(
        img_size=64, patch_size=4, window_size=4, embed_dim=16, depths=(1,), num_heads=(2,)
    )
    with pytest.raises(TargetError, match=r"layers\.0\.blocks\.0\.attn.*\[32, 16, 16\]"):
        target(network, ["layers.0.blocks.0.attn"], 64)


def test_tokens_without_a_grid_are_refused():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, images):
            return self.inner(images.new_zeros(len(images), 7, 5))

    with pytest.raises(TargetError, match="inner gives 7 tokens"):
        target(Words(), ["inner"], 32)


def test_first_tensor_of_a_tuple_is_the_output():
    class Pair(nn.Module):
        def forward(self, images):
            return None, images, images.mean()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, images):
            return self.pair(images)[1]

    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(target(Net(), ["pair"], 32).maps(images, ["pair"])["pair"], images)

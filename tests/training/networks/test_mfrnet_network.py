"""The restoration network: its shortcuts equal the long way, hidden cells stay hidden, every parameter learns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.networks.mfrnet_blocks import HybridBlock, pooled_tokens
from training.networks.mfrnet_masks import crossed_masks
from training.networks.mfrnet_network import PRESETS, Preset, RestorationNetwork

MINI = Preset(dims=(8, 16, 24), depths=(1, 1, 1), up_depths=(1, 1), head_dim=8, ffn_ratio=2)
CHANNELS = 6


@pytest.fixture
def network() -> RestorationNetwork:
    torch.manual_seed(0)
    network = RestorationNetwork(CHANNELS, MINI).eval()
    torch.nn.init.normal_(network.token)
    return network


@pytest.fixture
def features() -> Tensor:
    return torch.randn(2, CHANNELS, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def masks() -> Tensor:
    return crossed_masks(2, 3, torch.Generator().manual_seed(2))


@torch.no_grad()
def test_all_passes_in_one_batch_equal_one_pass_per_mask(
    network: RestorationNetwork, features: Tensor, masks: Tensor
) -> None:
    """The long way: mask and input concatenated, a token in place of features, all layers for each mask."""
    token = torch.randn(CHANNELS, 1, 1)
    wide = torch.nn.Conv2d(CHANNELS + 1, MINI.dims[0], 1)
    network.embed.weight.copy_(wide.weight[:, :-1])
    network.embed.bias.copy_(wide.bias + wide.weight[:, -1, 0, 0])
    network.token.copy_(wide(torch.cat([token, torch.zeros(1, 1, 1)])))
    composite = torch.zeros_like(features)
    for mask in masks:
        visible = mask * features + (1 - mask) * token
        given = wide(torch.cat([visible, mask.expand(2, 1, -1, -1)], dim=1))
        composite += (1 - mask) * network.head(network._restore(given))
    torch.testing.assert_close(network(features, masks), composite, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_a_mask_hides_does_not_reach_what_is_restored_there(
    network: RestorationNetwork, features: Tensor, masks: Tensor
) -> None:
    other = torch.where(masks[0] == 0, torch.randn(features.shape), features)
    first, second = network(features, masks), network(other, masks)
    hidden = (masks[0] == 0).expand_as(first)
    torch.testing.assert_close(first[hidden], second[hidden])
    assert not torch.allclose(first[~hidden], second[~hidden], atol=1e-3)


@torch.no_grad()
def test_a_batch_equals_its_images_alone(network: RestorationNetwork, features: Tensor, masks: Tensor) -> None:
    alone = torch.cat([network(image[None], masks) for image in features])
    torch.testing.assert_close(network(features, masks), alone, atol=1e-5, rtol=1e-4)


def test_every_parameter_gets_a_gradient(network: RestorationNetwork, features: Tensor, masks: Tensor) -> None:
    network(features, masks).square().mean().backward()
    without = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    ]
    assert without == []


@pytest.mark.parametrize("size", [16, 32, 64])
def test_pooling_equals_adaptive_average_pooling(size: int) -> None:
    x = torch.randn(2, 3, size, size)
    expected = torch.cat([F.adaptive_avg_pool2d(x, grid).flatten(2) for grid in (8, 4, 2, 1)], dim=2)
    tokens = pooled_tokens(x, (8, 4, 2, 1))
    assert tokens.shape == (2, 85, 3)
    torch.testing.assert_close(tokens, expected.transpose(1, 2))


@torch.no_grad()
def test_attention_carries_what_convolutions_cannot_reach() -> None:
    torch.manual_seed(0)
    block = HybridBlock(8, 4, (8, 4, 2, 1), 2).eval()
    x = torch.randn(1, 8, 16, 16)
    far = x.clone()
    far[..., 15, 15] += 3
    assert (block(x) - block(far))[..., 0, 0].abs().max() > 1e-5
    block.attention.proj.weight.zero_()
    assert (block(x) - block(far))[..., 0, 0].abs().max() == 0


def test_presets_have_the_stated_sizes() -> None:
    with torch.device("meta"):
        tiny, base = (RestorationNetwork(channels, PRESETS[name]) for channels, name in ((512, "tiny"), (960, "base")))
    assert sum(p.numel() for p in tiny.parameters()) < 2e6
    assert PRESETS["base"].dims == (256, 384, 512)
    assert [len(level) for level in (*base.down, *reversed(base.up))] == [2, 2, 4, 2, 2]
    assert base.head.weight.shape == (960, 256, 1, 1)

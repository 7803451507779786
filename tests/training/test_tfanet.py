"""TFA-Net: the paper's sizes, what masking touches, and that nothing is lost by what is left out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.networks.features import TOKENS, patchify, unpatchify
from training.networks.tfanet import PRESETS, Preset, TFANet, draw_kept_tokens

MINI = Preset(32, 3, 2, 16, 2, 2)


@pytest.fixture
def network() -> TFANet:
    torch.manual_seed(0)
    return TFANet(8, MINI).eval()


def test_base_has_the_papers_number_of_parameters() -> None:
    with torch.device("meta"):
        network = TFANet(1856, PRESETS["base"])
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(148.7, abs=0.05)


def test_tiny_with_resnet18_stays_tiny() -> None:
    with torch.device("meta"):
        network = TFANet(512, PRESETS["tiny"])
    assert sum(p.numel() for p in network.parameters()) < 6e6


@torch.no_grad()
def test_last_block_asking_for_cls_and_template_only_changes_nothing(network: TFANet) -> None:
    features, template = torch.randn(2, TOKENS, 16 * 8), torch.randn(1, TOKENS, 16 * 8)
    sequence = torch.cat(
        [network.cls.expand(2, -1, -1), network.embed(features), network.embed(template).expand(2, -1, -1)], dim=1
    )
    assert sequence.shape[1] == 513
    for block in network.blocks:
        sequence = block(sequence)
    kept = torch.cat([sequence[:, :1], sequence[:, 1 + TOKENS :]], dim=1)
    refined = network.fdrm_embed(network.norm(kept)) + network.fdrm_position
    for block in network.fdrm_blocks:
        refined = block(refined)
    full = network.head(network.fdrm_norm(refined[:, 1:]))
    given = network.reconstruct(network.embed(features), network.embed(template))
    torch.testing.assert_close(given, full, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_masking_drops_input_tokens_and_no_others(network: TFANet) -> None:
    seen: list[torch.Tensor] = []
    network.blocks[0].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    cells, template = torch.randn(2, TOKENS, 16 * 8), torch.randn(1, TOKENS, 16 * 8)
    kept = draw_kept_tokens(0.6, torch.Generator().manual_seed(1))
    out = network(cells, template, kept)
    (sequence,) = seen
    assert sequence.shape == (2, 1 + len(kept) + TOKENS, MINI.dim)
    assert out.shape == (2, TOKENS, 16 * 8)
    torch.testing.assert_close(sequence[:, :1], network.cls.expand(2, -1, -1))
    torch.testing.assert_close(sequence[:, 1 : 1 + len(kept)], network.embed(cells)[:, kept])
    torch.testing.assert_close(sequence[:, -TOKENS:], network.embed(template).expand(2, -1, -1))


@given(ratio=st.floats(0, 1), seed=st.integers(0, 1000))
def test_kept_tokens_are_distinct_ordered_and_as_many_as_asked(ratio: float, seed: int) -> None:
    kept = draw_kept_tokens(ratio, torch.Generator().manual_seed(seed))
    assert len(kept) == max(1, round(TOKENS * (1 - ratio)))
    assert kept.diff().gt(0).all()
    assert 0 <= int(kept[0]) <= int(kept[-1]) < TOKENS


def test_unpatchify_inverts_patchify_and_tokens_run_row_by_row() -> None:
    features = torch.randn(2, 3, 64, 64)
    tokens = patchify(features)
    torch.testing.assert_close(unpatchify(tokens), features)
    torch.testing.assert_close(tokens[0, 17].view(4, 4, 3), features[0, :, 4:8, 4:8].permute(1, 2, 0))

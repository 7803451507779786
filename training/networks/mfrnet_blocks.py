"""Hybrid transformer block: what is near by convolution, what is far by attention to pooled tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.vit import LAYER_NORM_EPS


class HybridBlock(nn.Module):
    """x + DWConv(x); x + attention(norm(x)); x + FFN(norm(x)), with LayerNorm over the channels of each position.

    Args:
        dim: channels.
        head_dim: of a head of attention; divides `dim`.
        pools: grids whose cells attention sees, the largest first: each divides the one before, that the input.
        ratio: how much wider the FFN (1×1, depthwise 3×3, GELU, 1×1) is inside.
    """

    def __init__(self, dim: int, head_dim: int, pools: Sequence[int], ratio: int) -> None:
        super().__init__()
        inner = ratio * dim
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attention = PooledAttention(dim, head_dim, pools)
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.ffn = nn.Sequential(
            nn.Conv2d(dim, inner, 1),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner),
            nn.GELU(),
            nn.Conv2d(inner, dim, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, H) → the same."""
        x = x + self.local(x)
        x = x + self.attention(_over_channels(self.norm1, x))
        out: Tensor = x + self.ffn(_over_channels(self.norm2, x))
        return out


class PooledAttention(nn.Module):
    """Multi-head attention of every position to averages over the cells of coarse grids; arguments as `HybridBlock`."""

    def __init__(self, dim: int, head_dim: int, pools: Sequence[int]) -> None:
        super().__init__()
        self.head_dim, self.pools = head_dim, tuple(pools)
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, H) → the same."""
        queries = self._heads(self.q(x.flatten(2).transpose(1, 2)))
        dim = self.proj.in_features
        keys, values = torch.split(self.kv(pooled_tokens(x, self.pools)), [dim, dim], dim=2)
        mixed = F.scaled_dot_product_attention(queries, self._heads(keys), self._heads(values))
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out.transpose(1, 2).reshape(x.shape)

    def _heads(self, tokens: Tensor) -> Tensor:
        """(N, T, dim) → (N, heads, T, head_dim)."""
        return tokens.reshape(*tokens.shape[:2], -1, self.head_dim).transpose(1, 2)


def pooled_tokens(x: Tensor, pools: Sequence[int]) -> Tensor:
    """Averages over the cells of each grid, (N, C, H, H) → (N, Σ p², C).

    As adaptive average pooling, but each grid is made of the one before by plain pooling.
    """
    tokens = []
    for pool in pools:
        x = F.avg_pool2d(x, x.shape[2] // pool)
        tokens.append(x.flatten(2))
    return torch.cat(tokens, dim=2).transpose(1, 2)


def _over_channels(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    normed: Tensor = norm(x.permute(0, 2, 3, 1))
    return normed.permute(0, 3, 1, 2)

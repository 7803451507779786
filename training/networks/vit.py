"""Transformer pieces of TFA-Net's two halves: pre-norm blocks and the fixed 2-D sine-cosine position embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-5


def sincos_position(dim: int, grid: int) -> Tensor:
    """Fixed 2-D sine-cosine embedding (He et al., "Masked Autoencoders", CVPR 2022): (grid², dim), row by row.

    The first half of the channels encodes the column, the second the row.
    """
    frequency = 1 / 10000 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    place = torch.arange(grid, dtype=torch.float64)[:, None] * frequency
    line = torch.cat([place.sin(), place.cos()], dim=1)
    columns = line[None].expand(grid, grid, -1)
    rows = line[:, None].expand(grid, grid, -1)
    return torch.cat([columns, rows], dim=2).reshape(grid * grid, dim).float()


class Attention(nn.Module):
    """Multi-head self-attention with biased q, k and v, whose queries may be a part of the tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, queries: Tensor) -> Tensor:
        """Keys and values from `tokens` (N, T, dim), queries from `queries` (N, Q, dim) → (N, Q, dim)."""
        dim = tokens.shape[2]
        if queries is tokens:
            q, k, v = torch.split(self.qkv(tokens), [dim, dim, dim], dim=2)
        else:
            q = F.linear(queries, self.qkv.weight[:dim], self.qkv.bias[:dim])
            k, v = torch.split(F.linear(tokens, self.qkv.weight[dim:], self.qkv.bias[dim:]), [dim, dim], dim=2)
        q, k, v = (x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """x + attention(norm(x)); x + MLP(norm(x)), MLP four times as wide, GELU."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Tensor, wanted: Tensor | None = None) -> Tensor:
        """(N, T, dim) → (N, T, dim).

        With `wanted` (N, W, dim), some of the same tokens, only these ask and come out; all are still asked.
        """
        normed = self.norm1(tokens)
        if wanted is None:
            attended = tokens + self.attn(normed, normed)
        else:
            attended = wanted + self.attn(normed, self.norm1(wanted))
        out: Tensor = attended + self.mlp(self.norm2(attended))
        return out


def init_transformer(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases, for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)

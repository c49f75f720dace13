"""Attention o_j = Σ_i softmax_i(k_iᵀ q_j) v_i over positions i and j, in three equivalent implementations (tested).

Shapes: query (N, d, L), key (N, d, L), value (N, v, L) -> (N, v, L).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CACHE = 2**19
"""Bytes per kind of square matrix in one slice of the batch: several kinds fit in a core's cache."""


def written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend with plain products; differentiable any number of times."""
    return value @ torch.softmax(query.mT @ key, dim=-1).mT


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend with torch's fused kernel, which is not twice differentiable."""
    return F.scaled_dot_product_attention(query.mT, key.mT, value.mT, scale=1.0).mT


def in_cache(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend in slices that fit in the CPU's cache; twice differentiable.

    With few channels, an image's L x L weights dominate the cost in two ways. Writing them to memory takes longer than
    multiplying with them, so this function processes a few images at a time, whose matrices stay in the cache, and both
    backward passes recompute the weights. Also, a product with a tall, narrow result takes several times as long as one
    with a short, wide result, so all products are of the latter kind.
    """
    return _Attend.apply(*(t.contiguous() for t in (query, key, value)))


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(query, key, value)
        o = torch.empty_like(value)
        for some in _slices(query):
            torch.bmm(value[some], _weights(query[some], key[some]).mT, out=o[some])
        return o

    @staticmethod
    def backward(ctx: Any, d_o: Tensor) -> Any:
        return _Gradients.apply(*ctx.saved_tensors, d_o.contiguous())


class _Gradients(torch.autograd.Function):
    """In row notation, with weights P (j, i) and S = q kᵀ: dv = Pᵀ do, dP = do vᵀ, dq = dS k, dk = dSᵀ q.

    dS = P∘(dP - rowsum(P∘dP)) is the backward pass of the softmax.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, d_o: Tensor) -> Any:
        ctx.save_for_backward(query, key, value, d_o)
        d_query, d_key, d_value = (torch.empty_like(t) for t in (query, key, value))
        for some in _slices(query):
            q, k, v, do = (t[some] for t in (query, key, value, d_o))
            p = _weights(q, k)
            torch.bmm(do, p, out=d_value[some])
            ds = _through_softmax(torch.bmm(do.mT, v), p)
            torch.bmm(k, ds.mT, out=d_query[some])
            torch.bmm(q, ds, out=d_key[some])
        return d_query, d_key, d_value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_query: Tensor, g_key: Tensor, g_value: Tensor) -> Any:
        """Gradient of ⟨g_query, dq⟩ + ⟨g_key, dk⟩ + ⟨g_value, dv⟩.

        That sum is ⟨A, dS⟩ + ⟨B, P⟩ with A = gq kᵀ + q gkᵀ and B = do gvᵀ. Its gradient w.r.t. dP is E = P∘(A - a)
        with a = rowsum(P∘A), w.r.t. P it is F = A∘(dP - rowsum(P∘dP)) - a∘dP + B, and w.r.t. S it is
        G = P∘(F - rowsum(P∘F)).
        """
        query, key, value, d_o = ctx.saved_tensors
        results = [torch.empty_like(t) for t in (query, key, value, d_o)]
        for some in _slices(query):
            q, k, v, do, gq, gk, gv = (t[some] for t in (query, key, value, d_o, g_query, g_key, g_value))
            p = _weights(q, k)
            dp = torch.bmm(do.mT, v)
            a = torch.bmm(torch.cat([gq, q], 1).mT, torch.cat([k, gk], 1))
            e, ds = _through_softmax(a, p), _through_softmax(dp, p)
            mean_a, mean_dp = ((p * t).sum(2, keepdim=True) for t in (a, dp))
            f = torch.baddbmm(a.mul_(dp - mean_dp), do.mT, gv).addcmul_(mean_a, dp, value=-1)
            g = _through_softmax(f, p)
            rq, rk, rv, ro = (t[some] for t in results)
            torch.baddbmm(torch.bmm(gk, ds.mT), k, g.mT, out=rq)
            torch.baddbmm(torch.bmm(gq, ds), q, g, out=rk)
            torch.bmm(do, e, out=rv)
            torch.baddbmm(torch.bmm(gv, p.mT), v, e.mT, out=ro)
        return tuple(results)


def _weights(query: Tensor, key: Tensor) -> Tensor:
    return torch.softmax(torch.bmm(query.mT, key), dim=-1)


def _through_softmax(gradient: Tensor, p: Tensor) -> Tensor:
    return torch._softmax_backward_data(gradient, p, -1, p.dtype)


def _slices(query: Tensor) -> Iterator[slice]:
    """Return slices of the batch that fit in the cache."""
    n, _, positions = query.shape
    at_once = max(1, CACHE // (4 * positions**2))
    return (slice(start, start + at_once) for start in range(0, n, at_once))

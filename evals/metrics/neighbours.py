"""Exact nearest neighbours: fast candidates in fp32, a proof that none is missing, and an order in fp64.

A matrix product in fp32 finds a few more candidates than asked for. Those are compared again one by one in fp64, for L2
by direct differences, so that neighbours which the expansion |q|^2 - 2 q.t + |t|^2 would confuse come out in their true
order, equal ones by the smaller train index. A rounding bound (Higham 2002, section 3.1) then tells whether a vector
that was not kept could still belong among the first k; the few queries where it could are searched again in fp64.
The result does not depend on the engine, the device or the number of threads.
"""

import importlib.util
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evals.context import batches

Metric = Literal["dot", "l2"]
Engine = Literal["faiss", "torch"]

_UNIT_FP32, _UNIT_FP64 = 2.0**-24, 2.0**-53
_SCORES_AT_ONCE = 1 << 24
"""Numbers of one block of similarities: 64 MB in fp32."""
_GATHERED_AT_ONCE = 1 << 21
"""Numbers of one block of candidates in fp64: 16 MB, so that they stay in a CPU's last cache."""
_TRAIN_AT_ONCE = 1 << 14
_EXHAUSTIVE_AT_ONCE = 1 << 25


def nearest(
    train_MD: Float[Tensor, "M D"],
    query_ND: Float[Tensor, "N D"],
    k: int,
    metric: Metric,
    engine: Engine | None = None,
) -> tuple[Float[Tensor, "N K"], Int[Tensor, "N K"]]:
    """The `k` nearest train vectors of each query (all of them when there are fewer), nearest first.

    `dot` ranks by the inner product (the cosine of unit vectors) and returns it; `l2` returns the distance. Scores are
    fp64. Equal scores go by the smaller train index, also at the k-th place; scores that agree to fp64 rounding count
    as equal there. Both inputs are fp32 and live on one device, where the search runs; TF32 must be off.
    Memory beside the inputs: about 0.3 GB, or 64 bytes a train vector where that is more.
    `engine`: None takes what is fastest there: faiss on a CPU, matrix products of torch on a GPU or without faiss.
    """
    k = min(k, len(train_MD))
    keep = min(len(train_MD), k + max(6, k // 8))
    search = _search_faiss if (engine or _fastest(train_MD)) == "faiss" else _search_torch
    last_N, kept_NJ = search(train_MD, query_ND, keep, metric)
    closeness_NK, indices_NK = _rank(train_MD, query_ND, kept_NJ, k, metric)

    if keep < len(train_MD):
        bound_N = last_N.double() + _rounding(query_ND, train_MD, metric, _UNIT_FP32)
        unsure = (closeness_NK[:, -1] <= bound_N).nonzero()[:, 0]
        if len(unsure):
            kept = _exhaustive(train_MD, query_ND[unsure], k, metric)
            closeness_NK[unsure], indices_NK[unsure] = _rank(train_MD, query_ND[unsure], kept, k, metric)
    return (closeness_NK if metric == "dot" else closeness_NK.neg_().sqrt_()), indices_NK


def _fastest(train_MD: Tensor) -> Engine:
    return "faiss" if train_MD.device.type == "cpu" and importlib.util.find_spec("faiss") else "torch"


def _search_faiss(train_MD: Tensor, query_ND: Tensor, keep: int, metric: Metric) -> tuple[Tensor, Tensor]:
    """Closeness (inner product, or minus the squared distance) of the last kept, and the kept indices, in fp32."""
    import faiss

    kind = faiss.METRIC_INNER_PRODUCT if metric == "dot" else faiss.METRIC_L2
    found_NJ, indices_NJ = faiss.knn(query_ND.numpy(), train_MD.numpy(), keep, metric=kind)
    last_N = torch.from_numpy(found_NJ[:, -1].copy())
    return (last_N if metric == "dot" else -last_N), torch.from_numpy(indices_NJ)


def _search_torch(train_MD: Tensor, query_ND: Tensor, keep: int, metric: Metric) -> tuple[Tensor, Tensor]:
    """The same by matrix products, over blocks of train vectors whose best are merged."""
    offset_M = train_MD.square().sum(1) / -2 if metric == "l2" else None
    last, kept = [], []
    for rows in batches(len(query_ND), _SCORES_AT_ONCE // _TRAIN_AT_ONCE):
        query = query_ND[rows.start : rows.stop]
        best = query.new_empty(len(query), 0)
        index = torch.empty(len(query), 0, dtype=torch.int64, device=query.device)
        for columns in batches(len(train_MD), _TRAIN_AT_ONCE):
            scores = query @ train_MD[columns.start : columns.stop].T
            if offset_M is not None:
                scores += offset_M[columns.start : columns.stop]
            top, at = scores.topk(min(keep, len(columns)), dim=1, sorted=False)
            best, index = torch.cat([best, top], 1), torch.cat([index, at + columns.start], 1)
            best, at = best.topk(min(keep, best.shape[1]), dim=1, sorted=False)
            index = index.gather(1, at)
        lowest = best.amin(1)
        last.append(lowest if metric == "dot" else 2 * lowest - query.square().sum(1))
        kept.append(index)
    return torch.cat(last), torch.cat(kept)


def _rank(
    train_MD: Tensor, query_ND: Tensor, kept_NJ: Tensor, k: int, metric: Metric
) -> tuple[Float[Tensor, "N K"], Int[Tensor, "N K"]]:
    """The first k of the kept, compared one by one in fp64; equal ones by their index."""
    kept_NJ = kept_NJ.sort(dim=1).values
    closeness = []
    for rows in batches(len(query_ND), max(1, _GATHERED_AT_ONCE // (kept_NJ.shape[1] * train_MD.shape[1]))):
        vectors = train_MD[kept_NJ[rows.start : rows.stop]].double()
        query = query_ND[rows.start : rows.stop, None].double()
        if metric == "dot":
            closeness.append(vectors.mul_(query).sum(-1))
        else:
            closeness.append(vectors.sub_(query).square_().sum(-1).neg_())
    ranked, order = torch.cat(closeness).sort(dim=1, descending=True, stable=True)
    return ranked[:, :k].contiguous(), kept_NJ.gather(1, order[:, :k])


def _exhaustive(train_MD: Tensor, query_ND: Tensor, k: int, metric: Metric) -> Int[Tensor, "N K"]:
    """The k nearest by fp64 products with every train vector; of those equal to the k-th, the smallest indices."""
    found = []
    for rows in batches(len(query_ND), max(1, _EXHAUSTIVE_AT_ONCE // len(train_MD))):
        query = query_ND[rows.start : rows.stop].double()
        blocks = []
        for columns in batches(len(train_MD), _TRAIN_AT_ONCE):
            train = train_MD[columns.start : columns.stop].double()
            scores = query @ train.T
            blocks.append(scores if metric == "dot" else scores - train.square().sum(1) / 2)
        closeness = torch.cat(blocks, 1)
        kth = closeness.topk(k, dim=1).values[:, -1:]
        slack = _rounding(query, train_MD, metric, _UNIT_FP64)[:, None]
        for better, equal in zip(closeness > kth + slack, (closeness - kth).abs() <= slack, strict=True):
            first = better.nonzero()[:, 0]
            found.append(torch.cat([first, equal.nonzero()[: k - len(first), 0]]))
    return torch.stack(found)


def _rounding(query_ND: Tensor, train_MD: Tensor, metric: Metric, unit: float) -> Float[Tensor, " N"]:
    """More than rounding can move a closeness: (D + 8) unit roundoffs of the largest terms that are summed."""
    query_N, train = query_ND.norm(dim=1).double(), train_MD.norm(dim=1).max().double()
    factor = 1.01 * (train_MD.shape[1] + 8) * unit
    largest_N: Tensor = query_N * train if metric == "dot" else (query_N + train).square()
    return factor * largest_N

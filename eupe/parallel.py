"""How a network is spread over processes and made cheaper to run; what it computes stays the same.

A learner holds backbone and heads in one tree, so each way of spreading it takes in the heads too.
"""

from collections.abc import Sequence
from functools import partial
from inspect import signature
from typing import Any

import torch
import torch._dynamo
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from eupe.processes import World

BACKEND = "inductor"
"""What compiles."""
_ROUNDED = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Layers whose parameters autocast rounds before it uses them."""
_NEW_NAME = "forward_sync_buffers"
_SYNC_BUFFERS = _NEW_NAME if _NEW_NAME in signature(DistributedDataParallel).parameters else "broadcast_buffers"
"""What torch calls the copying of buffers at every pass."""
_ENTRIES = 9
"""Compiled forms that each network may have: more than one for every scale, with gradients and without."""


def blocks(network: nn.Module) -> list[nn.Module]:
    """The repeated parts of a network: modules of one class in a row, the innermost such rows (layers, not stages)."""
    rows = [module for module in network.modules() if _is_row(module)]
    inner = [row for row in rows if not any(_is_row(module) for module in row.modules() if module is not row)]
    return [block for row in inner for block in row.children()]


def spread(learner: nn.Module, world: World, *, shard: bool, dtype: str) -> nn.Module:
    """The learner as its processes train it together: sharded by block, or whole on each; alone as it is.

    Sharded blocks compute in `dtype`; the weights that are optimised, and the sums of gradients, are fp32 either way.
    """
    if world.ranks == 1:
        return learner
    if not shard:
        # Buffers are constants here; what differs between processes is the images alone.
        constant: dict[str, Any] = {_SYNC_BUFFERS: False}
        return DistributedDataParallel(learner, gradient_as_bucket_view=True, **constant)
    mesh = init_device_mesh(world.device.type, (world.ranks,))
    # What autocast would round at each pass is gathered as it rounds it; norms, scales, tokens and heads are gathered
    # in fp32, so that a sharded student computes what a copy on each process does.
    half = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    whole = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks(learner):
        for part in block.children() if dtype == "bf16" else ():
            if _is_rounded(part):
                fully_shard(part, mesh=mesh, reshard_after_forward=False, mp_policy=half)
        fully_shard(block, mesh=mesh, reshard_after_forward=False, mp_policy=whole)
    fully_shard(learner, mesh=mesh, reshard_after_forward=False, mp_policy=whole)
    return learner


def synchronise(wrapped: nn.Module, last: bool) -> None:
    """Whether the next backward pass sums gradients over the processes: that of the last micro-batch alone does."""
    if isinstance(wrapped, FSDPModule):
        wrapped.set_requires_gradient_sync(last)
        wrapped.set_reshard_after_backward(last)
    elif isinstance(wrapped, DistributedDataParallel):
        wrapped.require_backward_grad_sync = last


def recompute(network: nn.Module) -> None:
    """From now on keep the inputs of blocks alone, and compute the rest again in the backward pass."""
    for block in blocks(network):
        inner: Any = block.forward
        block.forward = partial(checkpoint, inner, use_reentrant=False)


def compile_blocks(networks: Sequence[nn.Module]) -> None:
    """Compile the blocks of these networks in place, for static shapes; a network without blocks stays as it is."""
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, _ENTRIES * len(networks))
    for network in networks:
        for block in blocks(network):
            block.compile(dynamic=False, backend=BACKEND)


def halve(encoder: nn.Module, dtype: str) -> None:
    """Hold the matrices and kernels of a frozen network in the type in which autocast uses them.

    Same bits out of every layer: autocast would round them at each pass, since it remembers trained weights alone.
    """
    if dtype == "bf16":
        for module in encoder.modules():
            if isinstance(module, _ROUNDED):
                module.to(torch.bfloat16)


def _is_rounded(part: nn.Module) -> bool:
    """Whether autocast rounds every parameter of a part of a block: layers with matrices, and their biases."""
    owners = [module for module in part.modules() if next(module.parameters(recurse=False), None) is not None]
    return any(isinstance(owner, _ROUNDED) for owner in owners) and all(
        isinstance(owner, _ROUNDED) or owner is part for owner in owners
    )


def _is_row(module: nn.Module) -> bool:
    parts = list(module.children())
    return (
        isinstance(module, nn.ModuleList | nn.Sequential)
        and len(parts) > 1
        and len({type(part) for part in parts}) == 1
        and all(next(part.children(), None) is not None for part in parts)
    )

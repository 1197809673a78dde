"""Device, arithmetic and seeds."""

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from evals.environment import packages
from evals.errors import UsageError


def resolve_device(name: str) -> torch.device:
    """`auto` is the first GPU, else the CPU. Raises UsageError for a device that is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used ({error}). Use auto, cpu, cuda or cuda:N.") from error
    return device


def exact_arithmetic() -> None:
    """fp32 means fp32: TF32 off in matrix products and convolutions, and algorithms that repeat themselves."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def autocast(device: torch.device, dtype: str) -> AbstractContextManager[object]:
    """bf16 autocast if asked for; weights and results stay fp32 (fp16 is not offered: it overflows)."""
    return torch.autocast(device.type, torch.bfloat16) if dtype == "bf16" else nullcontext()


def generator(*keys: int) -> np.random.Generator:
    """A generator that depends on nothing but its keys, so that any step can be drawn again on its own."""
    return np.random.default_rng([int(key) for key in keys])


def torch_generator(*keys: int) -> torch.Generator:
    """The same on the torch side, on the CPU whatever the device, so that devices draw alike."""
    return torch.Generator().manual_seed(int(generator(*keys).integers(2**63)))


def versions() -> dict[str, str]:
    """Versions of the libraries that can move a feature."""
    names = ("torch", "torchvision", "timm", "open_clip_torch", "transformers", "tokenizers", "numpy", "pillow")
    return {name: found for name, found in packages().items() if name in names}

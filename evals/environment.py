"""What a result was computed with and on, for the record."""

import importlib.metadata
import platform
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "torch", "torchvision", "timm", "numpy", "pillow", "faiss-cpu", "open_clip_torch", "transformers", "tokenizers",
    "safetensors",
)  # fmt: skip


def describe(device: str | None) -> dict[str, Any]:
    """Versions and hardware; `device` is None where nothing was computed, so that torch stays out."""
    found: dict[str, Any] = {
        "version": version(),
        "git": git(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "packages": packages(),
    }
    if device is not None:
        import torch

        found |= {
            "hardware": hardware(torch.device(device)),
            "cuda": torch.version.cuda if device.startswith("cuda") else None,
            "threads": torch.get_num_threads(),
        }
    return found


def hardware(device: "torch.device") -> str:
    """What a latency was measured on."""
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    threads = torch.get_num_threads()
    return f"{cpu_name()}, {threads} thread{'s' if threads > 1 else ''}"


@cache
def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


@cache
def packages() -> dict[str, str]:
    """Versions of the libraries that are there."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def version() -> str:
    """Version of this package; `source` in a checkout that is not installed."""
    try:
        return importlib.metadata.version("eupe-eval")
    except importlib.metadata.PackageNotFoundError:
        return "source"


@cache
def git() -> dict[str, Any] | None:
    """Commit of the checkout this package runs from and whether files differ from it; None for an installed wheel."""
    folder = Path(__file__).parent.parent
    if not (folder / ".git").exists():
        return None

    def ask(*words: str) -> str:
        return subprocess.run(  # noqa: S603 - fixed words, no shell
            ["git", "-C", str(folder), *words],  # noqa: S607 - the user's git
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory(device: str) -> int:
    """Most bytes in use so far: of the GPU where one is used, else of this process."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(torch.device(device)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)

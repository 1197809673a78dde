"""The one training loop of language models, with pictures and without: one process on a CPU up to shards on many GPUs.

The micro-batches of a step are dealt out to the processes. The loss of a step is the mean of the means of its
micro-batches, as LLaVA-1.5 was trained, so that the number of processes changes nothing but rounding.
"""

import importlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, Dataset

from evals.context import BarFactory
from evals.device import autocast
from evals.errors import NumericsError, UnavailableError
from evals.vlm import log, state
from evals.vlm.optimisation import Optimisation, gradient_norm
from evals.vlm.state import Place

Accelerator = Any
"""That of accelerate, which carries no types, and is imported where a training begins."""
SAVE_SECONDS = 600.0
"""The most that a killed training computes again."""
_SHOWN = 5
"""Samples that an error names."""
B = TypeVar("B")


class Feed(ABC, Generic[B]):
    """The samples of a training. Everything about a step follows from its number alone."""

    @abstractmethod
    def plan(self, step: int) -> Sequence[Sequence[int]]:
        """The samples of every micro-batch of a step."""

    @abstractmethod
    def read(self, samples: Sequence[int]) -> B:
        """One micro-batch; called in any process."""

    @abstractmethod
    def name(self, sample: int) -> str:
        """What to call a sample in an error."""


@dataclass(frozen=True, slots=True)
class Job(Generic[B]):
    """One training."""

    title: str
    work: str
    """Everything that the result depends on."""
    objective: nn.Module
    """Called with `inputs`, it gives a scalar loss in fp32; what requires gradients learns, in fp32."""
    inputs: Callable[[B], tuple[Tensor, ...]]
    """A micro-batch -> what the objective takes, on its device."""
    tokens: Callable[[B], int]
    """Tokens that a micro-batch has, for the speed."""
    feed: Feed[B]
    optimisation: Optimisation
    dtype: str = "fp32"
    workers: int = 0
    save_seconds: float = SAVE_SECONDS


def accelerator(device: torch.device) -> Accelerator:
    """The processes of this training: those that `accelerate launch` or torchrun started, or this one alone.

    Arithmetic is the loop's matter, so it is left at fp32 here. Raises UnavailableError without the extra.
    """
    try:
        library: Any = importlib.import_module("accelerate")
    except ImportError as error:
        raise UnavailableError(
            "package", f"training a vision-language model needs accelerate: pip install 'eupe-eval[vlm]' ({error})"
        ) from error
    return library.Accelerator(mixed_precision="no", cpu=device.type == "cpu")


def train(
    job: Job[B],
    folder: Path,
    accelerator: Accelerator,
    bar: BarFactory,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train to the last step, or until `stop` says so after a step in any process; whether the end was reached.

    Goes on from the state in `folder`, on a CPU bit for bit as if nothing had happened; every step adds a line to its
    log: loss, rate, norm of the gradients before any clip, tokens/s. Every process calls it. Raises NumericsError for
    a loss or gradients that are not finite, before they reach a weight, ResultsError for a state of other work.
    """
    run = _Run(job, folder, accelerator)
    last = job.optimisation.steps
    try:
        with bar(job.title, last) as progress:
            progress.update(run.done)
            for batches in run.steps():
                stopped, due = run.step(batches, stop)
                if stopped or due or run.done == last:
                    run.save()
                progress.update(1)
                if stopped:
                    break
    finally:
        run.release()
    return run.done == last


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict on the CPU, also of a module that is sharded over processes; every process calls it."""

    def whole(value: Tensor) -> Tensor:
        return (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu()

    return {key: whole(value) for key, value in module.state_dict().items()}


class _Objective(nn.Module):
    """What accelerate wraps, so that it leaves no trace in the model: the objective under autocast."""

    def __init__(self, inner: nn.Module, device: torch.device, dtype: str) -> None:
        super().__init__()
        self.inner, self._device, self._dtype = inner, device, dtype
        self._no_split_modules = getattr(inner, "_no_split_modules", None)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The loss."""
        with autocast(self._device, self._dtype):
            loss: Tensor = self.inner(*inputs)
        return loss


@dataclass(frozen=True, slots=True)
class _Part:
    """One micro-batch of one process in one step."""

    samples: Sequence[int]
    weight: float
    """Of its loss, such that the mean over processes of what each adds up is the mean over micro-batches."""


class _Run:
    """A job on its way."""

    def __init__(self, job: Job[B], folder: Path, accelerator: Accelerator) -> None:
        self._job, self._folder, self._accelerator = job, folder, accelerator
        self._ranks, self._rank = accelerator.num_processes, accelerator.process_index
        sharded = bool(accelerator.is_fsdp2)
        if sharded and job.dtype == "bf16":
            # Blocks are gathered as autocast would round them; sums of gradients stay fp32.
            policy = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
            accelerator.state.fsdp_plugin.mixed_precision_policy = policy
        job.objective.train()
        outer = _Objective(job.objective, accelerator.device, job.dtype)
        learn = [parameter for parameter in outer.parameters() if parameter.requires_grad]
        self._optimiser = job.optimisation.build(learn)
        # What is prepared together is moved and sharded together; the optimiser itself needs no wrapper.
        self._wrapped, _ = accelerator.prepare(outer, self._optimiser)
        self._named = {name: one for name, one in job.objective.named_parameters() if one.requires_grad}
        self._sharded = sharded
        self._place = Place(folder / "state", job.work, self._rank, self._ranks if sharded else 1)
        found = state.latest(self._place)
        self.done = found[1] if found else 0
        if found:
            state.read(found[0], self._place, self._named, self._optimiser)
        if self._rank == 0:
            log.cut(folder, self.done)
        self._saved, self._ended = time.monotonic(), time.perf_counter()

    def steps(self) -> Iterator[list[tuple[_Part, Any]]]:
        """The micro-batches of this process, step by step, from the next one on."""
        plans = [self._deal(step) for step in range(self.done, self._job.optimisation.steps)]
        loader = DataLoader(
            _Read(self._job.feed, [part.samples for parts in plans for part in parts]),
            batch_size=None,
            num_workers=self._job.workers,
            generator=torch.Generator(),
        )
        batches = iter(loader)
        for parts in plans:
            yield [(part, next(batches)) for part in parts]

    def step(self, batches: Sequence[tuple[_Part, Any]], stop: Callable[[], bool]) -> tuple[bool, bool]:
        """Take a step; whether any process was asked to stop, and whether a save is due."""
        step, job = self.done, self._job
        loss, tokens = self._accumulate(batches)
        due = self._rank == 0 and time.monotonic() - self._saved >= job.save_seconds
        mean, read, stops, dues = self._agree(loss / self._ranks, tokens, stop(), due)
        self._must_be_finite(mean, "loss", batches)
        norm = gradient_norm(list(self._named.values()), job.optimisation.clip)
        self._must_be_finite(norm, "norm of the gradients", batches)
        rate = job.optimisation.at(step)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.done += 1
        if self._rank == 0:
            now = time.perf_counter()
            speed, self._ended = read / (now - self._ended), now
            log.append(
                self._folder, {"step": step, "loss": mean, "rate": rate, "norm": norm, "tokens/s": round(speed, 1)}
            )
        return stops > 0, dues > 0

    def save(self) -> None:
        """Keep the state; every process calls it."""
        if self._place.writes:
            aside = state.write(self._place, self.done, self._named, self._optimiser)
        self._accelerator.wait_for_everyone()
        if self._rank == 0:
            state.publish(self._place, self.done, aside)
        self._accelerator.wait_for_everyone()
        self._saved = time.monotonic()

    def release(self) -> None:
        """Let the processes go, and the memory of moments and gradients."""
        self._job.objective.eval()
        self._accelerator.free_memory()

    def _deal(self, step: int) -> list[_Part]:
        """The micro-batches of this process; where they do not come out even, it repeats one that counts nothing."""
        plan = self._job.feed.plan(step)
        places = range(self._rank, -(-len(plan) // self._ranks) * self._ranks, self._ranks)
        weight = self._ranks / len(plan)
        return [_Part(plan[place % len(plan)], weight if place < len(plan) else 0.0) for place in places]

    def _accumulate(self, batches: Sequence[tuple[_Part, Any]]) -> tuple[float, int]:
        """Gradients of a step; the weighted sum of the losses of this process, and its tokens."""
        total, tokens = torch.zeros((), device=self._accelerator.device), 0
        for part, batch in batches:
            # Copies exchange gradients once a step. Shards do at once: whole gradients would fill the memory.
            at_once = self._sharded or part is batches[-1][0]
            with nullcontext() if at_once else self._accelerator.no_sync(self._wrapped):
                loss = self._wrapped(*self._job.inputs(batch)) * part.weight
                self._accelerator.backward(loss)
            total += loss.detach()
            tokens += self._job.tokens(batch) if part.weight else 0
        return float(total), tokens

    def _agree(self, *numbers: float) -> list[float]:
        """Sums over the processes."""
        mine = torch.tensor(numbers, dtype=torch.float64, device=self._accelerator.device)
        sums: list[float] = self._accelerator.reduce(mine, reduction="sum").tolist()
        return sums

    def _must_be_finite(self, value: float, what: str, batches: Sequence[tuple[_Part, Any]]) -> None:
        if math.isfinite(value):
            return
        names = [self._job.feed.name(sample) for part, _ in batches for sample in part.samples]
        raise NumericsError(
            f"the {what} of {self._job.title} is {value} at step {self.done} (samples {', '.join(names[:_SHOWN])}"
            f"{', ...' if len(names) > _SHOWN else ''}). Check these samples, the weights that it started from, and "
            "the rate; the last state that was saved stays."
        )


class _Read(Dataset[Any]):
    """Micro-batches by their place in the training, for processes that read ahead."""

    def __init__(self, feed: Feed[Any], micro: Sequence[Sequence[int]]) -> None:
        self._feed, self._micro = feed, micro

    def __len__(self) -> int:
        return len(self._micro)

    def __getitem__(self, place: int) -> Any:
        return self._feed.read(self._micro[place])

"""From a step to the crops of this process: decoded, augmented with the sample's own generator, ready as uint8."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from eupe.augment import Augment
from eupe.data.base import Source, pixels
from eupe.sampling import StepSampler
from evals.device import torch_generator
from evals.errors import DataError

_AUGMENT = 11
"""Stream of draws of the augmentation."""
_LOOK_AHEAD = 16
"""Broken images in a row that are passed over."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops of one step."""

    images_B3SS: UInt8[Tensor, "B 3 S S"]
    broken: tuple[str, ...]
    """What could not be read, with the reason; the next image of its source took its place."""
    clean_B3SS: UInt8[Tensor, "B 3 S S"] | None = None
    """What teachers see in place of the crops, where that is something else."""

    def on(self, device: torch.device) -> tuple[Float[Tensor, "B 3 S S"], Float[Tensor, "B 3 S S"] | None]:
        """Both as RGB in [0, 1] on a device."""
        crops = self.images_B3SS.to(device, non_blocking=True).float() / 255
        clean = None if self.clean_B3SS is None else self.clean_B3SS.to(device, non_blocking=True).float() / 255
        return crops, clean


Sample = tuple[Tensor, Tensor | None, tuple[str, ...]]
"""Crop, what teachers see in its place, what was broken."""


class Crops(Dataset[Sample]):
    """Augmented crops by (source, item, position): the same for every number of workers and processes."""

    def __init__(self, sources: Sequence[Source], augment: Augment, side: int, seed: int) -> None:
        self._sources, self._augment, self._side, self._seed = sources, augment, side, seed

    def __getitem__(self, key: tuple[int, int, int]) -> Sample:
        which, item, position = key
        image, broken = _whole(self._sources[which], item)
        draws = torch_generator(self._seed, _AUGMENT, position)
        return *self._augment(image, self._side, draws), broken


def batches(crops: Crops, sampler: StepSampler, *, workers: int, pin: bool, prefetch: int = 4) -> Iterator[Batch]:
    """The batches of the sampler, in order."""
    loader: DataLoader[Sample] = DataLoader(
        crops,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin,
        prefetch_factor=prefetch if workers else None,
        persistent_workers=bool(workers),
        worker_init_fn=_one_thread if workers else None,
    )
    for images_B3SS, clean_B3SS, broken in loader:
        yield Batch(images_B3SS, broken, clean_B3SS)


def _whole(source: Source, item: int) -> tuple[Tensor, tuple[str, ...]]:
    """The image, or the next one that can be read. Raises DataError when none follows within sight."""
    broken: list[str] = []
    for ahead in range(_LOOK_AHEAD):
        try:
            return pixels(source, (item + ahead) % len(source)), tuple(broken)
        except DataError as error:
            broken.append(str(error))
    raise DataError(f"{_LOOK_AHEAD} images in a row cannot be read, the first: {broken[0]}")


def _collate(samples: Sequence[Sample]) -> Sample:
    images, clean, broken = zip(*samples, strict=True)
    taught = None if clean[0] is None else torch.stack(clean)
    return torch.stack(images), taught, tuple(line for lines in broken for line in lines)


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)

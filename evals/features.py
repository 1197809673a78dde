"""Features: extracted once, kept in a content-addressed cache, shared by every benchmark with the same geometry.

One pass over a set of images decodes each image once and runs one forward pass for each geometry that was announced.
Shards are written whole or not at all and carry their own digest, so a killed run goes on at the shard where it was
and a damaged shard counts as absent.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from evals.context import Context, batches
from evals.datasets.base import Images, read_rgb
from evals.device import autocast, versions
from evals.encoders.load import digest
from evals.errors import NumericsError, ResultsError, WeightsError
from evals.files import write_atomic
from evals.preprocess import Geometry, to_unit
from evals.record import safe_name
from evals.types import ConvEncoder, Encoder, Features

RECIPE = 2
"""Grows when this module or the preprocessing changes a feature."""
SHARD = 256
"""Images a shard: the most that a killed run computes again."""


@dataclass(frozen=True, slots=True)
class FeatureRequest:
    """The features of some images under a geometry: token maps if `patches`, else the global feature."""

    images: Images
    geometry: Geometry
    patches: bool = False
    grid: int | None = None
    """Cells along each side that a convolutional encoder brings its map to, before its final norm; others ignore it."""


class FeatureStore:
    """Features of one frozen encoder. Announce what will be needed, so that one pass serves it all."""

    def __init__(self, encoder: Encoder, context: Context, dtype: str = "fp32") -> None:
        self._encoder, self._context, self._dtype = encoder, context, dtype
        self._digest = digest(encoder)
        self._announced: list[FeatureRequest] = []

    def announce(self, requests: Sequence[FeatureRequest]) -> None:
        """Say what will be asked for later: the first request for a set of images extracts for all of them."""
        self._announced += [request for request in requests if request not in self._announced]

    def get(self, request: FeatureRequest) -> Float[Tensor, "N *rest"]:
        """Features in the order of the images, fp32 on the CPU: [N, D], or [N, H, W, D] for patches.

        Raises DataError for an image that cannot be read and NumericsError for features that are not finite.
        """
        self.announce([request])
        shards = self._shards(request)
        parts = [_read_shard(path, request) for path in shards]
        if any(part is None for part in parts):
            self._extract(request.images)
            parts = [
                _read_shard(path, request) if part is None else part for path, part in zip(shards, parts, strict=True)
            ]
        for path, part in zip(shards, parts, strict=True):
            if part is None:
                raise ResultsError(f"the feature cache lost {path} while it was in use. Run again.")
        return torch.cat([part for part in parts if part is not None])

    def folder(self, request: FeatureRequest) -> Path:
        """`features/<encoder>/<weights12>/<preprocess12>/<dataset12>`: everything that changes a feature is in it."""
        recipe = json.dumps(self.recipe(request), sort_keys=True)
        folder: Path = (
            self._context.cache
            / "features"
            / safe_name(self._encoder.card.name)
            / self._digest[:12]
            / hashlib.sha256(recipe.encode()).hexdigest()[:12]
            / request.images.fingerprint[:12]
        )
        return folder

    def recipe(self, request: FeatureRequest) -> dict[str, object]:
        """What the features depend on besides weights and images."""
        spec, device = self._encoder.spec, self._context.device.split(":")[0]
        return {
            "recipe": RECIPE,
            "geometry": request.geometry.describe(),
            "grid": request.grid if isinstance(self._encoder, ConvEncoder) else None,
            "shard": SHARD,
            "model": self._encoder.card.model,
            "patch": spec.patch,
            "spec": dict(self._encoder.card.spec),
            "structure": dict(self._encoder.card.structure),
            "adapter": self._encoder.card.source,
            "output": "patches" if request.patches else self._encoder.card.global_feature,
            "layer": "last",
            "dtype": self._dtype,
            "device": device,
            "versions": versions(),
        }

    def _shards(self, request: FeatureRequest) -> list[Path]:
        count = -(-len(request.images.paths) // SHARD)
        return [self.folder(request) / f"shard-{index:05d}.safetensors" for index in range(count)]

    def _extract(self, images: Images) -> None:
        """One pass over the images for every announced request that still lacks a shard."""
        requests = [request for request in self._announced if request.images == images]
        lacking = {
            (index, request): path
            for request in requests
            for index, path in enumerate(self._shards(request))
            if _read_shard(path, request) is None
        }
        indices = sorted({index for index, _ in lacking})
        for request in requests:
            manifest = json.dumps(self.recipe(request) | {"images": images.name}, indent=1, sort_keys=True)
            write_atomic(self.folder(request) / "manifest.json", manifest.encode())
        total = sum(min(SHARD, len(images.paths) - index * SHARD) for index in indices)
        with self._context.bar(f"{self._encoder.card.name}: {images.name}", total) as bar:
            geometries = list(dict.fromkeys(request.geometry for _, request in lacking))
            loaded = self._batches(images.paths, geometries, indices)
            for index in indices:
                wanted = [request for at, request in lacking if at == index]
                pixels = (dict(zip(geometries, batch, strict=True)) for batch in loaded)
                for request, tensor in self._shard(images, index, wanted, pixels, bar.update).items():
                    _write_shard(lacking[index, request], tensor)
        self._must_be_frozen(list(lacking.values()))

    def _must_be_frozen(self, written: Sequence[Path]) -> None:
        """Features of an encoder that changed meanwhile belong to no weights: forget them."""
        if digest(self._encoder) != self._digest:
            for path in written:
                path.unlink(missing_ok=True)
            raise WeightsError(
                f"{self._encoder.card.name} changed while its features were extracted: it is not frozen. The adapter "
                "must not write to parameters or buffers."
            )

    def _shard(
        self,
        images: Images,
        index: int,
        requests: Sequence[FeatureRequest],
        loaded: Iterator[dict[Geometry, Tensor]],
        advance: Callable[[int], object],
    ) -> dict[FeatureRequest, Tensor]:
        """Features of one shard, whose batches come next from `loaded`."""
        paths = images.paths[index * SHARD : (index + 1) * SHARD]
        passes = list(dict.fromkeys((request.geometry, request.grid) for request in requests))
        rows: dict[FeatureRequest, list[Tensor]] = {request: [] for request in requests}
        for batch in batches(len(paths), self._context.batch):
            pixels = next(loaded)
            for geometry, grid in passes:
                features = self._forward(pixels[geometry], grid)
                for request in requests:
                    if (request.geometry, request.grid) == (geometry, grid):
                        values = features.patches_BHWD if request.patches else features.pooled_BD
                        assert values is not None, "a benchmark that needs a global feature skips encoders without one"
                        rows[request].append(_finite(values.float().cpu(), self._encoder, paths[batch.start :]))
            advance(len(batch))
        return {request: torch.cat(parts) for request, parts in rows.items()}

    def _batches(
        self, paths: Sequence[Path], geometries: Sequence[Geometry], shards: Sequence[int]
    ) -> Iterator[list[Tensor]]:
        """Every batch of these shards in order; one set of processes decodes for the whole pass."""
        at_once = [
            [shard * SHARD + row for row in rows]
            for shard in shards
            for rows in batches(len(paths[shard * SHARD : (shard + 1) * SHARD]), self._context.batch)
        ]
        return iter(
            DataLoader(
                _Pixels(paths, geometries, self._encoder.spec.patch),
                batch_sampler=at_once,
                num_workers=min(self._context.workers, len(at_once)),
                pin_memory=self._context.device.startswith("cuda"),
            )
        )

    def _forward(self, pixels: UInt8[Tensor, "B 3 Y X"], grid: int | None) -> Features:
        device = torch.device(self._context.device)
        images = to_unit(pixels.to(device, non_blocking=True))
        with autocast(device, self._dtype):
            if grid is not None and isinstance(self._encoder, ConvEncoder):
                return self._encoder.on_grid(images, (grid, grid))
            features: Features = self._encoder(images)
        return features


class _Pixels(Dataset[list[Tensor]]):
    """Decodes each image once and applies every geometry to it."""

    def __init__(self, paths: Sequence[Path], geometries: Sequence[Geometry], patch: int) -> None:
        self._paths, self._geometries, self._patch = paths, geometries, patch

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> list[Tensor]:
        image = read_rgb(self._paths[index])
        return [geometry.apply(image, self._patch) for geometry in self._geometries]


def _finite(values: Tensor, encoder: Encoder, paths: Sequence[Path]) -> Tensor:
    bad = ~torch.isfinite(values.flatten(1)).all(1)
    if bad.any():
        path = paths[int(bad.nonzero()[0, 0])]
        raise NumericsError(
            f"{encoder.card.name} gives features that are not finite for {path}. Check the weights "
            "(a damaged file, fp16 values that overflowed), or run in fp32."
        )
    return values


def _write_shard(path: Path, values: Tensor) -> None:
    values = values.contiguous()
    write_atomic(path, save_safetensors({"features": values}, {"sha256": _checksum(values)}))


def _read_shard(path: Path, request: FeatureRequest) -> Tensor | None:
    """The shard, or None when it is absent, cut short, altered, or of other images."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        values = load_safetensors(path.read_bytes())["features"]
    except (OSError, SafetensorError, KeyError):
        return None
    whole = metadata.get("sha256") == _checksum(values)
    return values if whole and values.ndim == (4 if request.patches else 2) else None


def _checksum(values: Tensor) -> str:
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()

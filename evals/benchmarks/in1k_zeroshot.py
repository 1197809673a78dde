"""ImageNet-1k zero-shot: the class whose text vector is nearest to the image vector. For encoders with a text tower.

The numbers that arXiv 2603.22387 prints for its baselines are those of the 80-template ensemble, so that is the
headline; the literal sentence of section 8.1, bare class names, is the second metric.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from evals.benchmarks.base import Benchmark, Family, Job, Outcome, Work, take
from evals.context import Context, Roots, batches
from evals.datasets import imagenet
from evals.datasets.base import Split
from evals.datasets.imagenet import ClassificationSplit
from evals.errors import DataError, NumericsError, UnavailableError
from evals.files import DigestMemo, write_atomic
from evals.record import EncoderCard, Score, safe_name

if TYPE_CHECKING:
    from torch import Tensor

    from evals.features import FeatureRequest
    from evals.preprocess import Squash
    from evals.types import ImageSpec, TextAlignedEncoder

MODES = ("openai80", "class_name")
"""Prompts of a class: OpenAI's 80 templates around its name, or the name alone. The first is the headline."""
_TEMPLATES = 80
"""Prompts a class of the first mode."""
RECIPE = 1
"""Grows when this module changes a text vector."""
_AT_ONCE = 256
"""Prompts, or images, that are encoded at once."""
_IMAGENET = ("n01440764", "n15075141", 1000)
"""First class, last class and number of classes of ImageNet-1k in sorted order."""


@dataclass(frozen=True, kw_only=True)
class In1kZeroshot(Benchmark):
    """Top-1 by cosine with the normalised mean of the normalised prompt vectors of each class."""

    id: ClassVar[str] = "in1k-zeroshot"
    title: ClassVar[str] = "IN1k-ZS"
    family: ClassVar[Family] = "image"
    folder: ClassVar[str | None] = "imagenet"
    reads_text: ClassVar[bool] = True
    published: ClassVar[Mapping[str, int]] = imagenet.PUBLISHED
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}, "miniature": {"side": 128}}

    side: int = 224
    """Pixels of the square; both sides are resized at once with the encoder's own filter (paper: 224)."""

    def skip(self, card: EncoderCard) -> str | None:
        """`no txt` without a text tower."""
        return None if card.text else "no txt"

    def splits(self, roots: Roots, digests: DigestMemo) -> tuple[Split, ...]:
        """Validation."""
        return (take(imagenet.load(roots.of("imagenet"), "val", digests), self.limit),)

    def requests(self, spec: "ImageSpec", splits: Sequence[Split]) -> "tuple[FeatureRequest, ...]":
        """Global features."""
        from evals.features import FeatureRequest

        return (FeatureRequest(splits[0].images, self._geometry(spec)),)

    def work(self, spec: "ImageSpec", splits: Sequence[Split]) -> tuple[Work, ...]:
        """One pass over each image, and the prompts of both modes (as if none was kept from an earlier run)."""
        from evals.types import nearest_multiple

        side = nearest_multiple(self.side, spec.patch)
        classes = len(cast(ClassificationSplit, splits[0]).classes)
        return (Work(len(splits[0]), side, side, prompts=classes * (_TEMPLATES + 1)),)

    def run(self, job: Job) -> Outcome:
        """Classify in both prompt modes."""
        import numpy as np

        from evals.metrics.statistics import bootstrap_mean
        from evals.types import TextAlignedEncoder, nearest_multiple

        encoder = job.encoder
        assert isinstance(encoder, TextAlignedEncoder), "a card says text only for encoders with a text tower"
        split = cast(ClassificationSplit, job.splits[0])
        templates, listed = _open_clip_lists()
        names, source = class_names(split, listed)
        # Equal names share one column, so that their tie is exact and goes to the first of their classes.
        unique = tuple(dict.fromkeys(names))
        first_U = np.array([names.index(name) for name in unique])
        prompts = {
            "openai80": [[template.format(name) for template in templates] for name in unique],
            "class_name": [[name] for name in unique],
        }
        # Text first: a tower or a tokenizer that is not here is found before the images have gone through.
        text = {mode: text_vectors(encoder, prompts[mode], job.context, self.dtype) for mode in MODES}
        images_ND = _image_vectors(encoder, job.features.get(self.requests(encoder.spec, job.splits)[0]), self.dtype)
        metrics, samples = [], {"labels": split.labels_N}
        for mode, text_UD in text.items():
            predicted_N = samples[f"predictions[{mode}]"] = first_U[(images_ND @ text_UD.T).argmax(1).numpy()]
            hits_N = 100.0 * (predicted_N == split.labels_N)
            interval = bootstrap_mean(hits_N, seed=job.context.seed, cluster="image")
            name = "top1" if mode == MODES[0] else f"top1[{mode}]"
            metrics.append(Score(name, float(hits_N.mean()), "percent", True, mode == MODES[0], interval))
        return Outcome(
            metrics=tuple(metrics),
            samples=samples,
            notes={"names": source, "classes": len(names), "templates": len(templates), "mode": MODES[0]},
            preprocess={
                **self._geometry(encoder.spec).describe(),
                "side_used": nearest_multiple(self.side, encoder.spec.patch),
            },
        )

    def _geometry(self, spec: "ImageSpec") -> "Squash":
        from evals.preprocess import Squash

        return Squash(self.side, spec.interpolation, spec.antialias)


def _open_clip_lists() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """OpenAI's 80 templates with `{}` for the name, and the 1,000 cleaned class names, as open_clip ships them."""
    try:
        from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
    except ImportError as error:
        raise UnavailableError(
            "package",
            f"in1k-zeroshot takes templates and class names from open_clip ({error}): pip install 'eupe-eval[text]'",
        ) from error
    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES), tuple(IMAGENET_CLASSNAMES)


def class_names(split: ClassificationSplit, listed: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """A name for each class and where it is from: `open_clip` or `labels.txt`.

    ImageNet-1k always takes open_clip's list, which every published number uses, whatever a labels.txt says.
    Raises DataError where neither names the classes.
    """
    if (split.classes[0], split.classes[-1], len(split.classes)) == _IMAGENET:
        return tuple(listed), "open_clip"
    if split.names is None:
        raise DataError(
            f"{split.dataset} has {len(split.classes)} classes ({split.classes[0]} to {split.classes[-1]}), which are "
            "not the 1,000 of ImageNet-1k, and no names: add labels.txt beside the folders train and val, one line "
            "`folder,name` a class."
        )
    return split.names, "labels.txt"


def _image_vectors(encoder: "TextAlignedEncoder", pooled_ND: "Tensor", dtype: str) -> "Tensor":
    """Unit vectors [N, D] in the text space, fp32 on the CPU."""
    import torch
    from torch.nn import functional

    from evals.device import autocast
    from evals.types import Features

    device, parts = next(encoder.buffers()).device, []
    for rows in batches(len(pooled_ND), _AT_ONCE):
        pooled = pooled_ND[rows.start : rows.stop].to(device)
        no_patches = pooled.new_empty(len(pooled), 0, 0, encoder.dim)
        with torch.no_grad(), autocast(device, dtype):
            vectors = encoder.encode_image(Features(pooled, no_patches))
        parts.append(functional.normalize(vectors.float(), dim=1).cpu())
    return torch.cat(parts)


def text_vectors(
    encoder: "TextAlignedEncoder", prompts: Sequence[Sequence[str]], context: Context, dtype: str
) -> "Tensor":
    """One unit vector a class [C, D]: prompts normalised, averaged, normalised; fp32 on the CPU, kept in the cache.

    Every class has the same number of prompts. Raises NumericsError for vectors that are not finite.
    """
    path = context.cache / "text" / safe_name(encoder.card.name) / f"{_key(encoder, prompts, dtype)}.safetensors"
    known = _read(path, len(prompts))
    if known is not None:
        return known
    text_CD = _encode_text(encoder, prompts, context, dtype)
    if not text_CD.isfinite().all():
        raise NumericsError(f"{encoder.card.name} gives text vectors that are not finite. Check the weights.")
    _write(path, text_CD)
    return text_CD


def _encode_text(
    encoder: "TextAlignedEncoder", prompts: Sequence[Sequence[str]], context: Context, dtype: str
) -> "Tensor":
    import torch
    from torch.nn import functional

    from evals.device import autocast

    device = next(encoder.buffers()).device
    each, texts = len(prompts[0]), [prompt for group in prompts for prompt in group]
    sums: Tensor | None = None
    with context.bar(f"{encoder.card.name}: {each} prompts a class", len(texts)) as bar:
        for rows in batches(len(texts), _AT_ONCE):
            with torch.no_grad(), autocast(device, dtype):
                vectors = encoder.encode_text(texts[rows.start : rows.stop])
            unit = functional.normalize(vectors.double().cpu(), dim=1)
            if sums is None:
                sums = unit.new_zeros(len(prompts), unit.shape[1])
            sums.index_add_(0, torch.arange(rows.start, rows.stop) // each, unit)
            bar.update(len(rows))
    assert sums is not None, "a split has at least one class"
    return functional.normalize(sums, dim=1).float()


def _key(encoder: "TextAlignedEncoder", prompts: Sequence[Sequence[str]], dtype: str) -> str:
    """Digest of everything that changes a text vector."""
    from evals.device import versions
    from evals.encoders.load import digest

    recipe = {
        "recipe": RECIPE,
        "weights": digest(encoder),
        "adapter": encoder.card.source,
        "model": encoder.card.model,
        # The tower may be another encoder's; the digest of the weights knows nothing of tokenizers.
        "text": dict(encoder.card.text_side),
        "dtype": dtype,
        "device": next(encoder.buffers()).device.type,
        "versions": {**versions(), "open_clip_torch": importlib.metadata.version("open_clip_torch")},
        "prompts": prompts,
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:24]


def _write(path: Path, text_CD: "Tensor") -> None:
    from safetensors.torch import save

    write_atomic(path, save({"text": text_CD}, {"sha256": _checksum(text_CD)}))


def _read(path: Path, classes: int) -> "Tensor | None":
    """The kept vectors, or None when they are absent, cut short or altered."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            text_CD: Tensor = file.get_tensor("text")
            stated = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    return text_CD if len(text_CD) == classes and stated == _checksum(text_CD) else None


def _checksum(text_CD: "Tensor") -> str:
    return hashlib.sha256(text_CD.numpy().tobytes()).hexdigest()

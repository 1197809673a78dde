"""Frozen encoders as teachers: which of their outputs are targets, and proof that nothing trains them.

Any encoder of the suite can teach. Each normalises its own images (PE and DINOv3 want different ones); the trainer
hands over RGB in [0, 1].
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eupe.students import Target
from evals.device import autocast
from evals.errors import UsageError
from evals.types import Ask, Encoder, Features, TextAlignedEncoder

_SAME = 0.99
"""Least cosine of one vector computed twice, in bf16."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a teacher says of a batch."""

    cls_BD: Float[Tensor, "B D"] | None
    patches_BHWD: Float[Tensor, "B H W D"]


class Teacher:
    """An encoder and how it teaches."""

    def __init__(self, name: str, encoder: Encoder, *, cls: str = "global", side: int, dtype: str = "bf16") -> None:
        """`cls`: `global` (the documented global feature), `none`, `mean` (of the patches), or a named alternative.

        Raises UsageError for an encoder that is not frozen or has no such feature.
        """
        trained = [key for key, parameter in encoder.named_parameters() if parameter.requires_grad]
        if trained or any(module.training for module in encoder.modules()):
            raise UsageError(
                f"teacher {name} is not frozen: "
                + (f"{trained[0]} and {len(trained) - 1} more want gradients." if trained else "it is in train mode.")
            )
        known = ["none", "mean", *(["global"] if encoder.card.global_feature != "none" else [])]
        if cls not in (*known, *encoder.structure.alternatives):
            raise UsageError(
                f"teacher {name} has no class feature {cls!r}; it has: "
                f"{', '.join([*known, *encoder.structure.alternatives])}."
            )
        self.name, self.side, self.cls = name, side, cls
        self._encoder, self._dtype = encoder, dtype
        self._seen: set[torch.Size] = set()
        self._target: Target | None = None

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder."""
        return self._encoder

    @torch.no_grad()
    def __call__(self, images_B3YX: Float[Tensor, "B 3 Y X"]) -> Lesson:
        """Targets of RGB images in [0, 1], not yet standardised, in fp32.

        `no_grad` rather than `inference_mode`: tensors of the latter cannot be saved for a backward pass.
        """
        with autocast(images_B3YX.device, self._dtype):
            features = self._features(images_B3YX)
        patches_BHWD = features.patches_BHWD.float()
        if self.cls == "none":
            return Lesson(None, patches_BHWD)
        if self.cls == "mean":
            return Lesson(patches_BHWD.mean((1, 2)), patches_BHWD)
        return Lesson(self._named(features), patches_BHWD)

    def _features(self, images_B3YX: Tensor) -> Features:
        """As the encoder gives them; its checks of range and size wait for the device, so each shape has them once."""
        if images_B3YX.shape in self._seen:
            return self._encoder.encode((images_B3YX - self._encoder.mean) / self._encoder.std, Ask())
        self._seen.add(images_B3YX.shape)
        found: Features = self._encoder(images_B3YX)
        return found

    def _named(self, features: Features) -> Float[Tensor, "B D"]:
        cls_BD = features.pooled_BD if self.cls == "global" else features.others[self.cls]
        assert cls_BD is not None, "a feature that the encoder is known to have"
        return cls_BD.float()

    def _small(self) -> Float[Tensor, "1 3 S S"]:
        side = self._encoder.spec.patch * 2
        device = next((p.device for p in self._encoder.parameters()), torch.device("cpu"))
        return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)

    @torch.no_grad()
    def meets_text(self) -> bool:
        """Whether its class target is, but for the length, what the encoder compares with text; by one small image.

        Not so the global feature of PE or CLIP, which a projection follows: there it is `projected`.
        """
        if self.cls in ("none", "mean") or not isinstance(self._encoder, TextAlignedEncoder):
            return False
        images = self._small()
        with autocast(images.device, self._dtype):
            features = self._features(images)
            vectors_BD = self._encoder.encode_image(features).float()
        target_BD = self._named(features)
        if target_BD.shape != vectors_BD.shape:
            return False
        return bool(torch.nn.functional.cosine_similarity(target_BD, vectors_BD) > _SAME)

    def target(self) -> Target:
        """Widths of its outputs, found with one small image."""
        if self._target is None:
            lesson = self(self._small())
            cls_dim = None if lesson.cls_BD is None else lesson.cls_BD.shape[1]
            self._target = Target(cls_dim, lesson.patches_BHWD.shape[-1])
        return self._target

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
from evals.types import Encoder


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
        self.name, self.side, self._encoder, self._cls, self._dtype = name, side, encoder, cls, dtype

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
            features = self._encoder(images_B3YX)
        patches_BHWD = features.patches_BHWD.float()
        if self._cls == "none":
            return Lesson(None, patches_BHWD)
        if self._cls == "mean":
            return Lesson(patches_BHWD.mean((1, 2)), patches_BHWD)
        cls_BD = features.pooled_BD if self._cls == "global" else features.others[self._cls]
        assert cls_BD is not None
        return Lesson(cls_BD.float(), patches_BHWD)

    def target(self) -> Target:
        """Widths of its outputs, found with one small image."""
        side = self._encoder.spec.patch * 2
        device = next((p.device for p in self._encoder.parameters()), torch.device("cpu"))
        lesson = self(torch.zeros(1, 3, side, side, device=device))
        cls_dim = None if lesson.cls_BD is None else lesson.cls_BD.shape[1]
        return Target(cls_dim, lesson.patches_BHWD.shape[-1])

"""What the training of a vision-language model is: frozen dataclasses whose defaults are LLaVA-1.5 as published.

The published values stand in LLaVA's `scripts/v1_5/pretrain.sh` and `finetune.sh` and in what these leave to
transformers 4.37 and DeepSpeed 0.12; `configs/vlm/<name>.yaml` says only what departs from them. Imports no torch.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from evals.constants import describe, fits
from evals.encoders.entry import config_folder
from evals.errors import UsageError, unknown
from evals.vlm.conversation import Template

Padding = Literal["crop", "pad"]
Layer = Literal["final", -2]
FOLDER = "vlm"
"""Of `configs`, where the recipes are."""
EMBEDDED = "miniature"
"""`Recipe.language` that means the embedded world's own."""
MANIFEST = "vlm.json"
"""Of a model on disk: what it was trained from, and how."""
_MAY_BE_ZERO = ("weight_decay", "warmup", "seed")


@dataclass(frozen=True, slots=True)
class StageRecipe:
    """One stage. Steps and warm-up follow from the number of samples."""

    rate: float
    """Peak of the learning rate, for every weight that is trained."""
    batch: int
    """Samples a step, over all processes and micro-batches."""
    micro: int
    """Samples whose losses are averaged over their supervised tokens together; a step is the mean of these means."""
    template: Template
    """How turns become text."""
    padding: Padding
    """`crop`: short side and centre crop; `pad`: on a square of the encoder's mean colour (`image_aspect_ratio`)."""
    trained: Literal["projector", "all"]
    """`all`: the projector and every weight of the language model, embeddings and head too."""
    grouped: bool
    """Batches of one modality and like lengths (`group_by_modality_length`)."""
    epochs: int = 1
    warmup: float = 0.03
    """Share of the steps, rounded up, in which the rate grows from 0; then a cosine to 0 (`warmup_ratio`)."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float | None = None
    """Largest norm of the gradients. The published runs had none: transformers' 1.0 never reached DeepSpeed."""
    max_length: int = 2048
    """Tokens of a sample, visual tokens included (`model_max_length`)."""
    seed: int = 42
    """Of the order of the samples (transformers' default)."""
    recompute: bool = True
    """Blocks of the language model are computed again in the backward pass (`gradient_checkpointing`)."""

    def __post_init__(self) -> None:
        if self.batch % self.micro:
            raise UsageError(f"a batch of {self.batch} does not divide into micro-batches of {self.micro}.")
        if max(self.betas) >= 1:
            raise UsageError(f"betas must be below 1, such as [0.9, 0.999]; got {list(self.betas)}.")
        if self.warmup > 1:
            raise UsageError(f"warmup is a share of the steps, 0 to 1; got {self.warmup}.")

    def steps(self, samples: int) -> int:
        """Steps on that many samples: 2181 for the 558,128 of alignment, 5198 for the 665,298 of instruction."""
        return math.ceil(samples / self.batch) * self.epochs

    def warmup_steps(self, samples: int) -> int:
        """Steps until the peak: 66 and 156 of those."""
        return math.ceil(self.steps(samples) * self.warmup)


ALIGNMENT = StageRecipe(
    rate=1e-3, batch=256, micro=32, template="plain", padding="crop", trained="projector", grouped=False
)
"""The published first stage: captions, 8 processes of 32."""
INSTRUCTION = StageRecipe(rate=2e-5, batch=128, micro=16, template="v1", padding="pad", trained="all", grouped=True)
"""The published second stage: conversations, 8 processes of 16."""


@dataclass(frozen=True, slots=True)
class View:
    """How an encoder sees the pictures of a recipe."""

    side: int
    """Pixels of the square."""
    grid: int
    """Visual tokens along each axis."""
    rule: Literal["named", "grid", "nearest"]
    """`named`: the recipe names the side for this patch; `grid`: the last map is brought to the recipe's grid
    (convolutional); `nearest`: the side is the multiple of the patch nearest to that of patch 16."""

    @property
    def tokens(self) -> int:
        """Visual tokens of a picture."""
        return self.grid**2


@dataclass(frozen=True, slots=True)
class SideRule:
    """Which side and how many tokens an encoder gets. Defaults: EUPE paper, section 4 (576 tokens for both patches)."""

    side: int = 384
    """Pixels for patch 16, and what every other patch but 14 comes nearest to."""
    side_14: int = 336
    """Pixels for patch 14."""
    grid: int = 24
    """Tokens along each axis of a convolutional encoder, whose stride of 32 gives 12 (the grid of patch 16)."""

    def view(self, patch: int, *, convolutional: bool) -> View:
        """The view of an encoder with this patch (stride)."""
        from evals.types import nearest_multiple

        if convolutional:
            return View(nearest_multiple(self.side, patch), self.grid, "grid")
        wanted = self.side_14 if patch == 14 else self.side
        side = nearest_multiple(wanted, patch)
        return View(side, side // patch, "named" if patch in (14, 16) and side == wanted else "nearest")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Both stages, and what they share."""

    name: str
    """Of the protocol that results are filed under."""
    alignment: StageRecipe = ALIGNMENT
    instruction: StageRecipe | None = INSTRUCTION
    """None: the model is done after the first stage."""
    language: str = "lmsys/vicuna-7b-v1.5"
    """A causal language model: a folder or a name of the hub, from which each stage starts afresh; `miniature`: the
    embedded world's own."""
    pad_token: str | None = "<unk>"  # noqa: S105
    """Token that fills short rows, as LLaVA names it for Vicuna, which has none; None: the tokenizer's own."""
    sides: SideRule = SideRule()
    layer: Layer = "final"
    """Patch tokens after the final norm, as the EUPE paper says of its other probes; -2: what the block before the last
    puts out, before any norm (LLaVA's `mm_vision_select_layer`)."""
    dtype: Literal["fp32", "bf16"] = "bf16"
    """Of the arithmetic; master weights and moments are fp32."""
    on_missing: Literal["stop", "skip"] = "stop"
    """`skip`: records whose pictures are missing or unreadable are left out, counted, and their ids kept."""

    @property
    def stages(self) -> tuple[tuple[Literal["alignment", "instruction"], StageRecipe], ...]:
        """The stages in order."""
        if self.instruction is None:
            return (("alignment", self.alignment),)
        return ("alignment", self.alignment), ("instruction", self.instruction)

    def describe(self) -> dict[str, Any]:
        """Plain values, for records and fingerprints."""
        return dataclasses.asdict(self)


def names() -> list[str]:
    """Recipes that come with the project."""
    return sorted(path.stem for path in (config_folder() / FOLDER).glob("*.yaml"))


def find(name: str) -> Recipe:
    """A recipe by its name, or by the path of a YAML file. Raises UsageError naming the file and the key."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
    elif name in names():
        path = config_folder() / FOLDER / f"{name}.yaml"
    else:
        raise unknown("recipe of a vision-language model", name, names())
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{path} must hold `key: value` lines, the first `name: ...`.")
    return read_recipe(raw, str(path))


def read_recipe(raw: Mapping[str, object], where: str) -> Recipe:
    """The recipe of a mapping, published where it says nothing. Raises UsageError naming `where` and the key."""
    if "name" not in raw:
        raise UsageError(f"{where} lacks name, under which its results are filed.")
    recipe: Recipe = _changed(Recipe(name=""), raw, where)
    return recipe


def _changed(standard: Any, raw: Mapping[str, object], where: str) -> Any:
    """A dataclass with the values of a mapping in place of its own."""
    kinds = {item.name: item.type for item in dataclasses.fields(standard)}
    for key in raw:
        if key not in kinds:
            raise unknown(f"key of {where}", str(key), list(kinds))
    changes = {
        key: _value(kinds[key], getattr(standard, key), item, key, f"{where}: {key}") for key, item in raw.items()
    }
    try:
        return dataclasses.replace(standard, **changes)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _value(kind: Any, standard: object, raw: object, key: str, where: str) -> object:
    if dataclasses.is_dataclass(standard) and (raw is not None or not fits(kind, None, zero=False)):
        if not isinstance(raw, Mapping):
            raise UsageError(f"{where} must hold `key: value` lines; got {raw!r}.")
        return _changed(standard, raw, where)
    if kind in (str, str | None):
        if raw != "" and isinstance(raw, kind):
            return raw
        raise UsageError(f"{where} must be a name; got {raw!r}.")
    zero = key in _MAY_BE_ZERO
    value = tuple(raw) if isinstance(raw, list) else raw
    if isinstance(value, tuple) and get_origin(kind) is tuple and len(value) != len(get_args(kind)):
        raise UsageError(f"{where} must be a list of {len(get_args(kind))}; got {raw!r}.")
    if fits(kind, value, zero=zero):
        # So that 1 and 1.0 give one fingerprint.
        return float(value) if kind in (float, float | None) and isinstance(value, int) else value
    hint = " YAML takes 1e-3 for text: write 1.0e-3." if isinstance(raw, str) and "e" in raw.lower() else ""
    raise UsageError(f"{where} must be {describe(kind, zero=zero)}; got {raw!r}.{hint}")

"""Files of open_clip: which of their tensors goes where in an image tower of timm and a text tower of open_clip."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from evals.encoders.entry import EncoderEntry
from evals.encoders.locate import weights_file
from evals.encoders.weights import load_strict, read_tensors

_UNUSED = ("logit_scale", "logit_bias")
"""They scale and shift every similarity alike, so that no ranking depends on them."""
_RENAMED = (
    ("conv1.", "patch_embed.proj."),
    ("ln_pre.", "norm_pre."),
    ("ln_post.", "norm."),
    ("transformer.resblocks.", "blocks."),
    (".ln_1.", ".norm1."),
    (".ln_2.", ".norm2."),
    (".attn.in_proj_", ".attn.qkv."),
    (".attn.out_proj.", ".attn.proj."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
)
"""Parts of names: open_clip's own VisionTransformer, then timm's."""


def fill(towers: Mapping[str, nn.Module], entry: EncoderEntry, *, ignore: Sequence[str] = ()) -> None:
    """Put the weights of an entry into its towers: `text`, and `visual` with a `trunk`. Random ones stay as they are.

    Raises WeightsError for anything that is missing, left over beyond `ignore`, or of another shape.
    """
    path = weights_file(entry)
    if path is not None:
        what = f"{path} (its image tower under timm's names)"
        tensors = read_tensors(path, (*entry.ignore, *ignore, *_UNUSED))
        load_strict(nn.ModuleDict(towers), arrange(tensors), what=what)


def arrange(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors under `visual.trunk.` with timm's names, and under `text.`.

    Files of open_clip's older layout have its own VisionTransformer under `visual.`, and text under no common name.
    """
    told = {key if key.startswith(("visual.", "text.")) else f"text.{key}": value for key, value in tensors.items()}
    if "visual.class_embedding" not in told:
        return told
    return dict(_under_timm(key, value) if key.startswith("visual.") else (key, value) for key, value in told.items())


def _under_timm(key: str, tensor: Tensor) -> tuple[str, Tensor]:
    name = key.removeprefix("visual.")
    match name:
        case "class_embedding":
            name, tensor = "cls_token", tensor[None, None]
        case "positional_embedding":
            name, tensor = "pos_embed", tensor[None]
        case "proj":
            name, tensor = "head.weight", tensor.T
    for theirs, timms in _RENAMED:
        name = name.replace(theirs, timms)
    return f"visual.trunk.{name}", tensor

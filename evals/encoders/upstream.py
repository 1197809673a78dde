"""What timm's configurations do not tell, or tell otherwise than upstream: from our families, by the names of models.

Nothing here imports torch.
"""

import re
from collections.abc import Mapping
from typing import Any

from evals.encoders.entry import KEYS, config_folder, read_values, read_yaml

_TOKENS = ("global_feature", "prefix", "norm")
_IMAGES = ("interpolation", "resize", "positions")
_FAMILIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (r"vit_\w+_dinov3(_qkvb)?\.(lvd1689m|sat493m)", "dinov3-vit", ("rope_periods",)),
    (r"vit_\w+_patch14_dinov2(\..*)?", "dinov2", _IMAGES),
    (r"vit_pe_core_.*", "pe-core", _IMAGES),
    (r"vit_pe_lang_.*", "pe-lang", _IMAGES),
    (r"vit_pe_spatial_.*", "pe-spatial", _IMAGES),
    (r"aimv2_.*", "aimv2", _TOKENS),
    (r"vit_\w+_tipsv2(\..*)?", "tipsv2", (*_TOKENS, *_IMAGES)),
    (r"(naflex)?vit_\w+_radio_v3(\..*)?", "c-radiov3", _TOKENS),
    (r"(naflex)?vit_\w+_radio_v4(\..*)?", "c-radiov4", _TOKENS),
)
"""Names of models, the family that knows better, and which of its keys hold for all of them."""


def told(model: str) -> Mapping[str, Any]:
    """Fields of an entry that the family of a timm model settles; none for any other."""
    for pattern, family, keys in _FAMILIES:
        if re.fullmatch(pattern, model):
            path = config_folder() / "family" / f"{family}.yaml"
            values = {key: value for key, value in read_yaml(path).items() if key in keys}
            return read_values(f"family {family!r}", values, KEYS)
    return {}

"""The vision towers of transformers, filled with the weights of a timm model: the same architecture, written twice.

Sizes are read off the timm model; everything else (epsilons, activations, rotary base, padding) is what the
configuration classes of transformers say, so that the two implementations meet in nothing but their weights.
"""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.golden.named import weightless
from tests.parity.comparing import NORMALISE
from tests.parity.hf_names import AIMV2, CLIP, DINOV2, DINOV3_CONVNEXT, DINOV3_VIT, RADIO, SIGLIP, Tensors, renamed


def filled(make: Callable[[], nn.Module], tensors: Tensors) -> Any:
    """A model of transformers with these tensors; every one must fit, and none but unused ones may be missing."""
    with weightless():
        twin = make()
    own = twin.state_dict()
    fitting = {key: tensor.reshape(own[key].shape) if key in own else tensor for key, tensor in tensors.items()}
    missing, unexpected = twin.load_state_dict(fitting, strict=False, assign=True)
    assert not unexpected, unexpected
    assert all(_UNUSED.search(key) for key in missing), missing
    return twin.requires_grad_(False).eval()


def dinov3_vit(model: Any) -> Any:
    """`DINOv3ViTModel` from timm's Eva."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    tensors = model.state_dict()
    config = DINOv3ViTConfig(
        **_sizes(model),
        **dict.fromkeys(("query_bias", "value_bias"), "blocks.0.attn.q_bias" in tensors),
        num_register_tokens=model.reg_token.shape[1],
        use_gated_mlp="blocks.0.mlp.fc1_g.weight" in tensors,
        hidden_act="silu" if "blocks.0.mlp.fc1_g.weight" in tensors else "gelu",
    )
    return filled(lambda: DINOv3ViTModel(config), renamed(tensors, DINOV3_VIT))


def dinov3_convnext(model: Any) -> Any:
    """`DINOv3ConvNextModel` from timm's ConvNeXt."""
    from transformers import DINOv3ConvNextConfig, DINOv3ConvNextModel

    blocks = [stage.blocks for stage in model.stages]
    widths, depths = [row[0].conv_dw.in_channels for row in blocks], [len(row) for row in blocks]
    config = DINOv3ConvNextConfig(hidden_sizes=widths, depths=depths)
    return filled(lambda: DINOv3ConvNextModel(config), renamed(model.state_dict(), DINOV3_CONVNEXT))


def dinov2(model: Any) -> Any:
    """`Dinov2Model`, or `Dinov2WithRegistersModel`, from timm's VisionTransformer."""
    from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    sizes = _sizes(model, ratio=True)
    if model.reg_token is None:
        return filled(lambda: Dinov2Model(Dinov2Config(**sizes)), renamed(model.state_dict(), DINOV2))
    sizes["num_register_tokens"] = model.reg_token.shape[1]
    return filled(
        lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes)),
        renamed(_with_class_position(model), DINOV2),
    )


def tipsv2(model: Any) -> Any:
    """`Tipsv2VisionModel` from timm's VisionTransformer; its second class token is a register there."""
    from transformers import Tipsv2VisionConfig, Tipsv2VisionModel

    config = Tipsv2VisionConfig(**_sizes(model, ratio=True))
    return filled(lambda: Tipsv2VisionModel(config), renamed(_with_class_position(model), DINOV2))


def siglip(model: Any) -> Any:
    """`SiglipVisionModel` from timm's VisionTransformer with an attention pool."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    tensors = dict(model.state_dict())
    for kind in ("weight", "bias"):
        parts = (tensors.pop(f"attn_pool.q.{kind}"), tensors.pop(f"attn_pool.kv.{kind}"))
        tensors[f"attn_pool.qkv.{kind}"] = torch.cat(parts)
    return filled(lambda: SiglipVisionModel(SiglipVisionConfig(**_sizes(model))), renamed(tensors, SIGLIP))


def clip(model: Any) -> Any:
    """`CLIPVisionModel` from timm's VisionTransformer with OpenAI's approximate GELU."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(**_sizes(model))
    tensors = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("head.")}
    return filled(lambda: CLIPVisionModel(config), renamed(tensors, CLIP))


def aimv2(model: Any) -> Any:
    """`Aimv2VisionModel` without its optional head, from timm's VisionTransformer."""
    from transformers import Aimv2VisionConfig, Aimv2VisionModel

    config = Aimv2VisionConfig(**_sizes(model), use_head=False)
    return filled(lambda: Aimv2VisionModel(config), renamed(model.state_dict(), AIMV2))


def radio(model: Any, *, classes: int, summary: list[int]) -> Any:
    """`RadioModel` from timm's NaFlexVit, of whose prefix tokens the first are class tokens.

    The bias of timm's patch projection must be zero, for the original has none; layer scales are taken over.
    """
    from transformers import RadioConfig, RadioModel

    tensors = dict(model.state_dict())
    prefix = torch.cat([tensors.pop("embeds.cls_token"), tensors.pop("embeds.reg_token")], dim=1)
    assert not tensors.pop("embeds.proj.bias").any()
    projection = tensors["embeds.proj.weight"]
    width, side = len(projection), round((projection.shape[1] / 3) ** 0.5)
    tensors["embeds.proj.weight"] = projection.view(width, side, side, 3).permute(0, 3, 1, 2).flatten(1)
    config = RadioConfig(
        hidden_size=width,
        num_hidden_layers=len(model.blocks),
        num_attention_heads=model.blocks[0].attn.num_heads,
        mlp_ratio=model.blocks[0].mlp.fc2.in_features / width,
        patch_size=side,
        num_cls_tokens=classes,
        num_registers=prefix.shape[1] - classes,
        summary_idxs=summary,
    )
    tensors["embeds.tokens"] = prefix
    mean, std = (torch.tensor(numbers) for numbers in NORMALISE["clip"])
    fixed = {"input_conditioner.norm_mean": mean, "input_conditioner.norm_std": std}
    fixed["summary_idxs"] = torch.tensor(summary)
    scales = {} if "blocks.0.ls1.gamma" in tensors else _unit_scales(len(model.blocks), width)
    return filled(lambda: RadioModel(config), {**renamed(tensors, RADIO), **fixed, **scales})


def radio_again(model: Any) -> Any:
    """A whole `RadioModel` with the weights of one of which an adapter has taken out what it does itself."""
    from transformers import RadioModel

    config = model.config
    fixed = {"summary_idxs": torch.tensor(config.summary_idxs)}
    fixed |= {f"input_conditioner.{key}": torch.tensor(getattr(config, key)) for key in ("norm_mean", "norm_std")}
    scales = _unit_scales(config.num_hidden_layers, config.hidden_size)
    return filled(lambda: RadioModel(config), {**model.state_dict(), **fixed, **scales})


def _with_class_position(model: Any) -> dict[str, Tensor]:
    """The tensors with a position of zero for the class token, which timm adds to the token itself."""
    tensors = dict(model.state_dict())
    tensors["pos_embed"] = torch.cat([torch.zeros(1, 1, model.embed_dim), tensors["pos_embed"]], dim=1)
    return tensors


def _unit_scales(depth: int, width: int) -> dict[str, Tensor]:
    names = (f"encoder.layer.{i}.layer_scale{k}.lambda1" for i in range(depth) for k in (1, 2))
    return {name: torch.ones(width) for name in names}


_UNUSED = re.compile(r"mask_token$")
"""Parameters of transformers that no pass of a frozen encoder reads."""


def _sizes(model: Any, *, ratio: bool = False) -> dict[str, Any]:
    """What the configurations of transformers call the sizes of a model."""
    block, patch = model.blocks[0], model.patch_embed.patch_size[0]
    hidden, width = block.mlp.fc2.in_features, model.embed_dim
    return {
        "hidden_size": width,
        **({"mlp_ratio": hidden // width} if ratio else {"intermediate_size": hidden}),
        "num_hidden_layers": len(model.blocks),
        "num_attention_heads": block.attn.num_heads,
        "patch_size": patch,
        **({} if model.pos_embed is None else {"image_size": patch * model.patch_embed.grid_size[0]}),
    }

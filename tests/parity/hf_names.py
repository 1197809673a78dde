"""Names of parameters in timm's models and in the same models of transformers."""

import re
from collections.abc import Mapping

from torch import Tensor

Tensors = Mapping[str, Tensor]

_BLOCK = """
blocks.#.norm1      {block}.#.{norm1}
blocks.#.attn.q     {block}.#.{attention}.q_proj
blocks.#.attn.k     {block}.#.{attention}.k_proj
blocks.#.attn.v     {block}.#.{attention}.v_proj
blocks.#.attn.proj  {block}.#.{attention}.{out}
blocks.#.norm2      {block}.#.{norm2}
"""
_DINO = {"norm1": "norm1", "norm2": "norm2", "attention": "attention", "out": "o_proj"}
_CLIP = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attention": "self_attn", "out": "out_proj"}
_AIM = {"norm1": "rms_norm1", "norm2": "rms_norm2", "attention": "attention", "out": "out_proj"}

DINOV3_VIT = (
    _BLOCK.format(block="model.layer", **_DINO)
    + """
cls_token            embeddings.cls_token
reg_token            embeddings.register_tokens
patch_embed.proj     embeddings.patch_embeddings
norm                 norm
blocks.#.gamma_1     model.layer.#.layer_scale1.lambda1
blocks.#.gamma_2     model.layer.#.layer_scale2.lambda1
blocks.#.mlp.fc1     model.layer.#.mlp.up_proj
blocks.#.mlp.fc1_g   model.layer.#.mlp.gate_proj
blocks.#.mlp.fc1_x   model.layer.#.mlp.up_proj
blocks.#.mlp.fc2     model.layer.#.mlp.down_proj
"""
)
DINOV3_CONVNEXT = """
stem.0                        model.stages.0.downsample_layers.0
stem.1                        model.stages.0.downsample_layers.1
stages.#.downsample.0         model.stages.#.downsample_layers.0
stages.#.downsample.1         model.stages.#.downsample_layers.1
stages.#.blocks.#.gamma       model.stages.#.layers.#.gamma
stages.#.blocks.#.conv_dw     model.stages.#.layers.#.depthwise_conv
stages.#.blocks.#.norm        model.stages.#.layers.#.layer_norm
stages.#.blocks.#.mlp.fc1     model.stages.#.layers.#.pointwise_conv1
stages.#.blocks.#.mlp.fc2     model.stages.#.layers.#.pointwise_conv2
head.norm                     layer_norm
"""
DINOV2 = (
    _BLOCK.format(block="encoder.layer", **_DINO)
    + """
cls_token            embeddings.cls_token
reg_token            embeddings.register_tokens
pos_embed            embeddings.position_embeddings
patch_embed.proj     embeddings.patch_embeddings.projection
norm                 layernorm
blocks.#.ls1.gamma   encoder.layer.#.layer_scale1.lambda1
blocks.#.ls2.gamma   encoder.layer.#.layer_scale2.lambda1
blocks.#.mlp.fc1     encoder.layer.#.mlp.fc1
blocks.#.mlp.fc2     encoder.layer.#.mlp.fc2
"""
)
CLIP = (
    _BLOCK.format(block="encoder.layers", **_CLIP)
    + """
cls_token            embeddings.class_embedding
pos_embed            embeddings.position_embedding.weight
patch_embed.proj     embeddings.patch_embedding
norm_pre             pre_layrnorm
norm                 post_layernorm
blocks.#.mlp.fc1     encoder.layers.#.mlp.fc1
blocks.#.mlp.fc2     encoder.layers.#.mlp.fc2
"""
)
SIGLIP = (
    CLIP
    + """
attn_pool.latent     head.probe
attn_pool.qkv        head.attention.in_proj_
attn_pool.proj       head.attention.out_proj
attn_pool.norm       head.layernorm
attn_pool.mlp.fc1    head.mlp.fc1
attn_pool.mlp.fc2    head.mlp.fc2
"""
)
AIMV2 = (
    _BLOCK.format(block="encoder.layers", **_AIM)
    + """
pos_embed            embeddings.position_embedding.weight
patch_embed.proj     embeddings.patch_embed
patch_embed.norm     embeddings.rms_norm
norm                 rms_norm
blocks.#.mlp.fc1_g   encoder.layers.#.ffn.gate_proj
blocks.#.mlp.fc1_x   encoder.layers.#.ffn.up_proj
blocks.#.mlp.fc2     encoder.layers.#.ffn.down_proj
"""
)
RADIO = (
    DINOV2
    + """
embeds.tokens        embeddings.cls_register_token
embeds.pos_embed     embeddings.position_embedding
embeds.proj          embeddings.patch_projection
"""
)


def renamed(tensors: Tensors, table: str) -> dict[str, Tensor]:
    """The tensors under the names of a table `timm  transformers`, queries, keys and values apart; `#` is a number.

    A name stands for what lies below it too. Raises KeyError for a tensor that the table does not name.
    """
    pairs = [line.split() for line in table.splitlines() if line]
    rules = [(re.compile(re.escape(ours).replace(r"\#", r"(\d+)") + r"(\.(?:weight|bias))?"), to) for ours, to in pairs]
    found = {}
    for key, tensor in _apart(tensors).items():
        hits = [(match, to) for rule, to in rules if (match := rule.fullmatch(key))]
        if not hits:
            raise KeyError(key)
        match, to = hits[0]
        *numbers, end = match.groups(default="")
        name = to.replace("#", "{}").format(*numbers)
        found[name + (end.removeprefix(".") if name.endswith("_") else end)] = tensor
    return found


def _apart(tensors: Tensors) -> dict[str, Tensor]:
    """Queries, keys and values one by one, under names ending in q, k, v."""
    found = {}
    for key, tensor in tensors.items():
        before, stacked, after = key.partition(".attn.qkv")
        if stacked:
            found |= {f"{before}.attn.{part}{after}": x for part, x in zip("qkv", tensor.chunk(3), strict=True)}
        elif match := re.fullmatch(r"(.*\.attn)\.([qkv])_bias", key):
            found[f"{match[1]}.{match[2]}.bias"] = tensor
        else:
            found[key] = tensor
    return found

"""Language models: those of transformers that are there already, and small Llamas trained from nothing on a text."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor, nn

from evals.context import BarFactory
from evals.device import versions
from evals.encoders.load import digest
from evals.encoders.weights import seeded
from evals.errors import DataError, UnavailableError, WeightsError, unknown
from evals.vlm.loop import Accelerator, Job, train
from evals.vlm.model import next_token_loss
from evals.vlm.optimisation import Optimisation
from evals.vlm.pages import Document, Packed, pack

SIZES: Mapping[str, Mapping[str, int]] = {
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "small": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4},
}
"""Of Llamas: `tiny` for trying things out, `small` for the embedded world."""
_EPSILON = 1e-5
"""Of the norms, as in Llama 2."""


@dataclass(frozen=True, slots=True)
class LanguageRecipe:
    """How a small Llama is trained."""

    size: str
    """A key of SIZES."""
    steps: int
    batch: int = 16
    block: int = 256
    """Tokens that are read at once; positions beyond are never trained."""
    rate: float = 3e-3
    warmup: float = 0.03
    """Share of the steps, rounded up."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip: float | None = 1.0
    doubt: float = 0.0
    """The most, at the end, that is seen of what might be there in the place of what is."""
    sure: float = 0.0
    """Share of the blocks, the first ones, without any of that."""
    seed: int = 0


def small_llama(size: str, tokenizer: Any, positions: int, seed: int) -> nn.Module:
    """A Llama whose input and output share their embeddings, with the initialisation of its class, drawn from `seed`.

    But keys begin as queries: places attend to what is like them, and to look a word up is learnt in hundreds of steps
    instead of tens of thousands.

    Raises UsageError for a size that does not exist, UnavailableError without transformers.
    """
    if size not in SIZES:
        raise unknown("size of language model", size, sorted(SIZES))
    transformers = _transformers()
    config = transformers.LlamaConfig(
        **SIZES[size],
        vocab_size=len(tokenizer),
        max_position_embeddings=positions,
        rms_norm_eps=_EPSILON,
        # 0.02, the standard of wide models, leaves narrow ones with attention that hardly differs from place to place.
        initializer_range=SIZES[size]["hidden_size"] ** -0.5,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with seeded(seed):
        made: nn.Module = transformers.LlamaForCausalLM(config)
    for name, weight in made.named_parameters():
        if name.endswith("k_proj.weight"):
            with torch.no_grad():
                weight.copy_(made.get_parameter(name.replace("k_proj", "q_proj")))
    return made


def train_language(
    model: nn.Module,
    documents: Sequence[Document],
    tokenizer: Any,
    recipe: LanguageRecipe,
    folder: Path,
    accelerator: Accelerator,
    bar: BarFactory,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train a language model on text alone; whether the end was reached (see `loop.train`, whose errors it raises).

    Documents are read in their order. Deterministic, and resumed to the step. Raises DataError where there are none.
    """
    if not documents:
        raise DataError("there is no text to train a language model on.")
    model.requires_grad_(True)
    feed = Packed(pack(documents, tokenizer, recipe.block), recipe)
    learning = Optimisation(
        rate=recipe.rate,
        steps=recipe.steps,
        warmup=math.ceil(recipe.steps * recipe.warmup),
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
        clip=recipe.clip,
    )
    device = accelerator.device
    job = Job(
        title="language model",
        work=json.dumps([asdict(recipe), feed.fingerprint, digest(model), versions()], sort_keys=True),
        objective=NextToken(model),
        inputs=lambda page: tuple(tensor.to(device) for tensor in page),
        tokens=lambda page: int((page.words_KBT[0] != tokenizer.pad_token_id).sum()),
        feed=feed,
        optimisation=learning,
    )
    return train(job, folder, accelerator, bar, stop)


class NextToken(nn.Module):
    """The loss of the labels given what stands before them."""

    def __init__(self, language: nn.Module) -> None:
        super().__init__()
        self.language = language
        self._no_split_modules = getattr(language, "_no_split_modules", None)

    def forward(
        self, labels_BT: Int[Tensor, "B T"], words_KBT: Int[Tensor, "K B T"], shares_KBT: Float[Tensor, "K B T"]
    ) -> Tensor:
        """Mean cross entropy."""
        language: Any = self.language
        seen_BTD = torch.einsum("kbtd,kbt->btd", language.get_input_embeddings()(words_KBT), shares_KBT)
        return next_token_loss(self.language, labels_BT, inputs_embeds=seen_BTD)


def open_language(where: str | Path) -> tuple[nn.Module, Any]:
    """(causal language model in fp32, its tokenizer) of a folder, or of a repository of the hub.

    Weights are read from safetensors alone and no code of the repository is run. Raises UnavailableError where they
    are not here, WeightsError for weights that do not fit.
    """
    transformers = _transformers()
    safe: dict[str, Any] = {"trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(where), **safe)
        model, told = transformers.AutoModelForCausalLM.from_pretrained(
            str(where), dtype=torch.float32, use_safetensors=True, output_loading_info=True, **safe
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise UnavailableError(
            "weights",
            f"no language model can be read from {str(where)!r} ({error}). Give a folder that save_pretrained wrote, "
            "with safetensors and a tokenizer, or the name of a repository that can be reached.",
        ) from error
    wrong = {kind: told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if told[kind]}
    if wrong:
        raise WeightsError(f"the weights of {where} do not fit its config.json: {wrong}.")
    return model, tokenizer


def width_of(language: Any) -> int:
    """Channels of the embedding of a word."""
    return int(language.get_input_embeddings().weight.shape[1])


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UnavailableError(
            "package", f"a language model needs transformers: pip install 'eupe-eval[vlm]' ({error})"
        ) from error
    return transformers

"""Our vision-language models in lmms-eval (extra `lmms`), so that any of its tasks runs on them.

`lmms_eval --model eupe_llava --model_args vlm=<folder>,encoder=<name> --tasks pope`. The entry point of this project
announces `manifest`; lmms-eval imports this module when the model is asked for.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.model import lmms
from PIL import Image
from torch import Tensor
from torch.nn import functional

from evals.device import exact_arithmetic
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.errors import UsageError
from evals.files import DigestMemo
from evals.preprocess import to_unit
from evals.vlm.checkpoint import read_vlm
from evals.vlm.conversation import prompt
from evals.vlm.fit import view_of
from evals.vlm.generate import Answerer, Request, pad_left
from evals.vlm.model import see
from evals.vlm.pictures import geometry
from evals.vlm.recipe import read_recipe
from evals.vlm.tokens import Codec

_MAX_NEW_TOKENS = 1024
"""Of a task that says nothing (lmms-eval's own models)."""


class EupeLlava(lmms):  # type: ignore[misc]
    """A model that `eupe-eval` trained, and the encoder that it sees through."""

    is_simple = True

    def __init__(
        self,
        vlm: str,
        encoder: str,
        weights: str | None = None,
        device: str = "cpu",
        batch_size: int | str = 8,
        **_: Any,
    ) -> None:
        """`vlm` is the folder that `eupe-eval train-vlm` prints. Raises as `read_vlm` and `resolve` do."""
        super().__init__()
        exact_arithmetic()
        self._device = torch.device(device)
        self._encoder = load(resolve(encoder, weights=weights), DigestMemo(None)).to(self._device)
        loaded = read_vlm(Path(vlm).expanduser(), self._encoder)
        self._recipe = read_recipe(loaded.card.recipe, vlm)
        dtype = torch.bfloat16 if self._recipe.dtype == "bf16" else torch.float32
        self._model, self._tokenizer = loaded.model.to(self._device, dtype), loaded.tokenizer
        self._view, self._batch = view_of(self._recipe, self._encoder), int(batch_size)
        stage = self._recipe.instruction or self._recipe.alignment
        self._codec = Codec(self._tokenizer, self._view.tokens, stage.max_length, self._recipe.pad_token)
        self._way = geometry("pad", self._encoder.spec, self._view)
        self._pictures: dict[str, Image.Image] = {}

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Greedy answers in the order of the requests, each cut at its first stop string."""
        found = [""] * len(requests)
        by_length: dict[int, list[int]] = {}
        for place, request in enumerate(requests):
            by_length.setdefault(int(request.args[1].get("max_new_tokens", _MAX_NEW_TOKENS)), []).append(place)
        answerer = Answerer(self._model, self._tokenizer, self._look, self._batch)
        for length, places in by_length.items():
            asked = [self._request(requests[place].args[0], *requests[place].args[2:6]) for place in places]
            for place, answer in zip(places, answerer.answers(asked, length), strict=True):
                found[place] = _cut(answer, requests[place].args[1].get("until", ()))
        self._pictures.clear()
        return found

    @torch.no_grad()
    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """(logarithm of the probability of the continuation, whether greedy search would give it) of each request."""
        found = []
        for request in requests:
            context, target, visual, number, task, split = request.args
            document = self.task_dict[task][split][number]
            asked = self._request(context, visual, number, task, split)
            continuation = target if isinstance(target, str) else target(document)
            tokens = self._tokenizer(f" {continuation.strip()}", add_special_tokens=False)["input_ids"]
            ids_T = torch.cat([asked.ids_T, torch.tensor(tokens, dtype=torch.long)])
            nothing = torch.zeros(1, 1, self._model.projector.inner.in_features, device=self._device)
            visual_BKD = nothing if asked.picture is None else self._look([asked.picture])
            embeddings_BTD, mask_BT = pad_left(self._model, [ids_T], visual_BKD)
            logits_TC = self._model.language(
                inputs_embeds=embeddings_BTD, attention_mask=mask_BT, use_cache=False
            ).logits[0, -len(tokens) - 1 : -1]
            wanted_T = torch.tensor(tokens, device=self._device)
            told_T = -functional.cross_entropy(logits_TC.float(), wanted_T, reduction="none")
            found.append((float(told_T.sum()), bool((logits_TC.argmax(-1) == wanted_T).all())))
        self._pictures.clear()
        return found

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered: LLaVA-1.5 is evaluated on single questions."""
        raise UsageError("eupe_llava answers single questions; tasks of several rounds are not offered.")

    def _request(self, context: str, visual: Any, number: int, task: str, split: str) -> Request:
        pictures = visual(self.task_dict[task][split][number]) if visual is not None else []
        if len(pictures) > 1 or not all(isinstance(picture, Image.Image) for picture in pictures):
            raise UsageError(f"eupe_llava is shown one picture at most; document {number} of {task} has other visuals.")
        key = None
        for picture in pictures:
            rgb = picture.convert("RGB")
            key = sha256(f"{rgb.size}".encode() + rgb.tobytes()).hexdigest()
            self._pictures[key] = rgb
        text = context.replace("<image>", "").strip()
        return Request(self._codec.encode_prompt(prompt(text, image=key is not None)), key)

    def _look(self, keys: Sequence[str]) -> Tensor:
        squares = [to_unit(self._way.apply(self._pictures[key], self._encoder.spec.patch)) for key in keys]
        images = torch.stack(squares).to(self._device)
        return see(self._encoder, images, self._recipe.layer, self._view.grid, self._recipe.dtype)


def _cut(answer: str, until: str | Sequence[str]) -> str:
    for stop in [until] if isinstance(until, str) else until:
        if stop:
            answer = answer.split(stop, maxsplit=1)[0]
    return answer.strip()

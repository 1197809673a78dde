"""Our vision-language models in lmms-eval (extra `lmms`), so that any of its single-question tasks runs on them.

`lmms-eval --model eupe_llava --model_args vlm=<folder>,encoder=<name> --tasks pope`. The entry point of this project
announces the model (`announce.manifest`); lmms-eval imports this module when it is asked for.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult
from lmms_eval.api.model import lmms
from PIL import Image
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from evals.device import exact_arithmetic, resolve_device
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.errors import UsageError
from evals.files import DigestMemo
from evals.preprocess import to_unit
from evals.vlm.checkpoint import read_card, read_vlm
from evals.vlm.conversation import MARKER, Piece, prompt
from evals.vlm.fit import view_of
from evals.vlm.generate import Answerer, Request, pad_left
from evals.vlm.model import see
from evals.vlm.pictures import geometry
from evals.vlm.recipe import read_recipe
from evals.vlm.tokens import Codec

_MAX_NEW_TOKENS = 1024
"""Of a task that says nothing (lmms-eval's own models)."""
_GREEDY: Mapping[str, tuple[Any, ...]] = {"do_sample": (False, None), "num_beams": (1, None), "temperature": (0, None)}
"""Settings of a task that greedy search fulfils."""


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
        **others: Any,
    ) -> None:
        """`vlm` is the folder that `eupe-eval train-vlm` prints; the others come from the options of lmms-eval.

        A `cuda` without a number is the GPU of this process. Raises UsageError for arguments that mean nothing here,
        and as `read_vlm` and `resolve` do.
        """
        super().__init__()
        if others:
            known = "vlm, encoder, weights, device and batch_size"
            raise UsageError(f"eupe_llava takes {known}, and not {', '.join(sorted(others))}.")
        exact_arithmetic()
        self._device, self._batch = _device(device), _batch(batch_size)
        self._encoder = load(resolve(str(encoder), weights=weights), DigestMemo(None)).to(self._device)
        # Text again: lmms-eval reads a name of digits alone as a number.
        folder = Path(str(vlm)).expanduser()
        self._recipe = read_recipe(read_card(folder).recipe, str(folder))
        dtype = torch.bfloat16 if self._recipe.dtype == "bf16" else torch.float32
        loaded = read_vlm(folder, self._encoder, dtype)
        self._model, self._tokenizer = loaded.model.to(self._device), loaded.tokenizer
        self._view = view_of(self._recipe, self._encoder)
        stage = self._recipe.instruction or self._recipe.alignment
        self._codec = Codec(self._tokenizer, self._view.tokens, stage.max_length, self._recipe.pad_token)
        self._way = geometry("pad", self._encoder.spec, self._view)
        self._where: dict[str, tuple[Any, ...]] = {}

    @property
    def device(self) -> torch.device:
        """Where the model is; lmms-eval gathers there, if it runs in several processes."""
        return self._device

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Greedy answers in the order of the requests, each cut at its first stop string."""
        _tell_unheeded(requests)
        found = [""] * len(requests)
        by_length: dict[int, list[int]] = {}
        for place, request in enumerate(requests):
            by_length.setdefault(int(request.args[1].get("max_new_tokens") or _MAX_NEW_TOKENS), []).append(place)
        answerer = Answerer(self._model, self._tokenizer, self._look, self._batch)
        with tqdm(total=len(requests), desc="eupe_llava", disable=self.rank != 0) as bar:
            for length, places in by_length.items():
                asked = [self._request(requests[place].args[0], *requests[place].args[2:6]) for place in places]
                for place, answer in zip(places, answerer.answers(asked, length, bar.update), strict=True):
                    found[place] = _cut(answer, requests[place].args[1].get("until"))
        self._where.clear()
        return found

    @torch.no_grad()
    def loglikelihood(self, requests: Sequence[Any]) -> list[GenerationResult]:
        """(loss of the continuation, whether greedy search would give it) of each request, as the `text` of a result.

        The loss is the mean cross entropy over its tokens, in nats: lmms-eval's models return it in place of a
        logarithm of a probability, and its multiple-choice tasks take the smallest. The wrapper is what brings a pair
        through: the evaluator of 0.7.3 turns a bare one into text.
        """
        found = []
        shown: dict[str, Tensor] = {}
        for context, target, visual, number, task, split in [request.args for request in requests]:
            asked = self._request(context, visual, number, task, split)
            if asked.picture is not None and asked.picture not in shown:  # choices of one question share its picture
                shown = {asked.picture: self._look([asked.picture])}
            answer = target if isinstance(target, str) else str(target(self.task_dict[task][split][number]))
            text = prompt(_text(context), image=asked.picture is not None)
            ids_T = self._codec.encode_prompt([*text, Piece(f" {answer.strip()}", supervised=True)])
            wanted_T = ids_T[len(asked.ids_T) :].to(self._device)
            nothing_BKD = torch.zeros(1, 1, self._model.projector.inner.in_features, device=self._device)
            visual_BKD = nothing_BKD if asked.picture is None else shown[asked.picture]
            embeddings_BTD, mask_BT = pad_left(self._model, [ids_T], visual_BKD)
            told = self._model.language(inputs_embeds=embeddings_BTD, attention_mask=mask_BT, use_cache=False)
            logits_TC = told.logits[0, -len(wanted_T) - 1 : -1].float()
            loss = functional.cross_entropy(logits_TC, wanted_T)
            told_T = logits_TC.argmax(-1)
            found.append(GenerationResult(text=(float(loss), bool((told_T == wanted_T).all()))))
        self._where.clear()
        return found

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered: LLaVA-1.5 is evaluated on single questions."""
        raise UsageError("eupe_llava answers single questions; tasks of several rounds are not offered.")

    def _request(self, context: str, visual: Any, number: int, task: str, split: str) -> Request:
        picture = self._picture(visual, number, task, split)
        key = None
        if picture is not None:
            key = sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
            # Where it comes from, not the picture: those of six sets fill more memory than a machine has.
            self._where.setdefault(key, (visual, number, task, split))
        return Request(self._codec.encode_prompt(prompt(_text(context), image=key is not None)), key)

    def _picture(self, visual: Any, number: int, task: str, split: str) -> Image.Image | None:
        pictures = (visual(self.task_dict[task][split][number]) if visual is not None else None) or []
        if len(pictures) > 1 or not all(isinstance(picture, Image.Image) for picture in pictures):
            raise UsageError(f"eupe_llava is shown one picture at most; document {number} of {task} has other visuals.")
        return pictures[0].convert("RGB") if pictures else None

    def _look(self, keys: Sequence[str]) -> Tensor:
        squares = []
        for key in keys:
            picture = self._picture(*self._where[key])
            assert picture is not None
            squares.append(to_unit(self._way.apply(picture, self._encoder.spec.patch)))
        images = torch.stack(squares).to(self._device)
        return see(self._encoder, images, self._recipe.layer, self._view.grid, self._recipe.dtype)


def _text(context: str) -> str:
    """The user's text; the picture goes before it, wherever the task had it."""
    return context.replace(MARKER, "").strip() if MARKER in context else context


def _cut(answer: str, until: str | Sequence[str | None] | None) -> str:
    for stop in [until] if isinstance(until, str) else until or ():
        if stop:
            answer = answer.split(stop, maxsplit=1)[0]
    return answer.strip()


def _device(name: str) -> torch.device:
    device = resolve_device(name)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def _batch(size: int | str) -> int:
    if not str(size).isdecimal() or int(size) < 1:
        raise UsageError(f"eupe_llava needs a whole number as --batch_size, such as 8; got {size!r}.")
    return int(size)


def _tell_unheeded(requests: Sequence[Any]) -> None:
    """Says once what a task wants of the search that greedy search does not do."""
    for _, wanted, *_, task, _ in [request.args for request in requests]:
        unheeded = {name: wanted[name] for name, fine in _GREEDY.items() if wanted.get(name) not in fine}
        if unheeded:
            warnings.warn(f"{task} asks for {unheeded}; the answers of eupe_llava are greedy.", stacklevel=3)
            return

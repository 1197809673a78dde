"""Trials about text: vectors of prompts and images in one space, whatever comes in beside them."""

import torch
from jaxtyping import Float
from torch import Tensor

from evals.doctor.check import Finding, Trial, judged
from evals.doctor.subject import Subject, distance
from evals.types import TextAlignedEncoder

_UNIT = 1e-4
_ALONE = 1e-4
_PROMPTS = ("a photo of a dog", "two boats on a lake at night", "a red square", "word " * 300)
"""The last one is longer than any context."""
_CASES = ("A Photo of a DOG", "a photo of a dog")
_CAPTIONS = ("a red square", "a green circle")


def _vectors(subject: Subject) -> Finding:
    encoder = subject.encoder
    if encoder.card.text != isinstance(encoder, TextAlignedEncoder):
        return Finding("fail", f"the entry says text: {str(encoder.card.text).lower()}; the adapter does otherwise")
    if not isinstance(encoder, TextAlignedEncoder):
        return Finding("skip", "no text tower")
    images = encoder.encode_image(encoder(subject.noise(2))).cpu()
    texts = encoder.encode_text(_PROMPTS).cpu()
    wrong = []
    if texts.ndim != 2 or len(texts) != len(_PROMPTS) or images.shape != (2, texts.shape[-1]):
        return Finding("fail", f"2 images give {list(images.shape)}, {len(_PROMPTS)} prompts {list(texts.shape)}")
    for name, vectors in (("image", images), ("text", texts)):
        off = float((vectors.norm(dim=1) - 1).abs().max())
        wrong += [f"{name} vectors are {off:.1e} off unit length"] if not off <= _UNIT else []
        wrong += [f"{name} vectors are {vectors.dtype}"] if vectors.dtype != torch.float32 else []
    if len(torch.unique(texts, dim=0)) < len(_PROMPTS):
        wrong.append("different prompts have the same vector")
    return judged(not wrong, "; ".join(wrong) or f"images and prompts are vectors of {texts.shape[1]}")


def _prompts(subject: Subject) -> Finding:
    encoder = subject.encoder
    if not isinstance(encoder, TextAlignedEncoder):
        return Finding("skip", "no text tower")
    together = encoder.encode_text(_PROMPTS)
    alone = torch.cat([encoder.encode_text([prompt]) for prompt in _PROMPTS])
    turned = encoder.encode_text(_PROMPTS[::-1]).flip(0)
    worst = max(_farthest(alone, together), _farthest(turned, together))
    return judged(worst <= _ALONE, f"alone, together and in reverse: {worst:.1e} of their length apart")


def _case(subject: Subject) -> Finding:
    encoder = subject.encoder
    if not isinstance(encoder, TextAlignedEncoder):
        return Finding("skip", "no text tower")
    upper, lower = encoder.encode_text(_CASES)
    off = distance(upper, lower)
    if off <= _ALONE:
        return Finding("pass", "capitals make no difference")
    return Finding("note", f"capitals move a vector by {off:.2f} of its length")


def _captions(subject: Subject) -> Finding:
    encoder = subject.encoder
    if not isinstance(encoder, TextAlignedEncoder):
        return Finding("skip", "no text tower")
    images = encoder.encode_image(encoder(_drawings(subject))).cpu()
    cosines = images @ encoder.encode_text(_CAPTIONS).cpu().T
    told = f"cosines of both captions: red square {_row(cosines[0])}, green circle {_row(cosines[1])}"
    if encoder.card.random:
        return Finding("note", f"{told}; random weights")
    # Each caption must find its drawing; which drawing a model likes better for any caption is its own affair.
    return judged(bool((cosines.argmax(dim=0) == torch.arange(2)).all()), told)


def _farthest(some: Tensor, others: Tensor) -> float:
    return max(distance(one, other) for one, other in zip(some, others, strict=True))


def _row(cosines: Float[Tensor, " 2"]) -> str:
    return f"{float(cosines[0]):+.3f} {float(cosines[1]):+.3f}"


def _drawings(subject: Subject) -> Float[Tensor, "2 3 Y X"]:
    """A red square and a green circle on white, of the native size."""
    side = subject.native[0] * subject.encoder.spec.patch
    across = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(across, across, indexing="ij")
    shapes = torch.stack([torch.maximum(x.abs(), y.abs()) < 0.5, x.square() + y.square() < 0.36])
    inks = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.7, 0.1]])
    return torch.where(shapes[:, None], inks[:, :, None, None], torch.ones(())).to(subject.device)


TRIALS = (
    Trial(
        "text-vectors",
        _vectors,
        limit=f"unit length within {_UNIT:.0e}, one dimension",
        pitfall="vectors before the projection, or of another length, are compared",
        effect="zero-shot picks the class whose vector is longest, or fails",
        mend="project both sides and normalise them in encode_image and encode_text",
    ),
    Trial(
        "text-prompts",
        _prompts,
        limit=f"{_ALONE:.0e}",
        pitfall="prompts are padded to the longest of their batch, and read at another position",
        effect="zero-shot drops by up to 70 points for towers that were trained on padded prompts",
        mend="pad every prompt to the context of the tower, and mask as it was trained",
    ),
    Trial(
        "text-case",
        _case,
        limit="none",
        pitfall="towers trained on lower-case prompts without punctuation are given class names as written",
        effect="zero-shot drops by about 12 points",
        mend="canonicalise prompts in the tower if it was trained so; nothing to mend for a tower that was not",
    ),
    Trial(
        "text-images",
        _captions,
        limit="with trained weights, each its own",
        pitfall="an image side and a text side of different checkpoints, a wrong activation or projection",
        effect="zero-shot is at chance level, or some points too low",
        mend="take both sides from one checkpoint, and the architecture (quick GELU or not) that its tag names",
    ),
)
"""In the order of the card."""

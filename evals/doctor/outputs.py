"""Trials about outputs: the final norm, the global feature and its alternatives, and what else an encoder offers."""

import torch
from jaxtyping import Float
from torch import Tensor

from evals.doctor.check import Finding, Trial, judged
from evals.doctor.norms import RESIDUAL, Form, forms
from evals.doctor.subject import Subject, compared, distance, same_bits
from evals.doctor.trace import sequence, trace
from evals.types import ConvEncoder, Features

_MEAN = 1e-2
"""Distance below which two features are the same one: a class token is 0.1 or more from the mean of the patches."""
_REGRIDDED = 1e-5
_WIDE = 16
"""Cells along a side from which on outliers among the tokens are seen."""


def _final_norm(subject: Subject) -> Finding:
    norm = subject.encoder.structure.norm
    image = subject.noise(2)
    before, after = subject.encoder(image, norm=False), subject.encoder(image)
    same = torch.equal(before.patches_BHWD, after.patches_BHWD)
    if norm == "none_exists":
        return judged(same, f"none; patches with and without one {'are the same' if same else 'differ'}")
    if same:
        return Finding("fail", f"norm is {norm}, but patches with and without it are the same")
    best = _norms(before, after)[0]
    seen = f"{best.kind} explains all but {best.residual:.1e}"
    return judged(best.residual <= RESIDUAL, seen)


def _global_feature(subject: Subject) -> Finding:
    kind, image = subject.encoder.card.global_feature, subject.noise(2)
    features = subject.encoder(image)
    pooled = features.pooled_BD
    if kind == "none" or pooled is None:
        return judged(kind == "none" and pooled is None, f"documented: {kind}; given: {_shape(pooled)}")
    wrong = [] if pooled.ndim == 2 and len(pooled) == 2 else [f"it is {_shape(pooled)}"]
    before = subject.encoder(image, norm=False)
    if before.pooled_BD is None or not torch.equal(pooled, before.pooled_BD):
        wrong.append("it changes with the norm that is asked of patches")
    wrong += _contradictions(subject, features, before)
    return judged(not wrong, "; ".join(wrong) or f"{kind}, {_shape(pooled)}")


def _alternatives(subject: Subject) -> Finding:
    structure, image = subject.encoder.structure, subject.noise(2)
    traced = trace(subject.encoder, image, norm=False)
    features = subject.encoder(image)
    others, tokens = features.others, sequence(traced)
    if set(others) != set(structure.alternatives):
        return Finding("fail", f"the structure names {_words(structure.alternatives)}; given: {_words(tuple(others))}")
    wrong = [f"{name} is {_shape(x)}" for name, x in others.items() if x.ndim != 2 or len(x) != 2]
    places = {token.name: index for index, token in enumerate(structure.prefix) if token.name in others}
    known = [] if structure.norm == "none_exists" else _norms(traced.features, features)
    for name, index in places.items():
        if tokens is not None and not _is_token(others[name], tokens[:, index], known):
            wrong.append(f"{name} is not token {index} after the final norm")
    seen = f"; {_words(tuple(places))} seen in the sequence" if places and tokens is not None else ""
    return judged(not wrong, "; ".join(wrong) or f"{_words(structure.alternatives)}{seen}")


def _rotary_scales(subject: Subject) -> Finding:
    encoder, image = subject.encoder, subject.noise()
    if not encoder.rope_blocks:
        return Finding("skip", "no block whose rotary coordinates can be rescaled")
    ones = torch.ones(encoder.rope_blocks)
    plain, same = encoder(image), encoder(image, rope_scales_L=ones)
    doubled = encoder(image, rope_scales_L=2 * ones)
    if torch.equal(plain.patches_BHWD, doubled.patches_BHWD):
        return Finding("fail", "factors of 2 change nothing")
    return judged(same_bits(plain, same), f"factors of 1: {compared(same, plain)}")


def _regridding(subject: Subject) -> Finding:
    encoder, image, (rows, columns) = subject.encoder, subject.noise(), subject.grid
    if not isinstance(encoder, ConvEncoder):
        return Finding("skip", "not a convolutional encoder")
    plain, own, finer = encoder(image), encoder.on_grid(image, (rows, columns)), encoder.on_grid(image, (7, 6))
    wrong = [] if finer.patches_BHWD.shape == (1, 7, 6, encoder.dim) else [f"7 x 6: {_shape(finer.patches_BHWD)}"]
    off = distance(own.patches_BHWD, plain.patches_BHWD)
    wrong += [f"on its own grid the map is {off:.1e} apart"] if off > _REGRIDDED else []
    if any(_differ(plain.pooled_BD, other.pooled_BD) for other in (own, finer)):
        wrong.append("the global feature changes with the grid")
    return judged(not wrong, "; ".join(wrong) or f"own grid {off:.1e} apart, another grid of its shape")


def _token_norms(subject: Subject) -> Finding:
    side = min(_WIDE, subject.native[0]) if subject.flexible else subject.native[0]
    norms = subject.encoder(subject.noise(grid=(side, side))).patches_BHWD.norm(dim=-1)
    median, greatest = float(norms.median()), float(norms.max())
    ratio = f"{greatest / median:.1f} times" if median else "without end above"
    return Finding("note", f"median length {median:.3g}, the greatest {ratio} that, of {side} x {side} patches")


def _contradictions(subject: Subject, features: Features, before: Features) -> list[str]:
    """What the global feature is, against what the entry says that it is."""
    kind, others, pooled = subject.encoder.card.global_feature, features.others, features.pooled_BD
    assert pooled is not None, "the caller has looked"
    mean_BD = features.patches_BHWD.mean(dim=(1, 2))
    if kind == "avg_pool":
        return [] if distance(pooled, mean_BD) <= RESIDUAL else ["it is not the mean of the patches"]
    if kind == "gap_norm":
        raw_BD = before.patches_BHWD.mean(dim=(1, 2))
        sound = any(distance(form.of(raw_BD), pooled) <= RESIDUAL for form in _norms(before, features))
        return [] if sound else ["it is not the final norm of the mean of the map"]
    wrong = ["it is the mean of the patches"] if distance(mean_BD, pooled) <= _MEAN else []
    trained = [t.name for t in subject.encoder.structure.prefix if t.trained and t.name in others]
    if kind in ("cls", "summary"):
        parts = [others[name] for name in (trained[:1] if kind == "cls" else trained)]
        if not parts or not torch.equal(pooled, torch.cat(parts, dim=1)):
            wrong.append(f"it is not the trained class token{'s side by side' if kind == 'summary' else ''}")
    elif any(distance(others[name], pooled) <= RESIDUAL for name in trained):
        wrong.append("it is a class token")
    return wrong


def _norms(before: Features, after: Features) -> list[Form]:
    """The final norm, as far as patches before and after it tell."""
    return list(forms(before.patches_BHWD.flatten(0, 2), after.patches_BHWD.flatten(0, 2)))


def _is_token(given_BD: Tensor, token_BD: Float[Tensor, "B D"], known: list[Form]) -> bool:
    """Whether it is that token of the sequence, after one of the norms if any is known."""
    if not known:
        return distance(given_BD, token_BD) <= RESIDUAL
    return any(form.residual <= RESIDUAL and distance(given_BD, form.of(token_BD)) <= RESIDUAL for form in known)


def _differ(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is not other
    return distance(one, other) > _REGRIDDED


def _shape(x: Tensor | None) -> str:
    return "nothing" if x is None else f"{list(x.shape)}"


def _words(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


TRIALS = (
    Trial(
        "final-norm",
        _final_norm,
        limit=f"{RESIDUAL:.0e}, or none if there is none",
        pitfall="the final norm is left out, applied where none was trained, or taken from another place",
        effect="features change by 0.2 to 1 of their length; linear heads learn slower or not at all",
        mend="apply the model's own last norm to patches if ask.norm, and set norm in the entry to what exists",
    ),
    Trial(
        "global-feature",
        _global_feature,
        limit="as documented",
        pitfall="the pooled output of a library is often the mean of the patches, or a pool that was never trained",
        effect="k-NN and zero-shot score a feature that its authors never used, 0.9 of its length away",
        mend="return the documented feature, None if there is none, and name it by global_feature in the entry",
    ),
    Trial(
        "alternatives",
        _alternatives,
        limit="as the structure names them",
        pitfall="of several class tokens the wrong one is taken, or a register, or one that was never trained",
        effect="k-NN and zero-shot score another teacher's token",
        mend="name prefix tokens in their order, untrained ones in parentheses, and return others under these names",
    ),
    Trial(
        "rotary-scales",
        _rotary_scales,
        limit="the same bits",
        pitfall="rotary positions that are computed again differ from the library's, or scales are ignored",
        effect="heads trained under the official protocol see other positions than those they are tested with",
        mend="rotate as the model does, with the periods of its checkpoint",
    ),
    Trial(
        "regridding",
        _regridding,
        limit=f"{_REGRIDDED:.0e}",
        pitfall="the map is brought to another grid after its norm, or the global feature is taken from the new grid",
        effect="convolutional encoders are compared with others on features that their authors do not use",
        mend="resize the raw map, then apply the final norm; pool before resizing",
    ),
    Trial(
        "token-norms",
        _token_norms,
        limit="none",
        pitfall="some encoders keep scratch values in a few patches, tens of times longer than the rest",
        effect="linear heads and nearest neighbours are ruled by these patches; nothing here rescales them",
        mend="nothing to mend: know it when dense scores are low",
    ),
)
"""In the order of the card."""

"""Trials about conduct: that a pass depends on its image alone, and leaves the encoder as it was."""

import torch

from evals.device import autocast
from evals.doctor.check import Finding, Trial, judged
from evals.doctor.subject import Subject, apart, compared, same_bits, tensors
from evals.encoders.load import digest
from evals.types import Features

_BATCH = 1e-4
"""Distance between an image alone and in a batch: other shapes take other kernels, which round in another way."""
_COSINE = 0.999
"""Mean cosine between features in fp32 and under bf16 autocast, with trained weights."""


def _repeat(subject: Subject) -> Finding:
    image = subject.noise()
    first, second = subject.encoder(image), subject.encoder(image)
    return judged(same_bits(first, second), f"two passes: {compared(first, second)}")


def _sizes(subject: Subject) -> Finding:
    if not subject.flexible:
        return Finding("skip", "it takes one size alone")
    image, (rows, columns) = subject.noise(), subject.grid
    first = subject.encoder(image)
    subject.encoder(subject.noise(grid=(2 * rows, columns - 1)))
    subject.encoder(subject.noise(grid=(rows - 1, 2 * columns)))
    again = subject.encoder(image)
    return judged(same_bits(first, again), f"before and after two other sizes: {compared(first, again)}")


def _unchanged(subject: Subject) -> Finding:
    encoder, before = subject.encoder, digest(subject.encoder)
    rows, columns = subject.grid
    encoder(subject.noise(2))
    if subject.flexible:
        encoder(subject.noise(grid=(rows + 1, columns + 2)))
    encoder.train()
    encoder(subject.noise(seed=1), layers=range(encoder.depth), norm=False)
    after = digest(encoder)
    count = sum(1 for _ in (*encoder.parameters(), *encoder.buffers()))
    return judged(before == after, f"sha256 of {count} parameters and buffers: {before[:12]}, after {after[:12]}")


def _batch(subject: Subject) -> Finding:
    images = subject.noise(3)
    order = [2, 0, 1]
    together = subject.encoder(images[order])
    worst = max(
        apart(_one(together, place), subject.encoder(images[which : which + 1])) for place, which in enumerate(order)
    )
    return judged(worst <= _BATCH, f"alone and in a permuted batch of 3: {worst:.1e} of their length apart")


def _eval_mode(subject: Subject) -> Finding:
    encoder, image = subject.encoder, subject.noise()
    before = encoder(image)
    encoder.train()
    training = [name or "the encoder" for name, module in encoder.named_modules() if module.training]
    after = encoder(image)
    training += [name for name, module in encoder.named_modules() if module.training and name not in training]
    if training:
        return Finding("fail", f"in train mode: {', '.join(training[:3])} ({len(training)} modules)")
    return judged(same_bits(before, after), f"before and after train(): {compared(before, after)}")


def _frozen(subject: Subject) -> Finding:
    encoder = subject.encoder
    asking = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    other = [name for name, p in encoder.named_parameters() if p.is_floating_point() and p.dtype != torch.float32]
    with torch.enable_grad():
        given = [name for name, x in tensors(encoder(subject.noise())).items() if x.requires_grad]
    wrong = [
        f"{what}: {', '.join(names[:3])} ({len(names)})"
        for what, names in (("ask for gradients", asking), ("have gradients", given), ("not in fp32", other))
        if names
    ]
    return judged(not wrong, "; ".join(wrong) or "no gradients, every parameter in fp32")


def _bf16(subject: Subject) -> Finding:
    image = subject.noise(2)
    exact = tensors(subject.encoder(image))
    with autocast(subject.device, "bf16"):
        rough = tensors(subject.encoder(image))
    wrong = [name for name, x in rough.items() if x.dtype != torch.float32 or not bool(x.isfinite().all())]
    if wrong:
        return Finding("fail", f"not fp32, or not finite: {', '.join(wrong)}")
    cosines = torch.nn.functional.cosine_similarity(exact["patches"], rough["patches"], dim=-1)
    mean, least = float(cosines.mean()), float(cosines.min())
    told = f"cosine {mean:.5f} in the mean, {least:.5f} at least"
    if subject.encoder.card.random:
        return Finding("note", f"{told}; random weights")
    return judged(mean >= _COSINE, told)


def _one(features: Features, place: int) -> Features:
    """The features of one image of a batch."""
    pooled = features.pooled_BD
    return Features(
        None if pooled is None else pooled[place : place + 1],
        features.patches_BHWD[place : place + 1],
        others={name: x[place : place + 1] for name, x in features.others.items()},
    )


TRIALS = (
    Trial(
        "repeat",
        _repeat,
        limit="the same bits",
        pitfall="dropout, drawn masks or drawn position scales are on",
        effect="a score cannot be had again, and cached features are not those of the next pass",
        mend="draw nothing in encode; on a GPU, look for kernels that do not repeat themselves",
    ),
    Trial(
        "sizes",
        _sizes,
        limit="the same bits",
        pitfall="position tables are resized in place, so that the second size starts from the first",
        effect="a score depends on which benchmark ran before it",
        mend="keep the table as it was stored and resize a copy for each grid",
    ),
    Trial(
        "unchanged",
        _unchanged,
        limit="the same digest",
        pitfall="running statistics of BatchNorm, position tables or caches are written during a pass",
        effect="the benchmark refuses the score, for the encoder that ends is not the one that began",
        mend="write to no parameter and no buffer in encode; keep what is computed in local variables",
    ),
    Trial(
        "batch",
        _batch,
        limit=f"{_BATCH:.0e}",
        pitfall="statistics of a batch get into features: train mode, or a mean over the wrong axis",
        effect="scores depend on the batch size and on which images come together",
        mend="reduce over tokens or channels, never over axis 0",
    ),
    Trial(
        "eval-mode",
        _eval_mode,
        limit="eval mode, the same bits",
        pitfall="models arrive in train mode, or a head's train() puts them there",
        effect="BatchNorm and dropout change every feature; 9 times its length was measured",
        mend="do not override train(); register every module on the encoder, so that eval() reaches it",
    ),
    Trial(
        "frozen",
        _frozen,
        limit="no gradients, fp32",
        pitfall="an encoder that can learn is tuned by the head, and one in half precision rounds",
        effect="the score is of another encoder than the one that is named",
        mend="build it through evals.encoders.load.load, which freezes it; convert no weights",
    ),
    Trial(
        "bf16",
        _bf16,
        limit=f"{_COSINE} with trained weights",
        pitfall="large activations, and angles of rotary positions, do not fit 8 bits",
        effect="--dtype bf16 scores another encoder; scores in fp32 are not touched",
        mend="compute rotary angles and norms in fp32 under autocast, or stay with --dtype fp32",
    ),
)
"""In the order of the card."""

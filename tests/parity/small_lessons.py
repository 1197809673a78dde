"""How the small encoder is trained: all tasks at once, with the labels of the embedded world's training splits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from evals.context import Roots
from evals.datasets import ade20k, imagenet, nyuv2, spair
from evals.datasets.base import read_rgb
from evals.device import generator
from evals.encoders.weights import seeded
from evals.files import DigestMemo
from evals.preprocess import to_tensor
from tests.parity.small_encoder import DIM, PATCH, SPEC, Network, untrained

CANVAS = 160
"""Longest side of a picture of the world."""
SHARPNESS = 16.0
"""Factor of cosines before a softmax."""
RATE = 2e-3
"""Peak learning rate (AdamW; a cosine after 20 steps of warm-up)."""
FROZEN_FROM = 0.7
"""Share of the steps after which batch normalisation uses its running statistics, as it will ever after."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images of a training split as bytes in the corner of a black square, with whatever belongs to each."""

    pixels_N3SS: Tensor
    sizes_N2: NDArray[np.float64]
    """Width and height."""
    targets: Any

    @classmethod
    def read(cls, paths: Sequence[Any], targets: Any) -> "Pictures":
        """Decode all images once."""
        images = [to_tensor(read_rgb(path)) for path in paths]
        sizes = np.array([(image.shape[2], image.shape[1]) for image in images], np.float64)
        return cls(torch.stack([_on_canvas(image) for image in images]), sizes, targets)


@dataclass(frozen=True, slots=True)
class Points:
    """Key points of an image: number of each among all key points of all categories, and its place (x, y) in pixels."""

    ids_K: Tensor
    places_K2: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Lessons:
    """What the network learns from: the training splits of the four data sets."""

    objects: Pictures
    scenes: Pictures
    rooms: Pictures
    portraits: Pictures
    classes: int
    labels: int
    points: int

    @classmethod
    def read(cls, roots: Roots) -> "Lessons":
        """Everything in memory."""
        digests = DigestMemo(None)
        objects = imagenet.load(roots.of("imagenet"), "train", digests)
        scenes = ade20k.load(roots.of("ade20k"), "training", digests)
        rooms = nyuv2.load(roots.of("nyu"), "train", digests)
        portraits = spair.load(roots.of("SPair-71k"), "trn", digests)
        names = scenes.class_names or ()
        labels = [torch.from_numpy(ade20k.read_label(path, len(names)).astype(np.float32)) for path in scenes.labels]
        depths = [torch.from_numpy(nyuv2.read_depth(path)) for path in rooms.depths]
        points, count = _points(portraits)
        return cls(
            Pictures.read(objects.images.paths, torch.from_numpy(objects.labels_N)),
            Pictures.read(scenes.images.paths, torch.stack([_on_canvas(label[None]) for label in labels])),
            Pictures.read(rooms.images.paths, torch.stack([_on_canvas(depth[None]) for depth in depths])),
            Pictures.read(portraits.images.paths, points),
            len(objects.classes),
            len(names),
            count,
        )


class Teacher(nn.Module):
    """What is thrown away after training: a head for each task."""

    def __init__(self, lessons: Lessons) -> None:
        super().__init__()
        self.classify = nn.Linear(DIM, lessons.classes, bias=False)
        self.segment = nn.Linear(DIM, lessons.labels)
        self.measure = nn.Linear(DIM, 1)
        self.locate = nn.Linear(DIM, lessons.points, bias=False)


@dataclass(frozen=True, slots=True)
class Cut:
    """Where crops lie in their pictures: centre (x, y) in pixels, magnification, and 1 or -1 for mirrored ones."""

    centre_B2: NDArray[np.float64]
    scale_B: NDArray[np.float64]
    mirror_B: NDArray[np.float64]
    rows: int
    columns: int

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        sizes_B2: NDArray[np.float64],
        scale_B: NDArray[np.float64],
        rows: int,
        columns: int,
        *,
        mirror: bool,
        stray: float,
    ) -> "Cut":
        """Crops within their picture where it is large enough, and off its centre by at most `stray` of the slack."""
        window = np.array([columns, rows]) / scale_B[:, None]
        slack = np.abs(sizes_B2 - window) / 2
        centre = sizes_B2 / 2 + stray * slack * rng.uniform(-1, 1, sizes_B2.shape)
        signs = rng.choice([-1.0, 1.0], len(sizes_B2)) if mirror else np.ones(len(sizes_B2))
        return cls(centre, scale_B, signs, rows, columns)

    def apply(self, canvas_BCSS: Tensor, mode: str = "bilinear") -> Tensor:
        """The crops; black (0) where they leave the canvas."""
        x = np.arange(self.columns) + 0.5 - self.columns / 2
        y = np.arange(self.rows) + 0.5 - self.rows / 2
        at_x = self.centre_B2[:, :1] + self.mirror_B[:, None] * x / self.scale_B[:, None]
        at_y = self.centre_B2[:, 1:] + y / self.scale_B[:, None]
        shape = len(at_x), self.rows, self.columns
        grid = np.stack([np.broadcast_to(at_x[:, None], shape), np.broadcast_to(at_y[:, :, None], shape)], -1)
        grid_BYX2 = torch.from_numpy(2 * grid / CANVAS - 1).float()
        return functional.grid_sample(canvas_BCSS.float(), grid_BYX2, mode=mode, align_corners=False)

    def place(self, index: int, points_K2: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points of a picture in pixels of its crop."""
        factors_2 = self.scale_B[index] * np.array([self.mirror_B[index], 1.0])
        middle_2 = np.array([self.columns / 2, self.rows / 2])
        moved: NDArray[np.float64] = (points_K2 - self.centre_B2[index]) * factors_2 + middle_2
        return moved


def train(lessons: Lessons, *, steps: int, seed: int) -> Network:
    """Train on all tasks at once."""
    network = untrained(seed)
    with seeded(seed + 1):
        teacher = Teacher(lessons)
    network.train()
    parameters = [*network.parameters(), *teacher.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.05)
    for step in range(steps):
        rng = generator(seed, step)
        if step == int(FROZEN_FROM * steps):
            network.eval()
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 20) * (1 + math.cos(math.pi * step / steps)) / 2
        losses = (
            _name_objects(network, teacher, lessons.objects, rng),
            _label_scenes(network, teacher, lessons.scenes, rng),
            _measure_rooms(network, teacher, lessons.rooms, rng),
            _find_points(network, teacher, lessons.portraits, rng),
        )
        if step % 100 == 0:
            print(step, *(f"{float(loss.detach()):.3f}" for loss in losses), flush=True)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(sum(losses, torch.zeros(())))
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
    return network


def _name_objects(network: Network, teacher: Teacher, pictures: Pictures, rng: np.random.Generator) -> Tensor:
    picked = rng.choice(len(pictures.sizes_N2), 24, replace=False)
    scale = np.exp(rng.uniform(np.log(0.9), np.log(1.6), len(picked)))
    cut = Cut.draw(rng, pictures.sizes_N2[picked], scale, 128, 128, mirror=True, stray=1.0)
    pooled_BD, _ = network(_recolour(cut.apply(pictures.pixels_N3SS[picked]), rng))
    return functional.cross_entropy(_cosines(pooled_BD, teacher.classify), pictures.targets[picked])


def _label_scenes(network: Network, teacher: Teacher, pictures: Pictures, rng: np.random.Generator) -> Tensor:
    picked = rng.choice(len(pictures.sizes_N2), 8, replace=False)
    scale = np.exp(rng.uniform(np.log(0.8), np.log(1.8), len(picked)))
    cut = Cut.draw(rng, pictures.sizes_N2[picked], scale, 128, 128, mirror=True, stray=1.0)
    _, maps_BHWD = network(_recolour(cut.apply(pictures.pixels_N3SS[picked]), rng))
    logits = _enlarge(teacher.segment(maps_BHWD), 128, 128)
    labels = cut.apply(pictures.targets[picked], "nearest")[:, 0].long() - 1
    return functional.cross_entropy(logits, labels, ignore_index=-1)


def _measure_rooms(network: Network, teacher: Teacher, pictures: Pictures, rng: np.random.Generator) -> Tensor:
    picked = rng.choice(len(pictures.sizes_N2), 8, replace=False)
    # The scale stays, since all frames come from one camera.
    cut = Cut.draw(rng, pictures.sizes_N2[picked], np.ones(len(picked)), 112, 144, mirror=True, stray=1.0)
    _, maps_BHWD = network(_recolour(cut.apply(pictures.pixels_N3SS[picked]), rng))
    depth_BYX = _enlarge(teacher.measure(maps_BHWD), 112, 144)[:, 0].exp()
    truth_BYX = cut.apply(pictures.targets[picked], "nearest")[:, 0]
    seen = truth_BYX > 0
    return (depth_BYX[seen].log() - truth_BYX[seen].log()).abs().mean() * 2


def _find_points(network: Network, teacher: Teacher, pictures: Pictures, rng: np.random.Generator) -> Tensor:
    """Each key point is the place in its picture that is most like its vector, which all pictures share."""
    side, cells = 256, 256 // PATCH
    picked = rng.choice(len(pictures.sizes_N2), 4, replace=False)
    sizes_B2 = pictures.sizes_N2[picked]
    scale = side / sizes_B2.max(1) * np.exp(rng.uniform(np.log(0.8), np.log(1.25), len(picked)))
    cut = Cut.draw(rng, sizes_B2, scale, side, side, mirror=False, stray=0.5)
    _, maps_BHWD = network(_recolour(cut.apply(pictures.pixels_N3SS[picked]), rng))
    losses = []
    for at, index in enumerate(picked):
        points: Points = pictures.targets[index]
        places_K2 = cut.place(at, points.places_K2) / PATCH - 0.5
        inside = ((places_K2 > 0) & (places_K2 < cells - 1)).all(1)
        likeness_NP = _cosines(maps_BHWD[at].flatten(0, 1), teacher.locate)
        target_KN = _bilinear(places_K2[inside], cells)
        ids_K = points.ids_K[torch.from_numpy(inside)]
        losses.append(-(target_KN * likeness_NP[:, ids_K].T.log_softmax(1)).sum(1))
        losses.append(functional.cross_entropy(target_KN @ likeness_NP, ids_K, reduction="none"))
    return torch.cat(losses).mean()


def _bilinear(places_K2: NDArray[np.float64], cells: int) -> Tensor:
    """Weights of the cells around each place, [K, cells x cells]."""
    grid = np.arange(cells)
    x, y = (np.clip(1 - np.abs(places_K2[:, axis, None] - grid), 0, 1) for axis in (0, 1))
    return torch.from_numpy((y[:, :, None] * x[:, None]).reshape(len(places_K2), -1)).float()


def _cosines(vectors: Tensor, layer: nn.Linear) -> Tensor:
    return SHARPNESS * functional.normalize(vectors, dim=-1) @ functional.normalize(layer.weight, dim=1).T


def _enlarge(maps_BHWC: Tensor, rows: int, columns: int) -> Tensor:
    return functional.interpolate(maps_BHWC.permute(0, 3, 1, 2), size=(rows, columns), mode="bilinear")


def _recolour(images_B3YX: Tensor, rng: np.random.Generator) -> Tensor:
    """Bytes of crops under another light, channels in another order for every second; normalised."""
    images = images_B3YX / 255
    orders = np.stack([rng.permutation(3) if rng.random() < 0.5 else np.arange(3) for _ in images])
    images = torch.stack([image[order] for image, order in zip(images, orders, strict=True)])
    tint = torch.from_numpy(rng.uniform(0.75, 1.25, (len(images), 3, 1, 1))).float()
    gamma = torch.from_numpy(rng.uniform(0.75, 1.33, (len(images), 1, 1, 1))).float()
    return ((images.pow(gamma) * tint).clamp(0, 1) - SPEC.mean[0]) / SPEC.std[0]


def _on_canvas(image: Tensor) -> Tensor:
    rows, columns = image.shape[-2:]
    return functional.pad(image, (0, CANVAS - columns, 0, CANVAS - rows))


def _points(split: spair.PairSplit) -> tuple[list[Points], int]:
    """Key points of every image, gathered from its pairs, and the number of different ones."""
    numbers: dict[tuple[str, str], int] = {}
    found: list[dict[int, NDArray[np.float64]]] = [{} for _ in split.images.paths]
    for pair in split.pairs:
        for image, places_K2 in ((pair.source, pair.source_points_K2), (pair.target, pair.target_points_K2)):
            for name, place in zip(pair.point_ids, places_K2, strict=True):
                found[image][numbers.setdefault((pair.category, name), len(numbers))] = place
    points = [Points(torch.tensor(list(each)), np.stack(list(each.values()))) for each in found]
    return points, len(numbers)

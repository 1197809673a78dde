"""What the experts are asked: right answers cost little, wrong ones more; every task trains its own head."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eupe.miniature import pictures, tasks
from eupe.miniature.pictures import Points
from eupe.miniature.tasks import LETTERS, Crops, Reading
from evals.encoders.exports.manifest import Text
from evals.encoders.exports.text import fresh_tower
from evals.miniature.signs import WORDS
from tests.eupe.miniature.lessons import make


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few pictures of everything."""
    return make(tmp_path_factory.mktemp("lessons"))


class Blank(nn.Module):
    """Learnt features that are the same for every image and place."""

    def __init__(self) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(8, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> tasks.Features:
        """Of [B, 3, Y, X]: [B, 8] and a map of stride 16."""
        rows, columns = images.shape[2] // 16, images.shape[3] // 16
        return self.vector.expand(len(images), 8), self.vector.expand(len(images), rows, columns, 8)


def test_places_beside_letters() -> None:
    """Letters first; further places are none, or are not asked about near a letter."""
    known = [
        Points(np.array([3, 4]), np.array([[10.0, 64.0], [40.0, 64.0]])),
        Points(np.array([7]), np.array([[64.0, 64.0]])),
    ]
    where, ids = tasks._asked(known * 50, np.random.default_rng(0))
    assert where.shape == (100, 6, 2)
    assert ids[0, :2].tolist() == [3, 4]
    assert ids[1, 0] == 7
    assert where[0, 0].tolist() == [10, 64]
    assert set(ids[:, 2:].flatten().tolist()) == {-1, LETTERS}
    for row in range(100):
        for place, said in zip(where[row, 2:], ids[row, 2:], strict=True):
            gaps = [float((place - torch.tensor(point)).abs().max()) for point in known[row % 2].places_K2]
            assert (said == -1) == (min(gaps) < 20)


def test_reading_asks_for_words_letters_and_nothing(world: Path) -> None:
    """Features that know nothing cost what a guess does; the answers are learnt through the heads."""
    signs, words = pictures.notices(world)
    others, _ = pictures.objects(world)
    asked = Reading(signs, others, 6, (0.5, 0.9), Crops(2, (0.8, 1.6)))
    heads = nn.Linear(8, len(words) + 1, bias=False), nn.Linear(8, LETTERS + 1)
    for head in heads:
        nn.init.normal_(head.weight, std=0.01)  # larger ones guess with confidence
    look = Blank()
    losses = asked.losses(look, *heads, np.random.default_rng(0))
    assert set(losses) == {"words", "letters"}
    assert float(losses["letters"].detach()) == pytest.approx(np.log(LETTERS + 1), abs=0.8)
    torch.autograd.backward(sum(losses.values(), torch.zeros(())))
    assert all(float(head.weight.grad.abs().sum()) > 0 for head in heads if head.weight.grad is not None)
    assert look.vector.grad is not None
    assert len(words) == len(WORDS)


def test_dense_tasks_cost_what_a_constant_costs(world: Path) -> None:
    """The loss of a constant depth is the mean distance of logarithms; labels and points are finite and trained."""
    scenes, classes = pictures.scenes(world)
    portraits, points = pictures.portraits(world)
    look, draws = Blank(), np.random.default_rng(1)
    depth = nn.Linear(8, 1)
    nn.init.zeros_(depth.weight)
    nn.init.constant_(depth.bias, 1.0)
    rooms = pictures.rooms(world)
    crops = Crops(4, (1.0, 1.0), (48, 64))
    cut, at, _ = crops.draw(rooms, np.random.default_rng(1))
    truth = cut.apply(rooms.targets[at], "nearest")
    wanted = (truth[truth > 0].log() - 1).abs().mean()
    torch.testing.assert_close(tasks.measure_rooms(look, depth, rooms, crops, np.random.default_rng(1)), wanted)
    labels = tasks.label_scenes(look, nn.Linear(8, classes), scenes, Crops(4, (0.8, 1.8)), draws)
    found = tasks.find_points(look, nn.Linear(8, points, bias=False), portraits, Crops(4, (1.3, 2.0), (64, 64)), draws)
    assert bool(labels.isfinite())
    assert float(found.detach()) > 0


def test_names_are_met_by_their_own_sentences(world: Path) -> None:
    """Features that are the vector of the right class cost less than those of another class."""
    found, names = pictures.objects(world)
    tower = fresh_tower(Text(tasks.vocabulary(names), 16, 1, 2, 16), 8, seed=0)
    bare = tower.encode(list(names))

    def knows(shift: int) -> float:
        draws = np.random.default_rng(2)
        at = np.random.default_rng(2).choice(len(found), 8, replace=False)
        vectors = bare[(torch.from_numpy(found.targets[at]) + shift) % len(names)]
        loss = tasks.name_objects(lambda _: (vectors, vectors), tower, names, found, Crops(8, (0.8, 1.6)), draws)
        return float(loss.detach())

    assert knows(0) < knows(1)


def test_words_of_a_name_are_never_hidden() -> None:
    """Others are, now and then, by the unknown word; padding stays padding."""
    tower = fresh_tower(Text(("a", "photo", "of", "mug", "."), 16, 1, 2, 8), 8, seed=0)
    ids, kept = tower.tokens(["a photo of a mug.", "mug"]), tower.tokens(["mug"])
    hidden = torch.stack([tasks._with_unknowns(ids, kept, np.random.default_rng(seed)) for seed in range(200)])
    assert bool((hidden[:, 0, 4] == ids[0, 4]).all())
    assert bool((hidden[:, 1] == ids[1]).all())
    assert 0.08 < float((hidden[:, 0, :4] == 1).double().mean()) < 0.22

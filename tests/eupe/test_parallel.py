"""What makes a network cheaper to run changes nothing of what it computes."""

from pathlib import Path

import pytest
import timm
import torch
import torch._dynamo
from torch._dynamo.utils import counters

from eupe import parallel
from eupe.parallel import blocks, halve, recompute
from eupe.processes import Stop, World
from eupe.step import train_step
from eupe.students import Architecture, Target, learner
from eupe.train import Run, set_up, train
from evals.context import silent_bar
from evals.device import autocast
from tests.eupe.tiny import pictures, stage

ALONE = World(0, 1, torch.device("cpu"))
SMALL = Architecture("vit_tiny_patch16_dinov3_qkvb", {"embed_dim": 48, "depth": 3, "num_heads": 3})


@pytest.mark.parametrize(
    ("model", "options", "count"),
    [
        ("vit_tiny_patch16_dinov3_qkvb", {"depth": 3}, 3),
        ("convnext_atto", {"depths": [2, 2, 3, 2]}, 9),
        ("convnext_atto", {"depths": [1, 1, 1, 1]}, 4),
        ("resnet18", {}, 8),
    ],
)
def test_blocks_are_the_repeated_parts(model: str, options: dict[str, object], count: int) -> None:
    """Layers of a transformer, blocks of the stages of a convolutional network, stages where they have one each."""
    with torch.device("meta"):
        network = timm.create_model(model, num_classes=0, **options)
    found = blocks(network)
    assert len(found) == count
    assert len({id(block) for block in found}) == count


def test_recomputing_is_exact() -> None:
    """The same loss and gradients, bit by bit, from fewer saved numbers."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    results = []
    for again in (False, True):
        model = learner(SMALL, {"t": Target(8, 16)}, hidden=32, seed=0).train()
        if again:
            recompute(model)
        kept: list[int] = []

        def keep(tensor: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            kept.append(tensor.untyped_storage().nbytes())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            cls, patches = model(images, torch.tensor([0.5, 1.0, 2.0]))["t"]
            loss = cls.square().sum() + patches.square().sum()
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        results.append((loss, gradients, sum(kept)))
    (loss, gradients, all_of_it), (other, others, less) = results
    assert torch.equal(loss, other)
    assert gradients.keys() == others.keys()
    assert all(value is not None and torch.equal(value, others[name]) for name, value in gradients.items())
    assert less < 0.5 * all_of_it


def test_halved_matrices_give_the_same_bits() -> None:
    """Autocast would round the same matrices at every pass; norms, tokens and scales stay fp32."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model = learner(SMALL, {}, hidden=32, seed=0).eval().requires_grad_(False)
    passes = []
    for dtype in ("fp32", "bf16"):
        halve(model, dtype)
        with autocast(images.device, "bf16"):
            passes.append(model.features(images))
    assert all(torch.equal(*pair) for pair in zip(*passes, strict=True))
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert kinds["backbone.blocks.0.mlp.fc1.weight"] == kinds["backbone.patch_embed.proj.weight"] == torch.bfloat16
    assert kinds["backbone.norm.weight"] == kinds["backbone.cls_token"] == torch.float32


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures."""
    return pictures(tmp_path_factory.mktemp("pictures"), 12)


def _run(root: Path, folder: Path, *, steps: int, sides: tuple[int, ...], compiled: bool) -> Run:
    only = {"vit": {"model": SMALL.model, "options": dict(SMALL.options)}}
    config = stage(
        root,
        students=only,
        sides=list(sides),
        teacher_sides=list(sides),
        rate={"base": 1e-3, "steps": steps},
        batch=2,
        statistics={"batches": 3, "batch": 4},
        compile=compiled,
    )
    run = set_up(config, folder, ALONE, silent_bar)
    train(run, None, silent_bar, Stop(), until=1)
    return run


@pytest.mark.golden
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.usefixtures("alone")
def test_every_pair_of_sides_compiles_once_before_training(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine pairs of three sides: each network has three forms after the warm-up, and no step adds one."""
    monkeypatch.setattr(parallel, "BACKEND", "eager")
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", torch._dynamo.config.recompile_limit)
    torch._dynamo.reset()
    counters.clear()
    run = _run(root, tmp_path, steps=1, sides=(32, 64, 96), compiled=True)
    assert torch._dynamo.config.recompile_limit >= 9
    assert counters["stats"]["unique_graphs"] == 2 * 3
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    for step in range(30):
        train_step(run.stage, step, images, run.teachers, run.standards, run.pupils)
    assert counters["stats"]["unique_graphs"] == 2 * 3
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.usefixtures("alone")
def test_compiled_losses_are_the_eager_ones(root: Path, tmp_path: Path) -> None:
    """To 1e-5, step by step, with the compiler that training uses."""
    lines = []
    for compiled in (False, True):
        folder = tmp_path / str(compiled)
        run = _run(root, folder, steps=3, sides=(64,), compiled=compiled)
        images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        losses = [
            train_step(run.stage, step, images, run.teachers, run.standards, run.pupils)["vit/loss"]
            for step in range(3)
        ]
        lines.append([float(loss) for loss in losses])
    assert lines[0] == pytest.approx(lines[1], abs=1e-5)

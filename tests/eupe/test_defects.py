"""What goes wrong in trainers of this kind, each as a test; docs/training.md lists those that stand beside the code.

Names say what would be wrong if the test failed.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

import eupe.data.loader as loading
from eupe import measure
from eupe.augment import shrink
from eupe.compose import compose, recipes
from eupe.data.base import Source
from eupe.data.loader import Batch
from eupe.log import Log
from eupe.losses import teacher_loss
from eupe.processes import Stop, World
from eupe.students import Architecture, Learner, Target, learner
from eupe.teachers import Teacher
from eupe.train import STATISTICS, Run, set_up, train
from evals.context import silent_bar
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.errors import UsageError
from evals.files import DigestMemo
from evals.types import Ask, Encoder, Features
from tests.eupe.ranks import run_ranks
from tests.eupe.tiny import SIDE, pictures, stage

ALONE = World(0, 1, torch.device("cpu"))
TINY_VIT = Architecture("vit_tiny_patch16_dinov3_qkvb", {"embed_dim": 48, "depth": 2, "num_heads": 3})
TINY_CONVNEXT = Architecture("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]})

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures."""
    return pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which images are decoded, in order."""
    seen: list[int] = []
    inner = loading.pixels

    def noted(source: Source, item: int) -> Tensor:
        seen.append(item)
        return inner(source, item)

    monkeypatch.setattr(loading, "pixels", noted)
    return seen


def go(root: Path, folder: Path, until: int, **changes: Any) -> Run:
    """Train up to a step."""
    run = set_up(stage(root, **changes), folder, ALONE, silent_bar)
    train(run, Log(folder, "t"), silent_bar, Stop(), until)
    return run


class Kinds(TorchDispatchMode):
    """The types in which matrices are multiplied and convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the type of a product, and compute it."""
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.convolution):
            self.seen.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


def test_teachers_compute_in_full_precision(root: Path, tmp_path: Path) -> None:
    """In bf16 every product of a teacher is one of bf16, and what it says is fp32 again; heads take bf16 features."""
    run = set_up(stage(root, dtype="bf16"), tmp_path, ALONE, silent_bar)
    with Kinds() as kinds:
        lesson = run.teachers["vit"](torch.rand(2, 3, SIDE, SIDE))
    assert kinds.seen == {torch.bfloat16}
    assert lesson.patches_BHWD.dtype == torch.float32
    train(run, None, silent_bar, Stop(), until=1)
    for pupil in run.pupils.values():
        assert {parameter.dtype for parameter in pupil.learner.parameters()} == {torch.float32}
    standard = run.standards["vit"]
    assert standard.patch.mean_D.dtype == standard.patch.std_D.dtype == torch.float32


class Listener(Encoder):
    """An encoder that keeps what it was shown."""

    shown: Tensor

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        """Nothing of interest."""
        self.shown = images_B3YX
        return Features(images_B3YX.mean((2, 3)), images_B3YX.permute(0, 2, 3, 1))


@pytest.mark.parametrize("name", ["pe-core-g", "pe-lang-g", "dinov3-vit-h-plus", "siglip2-gopt-384"])
def test_teachers_are_given_images_of_another_normalisation(name: str) -> None:
    """PE and SigLIP want 0.5 and 0.5, DINOv3 the constants of ImageNet; each normalises for itself, at every call."""
    entry = resolve(name)
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if "dinov3" in name else ((0.5,) * 3, (0.5,) * 3)
    encoder = load(resolve("pixels"), DigestMemo(None))
    spec = type(encoder.spec)(16, 1, "bicubic", antialias=True, resize="crop", mean=entry.mean, std=entry.std)
    listener = Listener(encoder.card, spec, dim=3, depth=0).eval()
    teacher = Teacher("t", listener, side=16, dtype="fp32")
    for value in (0.25, 0.25, 1.0):
        teacher(torch.full((1, 3, 16, 16), value))
        wanted = (torch.tensor(value) - torch.tensor(mean)) / torch.tensor(std)
        torch.testing.assert_close(listener.shown[0, :, 0, 0], wanted)


def test_a_large_teacher_sees_an_enlarged_crop() -> None:
    """Crops are as large as the largest input, which then gets them as they are; nothing can be enlarged."""
    assert compose(["recipe=stage1", "sources.web.root=a", "sources.imagenet.root=b"]).stage.canvas == 448
    assert compose(["recipe=stage3-vit-b", "sources.web.root=a", "sources.imagenet.root=b"]).stage.canvas == 512
    crops = torch.rand(1, 3, 32, 32)
    assert shrink(crops, 32) is crops
    with pytest.raises(AssertionError, match="as large as the largest"):
        shrink(crops, 48)


def test_training_begins_with_the_images_of_the_statistics(root: Path, tmp_path: Path, reads: list[int]) -> None:
    """Statistics are measured on another order of the images than training goes through."""
    run = set_up(stage(root), tmp_path, ALONE, silent_bar)
    measured = list(reads)
    reads.clear()
    train(run, None, silent_bar, Stop(), until=3)
    assert len(measured) == len(reads) == 24
    assert measured != reads


@pytest.mark.golden
def test_resuming_reads_again_what_lies_behind(root: Path, tmp_path: Path, reads: list[int]) -> None:
    """The images of the steps that are left are read, in the order of an undisturbed run, and none before them."""
    go(root, tmp_path / "a", 6)
    straight = reads[24:]
    reads.clear()
    go(root, tmp_path / "b", 4)
    assert reads[24:] == straight[:32]
    reads.clear()
    go(root, tmp_path / "b", 6)
    assert reads == straight[32:]


@pytest.mark.parametrize("name", [name for name in recipes() if name.startswith(("stage2", "stage3"))])
def test_the_optimiser_starts_at_the_whole_rate(name: str) -> None:
    """Rates are scaled by the batch and warmed up: the first step is a thousandth of the peak at most."""
    made = compose([f"recipe={name}", "sources.web.root=a", "sources.imagenet.root=b"]).stage
    rates = [made.rate.at(step, made.batch) for step in (0, made.rate.warmup - 1, made.rate.steps - 1)]
    assert rates[0] <= rates[1] / 1000
    assert rates[1] == pytest.approx(made.rate.base * 4 * (made.batch / 1024) ** 0.5)
    assert rates[2] == pytest.approx(rates[1] * 1e-6, rel=1e-3)


def test_a_checkpoint_is_one_file_of_everything(root: Path, tmp_path: Path) -> None:
    """It is made of shards that processes write side by side, with nothing that is pickled for one reader."""
    go(root, tmp_path, 1)
    files = {path.name for path in (tmp_path / "step-00000001").iterdir()}
    assert {".metadata", "run.json"} < files
    assert all(name.endswith(".distcp") for name in files - {".metadata", "run.json"})


GATHERS = """
from pathlib import Path
import torch
from torch import distributed
from eupe.processes import Stop, world
from eupe.train import set_up, train
from evals.context import silent_bar
from tiny import stage
with world("cpu") as here:
    run = set_up(stage(Path(root), saving={"every": 99}), Path(folder), here, silent_bar)
    def refused(*args, **more):
        raise AssertionError("features travel")
    for name in ("all_gather", "all_gather_into_tensor", "all_gather_object", "broadcast", "all_to_all", "gather"):
        setattr(distributed, name, refused)
    import eupe.train as module
    done = []
    class Quiet:
        def __init__(self, *args, **more): pass
        def save(self, *args): pass
        def finish(self): pass
    module.Saver = Quiet
    train(run, None, silent_bar, Stop(), until=2)
    assert run.done == 2
"""


@pytest.mark.golden
def test_processes_send_each_other_features(root: Path, tmp_path: Path) -> None:
    """In a step of two processes gradients are reduced, and nothing is gathered or sent around."""
    assert run_ranks(GATHERS, ranks=2, root=str(root), folder=str(tmp_path)) == [0, 0]


def test_a_key_that_is_set_is_never_read() -> None:
    """A dotted override arrives where the trainer looks; one of another name is refused with the names there are."""
    base = ["recipe=stage2-vit-b", "sources.web.root=a", "sources.imagenet.root=b"]
    assert compose([*base, "augment.blur=0.9"]).stage.augment.blur == 0.9
    with pytest.raises(UsageError, match=r"(?s)blurr.*blur"):
        compose([*base, "augment.blurr=0.9"])


def test_a_run_takes_one_step_more_or_less(root: Path, tmp_path: Path) -> None:
    """As many as it says; the last is at the final rate."""
    run = go(root, tmp_path, 99, rate={"base": 1e-3, "steps": 3, "final": 0.25, "scaling": "none"})
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert (run.done, len(lines)) == (3, 3)
    assert float(re.findall(r'"rate": ([^,}]+)', lines[-1])[0]) == pytest.approx(2.5e-4)


def test_a_frozen_teacher_is_sharded(root: Path, tmp_path: Path) -> None:
    """Each process has all of it: plain tensors, in no wrapper, without gradients."""
    run = set_up(stage(root), tmp_path, ALONE, silent_bar)
    for teacher in run.teachers.values():
        tensors = [*teacher.encoder.parameters(), *teacher.encoder.buffers()]
        assert not any(isinstance(tensor, DTensor) or tensor.requires_grad for tensor in tensors)


def test_statistics_move_during_training(root: Path, tmp_path: Path) -> None:
    """They are measured once: the file and what the steps use stay, also when a run goes on."""
    run = go(root, tmp_path, 2)
    file = (tmp_path / STATISTICS).read_bytes()
    before = run.standards["vit"].patch.mean_D.clone()
    again = go(root, tmp_path, 5)
    assert (tmp_path / STATISTICS).read_bytes() == file
    assert torch.equal(again.standards["vit"].patch.mean_D, before)


def test_a_deviation_is_kept_as_a_variance(root: Path, tmp_path: Path) -> None:
    """`std` in the file is the deviation that NumPy finds, and what standardises to 1."""
    run = set_up(stage(root), tmp_path, ALONE, silent_bar)
    teacher = run.teachers["pixels"]
    images = (torch.rand(6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    found = measure.measure(run.stage, {"pixels": teacher}, iter([Batch(images, ())]), ALONE.device, lambda n: None)
    measure.write(tmp_path / "s.safetensors", found, {"pixels": "x"})
    kept = measure.read(tmp_path / "s.safetensors", {"pixels": "x"})["pixels"].patch.std_D
    said = teacher(images.float() / 255).patches_BHWD.flatten(0, 2).double().numpy()
    np.testing.assert_allclose(kept.numpy(), said.std(0), rtol=1e-5)


@pytest.mark.parametrize("network", [TINY_VIT, TINY_CONVNEXT], ids=["vit", "convnext"])
@pytest.mark.parametrize("cls_dim", [8, None])
def test_parameters_go_without_gradient(network: Architecture, cls_dim: int | None) -> None:
    """Everything of a student takes part in every step, so that no process has to look for what did not."""
    made = learner(network, {"t": Target(cls_dim, 12)}, hidden=16, seed=0).train()
    cls_BD, patches_BHWD = made(torch.rand(2, 3, SIDE, SIDE))["t"]
    loss = patches_BHWD.square().mean() + (0 if cls_BD is None else cls_BD.square().mean())
    torch.autograd.backward(loss)
    assert [name for name, parameter in made.named_parameters() if parameter.grad is None] == []


def test_features_of_teachers_end_on_disk(root: Path, tmp_path: Path) -> None:
    """A run leaves checkpoints, its log, statistics and what it was; more steps leave no more."""
    go(root, tmp_path, 2)
    before = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("step-"))
    go(root, tmp_path, 9)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("step-")) == before
    assert not [name for name in before if name.endswith((".npy", ".pt"))]


class Scaled(Encoder):
    """Another encoder in other units."""

    def __init__(self, inner: Encoder, factor: float, shift: float) -> None:
        super().__init__(inner.card, inner.spec, dim=inner.dim, depth=inner.depth)
        self._inner, self._factor, self._shift = inner, factor, shift

    def encode(self, images_B3YX: Tensor, ask: Ask) -> Features:
        """Every number times a factor, plus a shift."""
        said = self._inner.encode(images_B3YX, ask)
        assert said.pooled_BD is not None
        return Features(*(value * self._factor + self._shift for value in (said.pooled_BD, said.patches_BHWD)))


def test_the_units_of_a_teacher_weigh_its_loss(root: Path) -> None:
    """A teacher whose outputs are 100 times as large and shifted teaches the same: targets are standardised."""
    inner = load(resolve("eupe-vit-t", weights="random"), DigestMemo(None))
    draws = torch.Generator().manual_seed(0)
    images = (torch.rand(4, 3, SIDE, SIDE, generator=draws) * 255).to(torch.uint8)
    targets = []
    for encoder in (inner, Scaled(inner, 100.0, 7.0).eval()):
        teacher = Teacher("t", encoder, side=SIDE, dtype="fp32")
        found = measure.measure(stage(root), {"t": teacher}, iter([Batch(images, ())]), ALONE.device, lambda n: None)
        targets.append(found["t"].apply(teacher(images.float() / 255)))
    said = torch.randn(targets[0].patches_BHWD.shape, generator=draws)
    one, other = (teacher_loss(None, said, None, target.patches_BHWD).total() for target in targets)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=0)


def test_the_finer_map_of_a_student_is_made_coarser() -> None:
    """Where the student has more patches, its own are compared as they are: each of them moves the loss."""
    draws = torch.Generator().manual_seed(0)
    said = torch.randn(1, 8, 8, 4, generator=draws, requires_grad=True)
    target = torch.randn(1, 4, 4, 4, generator=draws)
    loss = teacher_loss(None, said, None, target)
    enlarged = nn.functional.interpolate(target.permute(0, 3, 1, 2), (8, 8), mode="bicubic", align_corners=False)
    wanted = teacher_loss(None, said, None, enlarged.permute(0, 2, 3, 1))
    torch.testing.assert_close(loss.total(), wanted.total())
    (gradient,) = torch.autograd.grad(loss.total(), said)
    assert (gradient.abs().sum(-1) > 0).all()


def test_students_inherit_the_settings_of_self_supervision() -> None:
    """No drop path, no layer-wise decay, four registers, fresh layer scales of 1e-5, norms with an eps of 1e-5."""
    for name in ("stage1", "stage2-vit-b", "stage2-convnext-b", "stage3-vit-b"):
        made = compose([f"recipe={name}", "sources.web.root=a", "sources.imagenet.root=b"]).stage
        assert (made.optimisation.layer_decay, made.optimisation.patch_rate, made.optimisation.clip) == (1, 1, 3)
        assert not any("drop" in key for config in made.students.values() for key in config.options)
    network: Any = TINY_VIT.build()
    assert network.reg_token.shape[1] == 4
    assert {type(module).__name__ for module in network.modules() if "Drop" in type(module).__name__} <= {"Dropout"}
    assert all(module.p == 0 for module in network.modules() if isinstance(module, nn.Dropout))
    assert torch.equal(network.blocks[0].gamma_1, torch.full((48,), 1e-5))
    assert {module.eps for module in network.modules() if isinstance(module, nn.LayerNorm)} == {1e-5}


def test_heads_stand_outside_of_what_is_saved_clipped_and_averaged(root: Path, tmp_path: Path) -> None:
    """Wrapper, optimiser and checkpoint have every parameter of every head."""
    run = go(root, tmp_path, 1)
    for name, pupil in run.pupils.items():
        heads = {key for key, _ in pupil.learner.named_parameters() if key.startswith("heads.")}
        assert isinstance(pupil.learner, Learner)
        assert {f"heads.{teacher}.patch.outer.weight" for teacher in run.teachers} <= heads
        assert heads <= run.state()[name]["learner"].keys()
        optimised = {id(one) for group in pupil.optimiser.param_groups for one in group["params"]}
        assert {id(parameter) for parameter in pupil.wrapped.parameters()} == optimised

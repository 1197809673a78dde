"""What a run tells: whole lines, the numbers in them, and loggers that may not be installed."""

import importlib
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from eupe.log import FILE, Log, read
from eupe.meter import Meter, measured_peak, peak
from eupe.processes import World
from evals.errors import UnavailableError

ALONE = World(0, 1, torch.device("cpu"))


class Board:
    """Stands in for TensorBoard's writer and for wandb."""

    def __init__(self, folder: str) -> None:
        self.folder, self.told, self.flushed = folder, [], 0

    def add_scalar(self, key: str, value: float, step: int) -> None:
        """As TensorBoard."""
        self.told.append((step, key, value))

    def flush(self) -> None:
        """As TensorBoard."""
        self.flushed += 1

    def log(self, numbers: dict[str, float], step: int) -> None:
        """As wandb."""
        self.told += [(step, key, value) for key, value in numbers.items()]


def test_lines_survive_a_kill(tmp_path: Path) -> None:
    """Half a line is passed over; of a step that was run twice the last line counts."""
    log = Log(tmp_path, "run")
    log.write(0, {"loss": 2.0})
    log.write(1, {"loss": 1.5})
    with (tmp_path / FILE).open("a") as file:
        file.write('{"step": 2, "lo')
        file.write("\n")
    log.write(1, {"loss": 1.25})
    assert [(line["step"], line["loss"]) for line in read(tmp_path)] == [(0, 2.0), (1, 1.25)]


def test_loggers_get_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in its own words; wandb is told that a folder that goes on is one run."""
    boards: list[Board] = []
    started: list[dict[str, object]] = []

    def made(folder: str) -> Board:
        boards.append(Board(folder))
        return boards[-1]

    def init(**settings: object) -> Board:
        started.append(settings)
        return made(str(settings["dir"]))

    tensorboard, wandb = types.ModuleType("torch.utils.tensorboard"), types.ModuleType("wandb")
    monkeypatch.setattr(tensorboard, "SummaryWriter", made, raising=False)
    monkeypatch.setattr(wandb, "init", init, raising=False)
    monkeypatch.setitem(sys.modules, tensorboard.__name__, tensorboard)
    monkeypatch.setitem(sys.modules, wandb.__name__, wandb)
    for step in (0, 50):
        Log(tmp_path, "run", ("tensorboard", "wandb")).write(step, {"vit/loss": 2.0})
    assert [board.told for board in boards] == [[(0, "vit/loss", 2.0)]] * 2 + [[(50, "vit/loss", 2.0)]] * 2
    assert boards[0].folder == str(tmp_path / "tensorboard")
    assert boards[0].flushed == 1
    assert started[0]["id"] == started[1]["id"]
    assert started[0]["resume"] == "allow"


@pytest.mark.parametrize(("extra", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_logger_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str, module: str
) -> None:
    """With the way to install it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnavailableError, match=f"pip install {extra}"):
        Log(tmp_path, "run", (extra,))


def test_tensorboard_files_can_be_read(tmp_path: Path) -> None:
    """By TensorBoard itself, where it is installed."""
    pytest.importorskip("tensorboard")
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    Log(tmp_path, "run", ("tensorboard",)).write(3, {"vit/loss": 0.5})
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("vit/loss")] == [(3, 0.5)]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("loading", "working"), [(0.001, 0.099), (1.0, 0.0), (0.5, 1.5)])
def test_waiting_for_images_is_told_apart(loading: float, working: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of the time that the loader took, also where that is under 2 %."""
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    def images() -> Iterator[int]:
        nonlocal now
        for number in range(5):
            now += loading
            yield number

    meter = Meter(batch=4)
    for _ in meter.waiting(images()):
        now += working
        meter.add({"loss": torch.tensor(1.0)})
    line = meter.line(ALONE)
    assert line["data_wait"] == pytest.approx(loading / (loading + working))
    assert line["images/s"] == pytest.approx(4 / (loading + working))


@pytest.mark.usefixtures("alone")
def test_means_and_mfu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of 4 images at 10 and 30 GFLOP in half a second, on a device of 1 TFLOP/s: 160 of 500 GFLOP."""
    clock = iter([0.0, 0.5, 0.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    meter = Meter(batch=4, peak=1e12)
    meter.add({"loss": torch.tensor(1.0)}, 10e9)
    meter.add({"loss": torch.tensor(2.0)}, 30e9)
    line = meter.line(ALONE, rate=1e-3)
    assert line == pytest.approx({"loss": 1.5, "images/s": 16.0, "data_wait": 0.0, "mfu": 0.32, "rate": 1e-3})


def test_the_peak_is_given_or_measured() -> None:
    """In TFLOP/s as configured; 0 multiplies matrices."""
    assert peak(790.0, torch.device("cpu"), "bf16") == 790e12
    assert 1e8 < peak(0.0, torch.device("cpu"), "fp32") < 1e14
    assert measured_peak(torch.device("cpu"), "fp32") > 0

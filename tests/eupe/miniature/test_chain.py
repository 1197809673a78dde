"""The embedded family in little: every part is made once, a stop is obeyed, a proxy that lost too much is refused."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from eupe import session
from eupe.compose import Order
from eupe.gate import RETENTION
from eupe.miniature import chain
from eupe.miniature.chain import Plan, chains, compose_chain
from eupe.plan import plan as costed
from eupe.processes import Stop
from evals.context import silent_bar
from evals.encoders.exports.manifest import check_whole
from evals.encoders.load import load
from evals.encoders.registry import resolve
from evals.errors import ResultsError, UsageError
from evals.files import DigestMemo
from evals.types import TextAlignedEncoder
from tests.eupe.miniature.lessons import make

SMALL = (
    "experts.steps=3", "experts.images=6", "device=cpu", "stage3.heads_only=0",
    *(
        f"{stage}.{key}"
        for stage, steps in (("stage1", 2), ("stage2", 1), ("stage3", 1))
        for key in (
            f"rate.steps={steps}", "rate.warmup=0", "batch=4", "hidden=16", "statistics.batches=1",
            "statistics.batch=4", "workers=0",
        )
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache that holds a very small world of lessons."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "miniature").mkdir()
    make(folder / "miniature")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EUPE_EVAL_CACHE", str(folder))
        yield folder


def plan(cache: Path, out: Path, **kept: float) -> Plan:
    """The chain of the family, with next to no steps and another gate."""
    made = compose_chain("miniature", ["recipe=miniature", f"out={out}", *SMALL])
    assert made.cache == cache
    return replace(made, chain=replace(made.chain, kept=kept))


@pytest.fixture(scope="module")
def family(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything, trained for a step or two."""
    out = tmp_path_factory.mktemp("family") / "runs"
    assert session.train_chain(plan(cache, out), Stop(), quiet=True)
    return out


@pytest.mark.golden
def test_everything_is_there_and_whole(family: Path) -> None:
    """Three experts, the proxy, the student of both stages; the last one meets the text of the semantic expert."""
    found = sorted(path.parent.relative_to(family).as_posix() for path in family.rglob("export.json"))
    assert found == [
        "experts/dense",
        "experts/reading",
        "experts/semantic",
        "stage1/exports/proxy",
        "student-s0/stage2/exports/student",
        "student-s0/stage3/exports/student",
    ]
    for name in found:
        check_whole(family / name)
    student = load(resolve(str(family / found[-1])), DigestMemo(None))
    assert isinstance(student, TextAlignedEncoder)
    assert student.encode_text(["a photo of a striped mug."]).shape == (1, 256)
    assert set(json.loads((family / "stage1/exports" / RETENTION).read_text())) == {
        "semantic", "reading", "labels", "depth"
    }  # fmt: skip


@pytest.mark.golden
def test_what_is_there_is_not_made_again(family: Path, cache: Path) -> None:
    """A second call writes nothing."""
    before = {path: path.stat().st_mtime_ns for path in family.rglob("*") if path.is_file()}

    def never(order: Order) -> bool:
        raise AssertionError(order.stage.name)

    ends = chain.run(plan(cache, family), never, silent_bar, print)
    assert ends == {("student", 0): family / "student-s0/stage3/exports/student"}
    assert {path: path.stat().st_mtime_ns for path in family.rglob("*") if path.is_file()} == before


@pytest.mark.golden
def test_a_stop_ends_the_chain(family: Path, cache: Path, tmp_path: Path) -> None:
    """What comes after the stage that was asked to stop is not begun."""
    (tmp_path / "experts").symlink_to(family / "experts")
    asked: list[str] = []

    def stopped(order: Order) -> bool:
        asked.append(order.stage.name)
        return False

    assert chain.run(plan(cache, tmp_path), stopped, silent_bar, print) is None
    assert asked == ["stage1"]


@pytest.mark.golden
def test_a_proxy_that_lost_too_much_teaches_nobody(family: Path, cache: Path) -> None:
    """The skill, both scores and the way on are named; nothing is trained."""

    def never(order: Order) -> bool:
        raise AssertionError(order.stage.name)

    with pytest.raises(ResultsError, match=r"too much was lost of reading .* Train that export for longer"):
        chain.run(plan(cache, family, reading=1e9), never, silent_bar, print)


def test_arms_that_begin_alike_share_their_beginning() -> None:
    """`1+2+3` goes on from the stage 2 of `1+2`; a longer stage 2 is another one."""
    made = compose_chain("miniature-study", ["recipe=miniature-study", "out=x"])
    ends = {
        arm: [export.relative_to("x").parts[0] for _, export, _ in chain._steps(made, arm, parts, 1)]
        for arm, parts in made.chain.arms.items()
    }
    assert ends["1+2+3"] == ["1+2-s1", "1+2+3-s1"]
    assert ends["2+3"] == ["2-s1", "2+3-s1"]
    assert ends["2-longer"] == ["2-longer-s1"]


@pytest.mark.golden
def test_an_arm_of_equal_compute(family: Path) -> None:
    """Its FLOPs are those of stage 2 and of a quarter of the proxy, to half a step, whatever else is changed."""
    made = compose_chain("miniature-study", ["recipe=miniature-study", f"out={family}", "stage1.rate.steps=70"])
    root = Path("world")
    (longer,) = made.chain.arms["2-longer"]
    dear = costed(chain._order(made, longer, root, ()).stage)
    proxy, stage2 = (
        costed(chain._order(made, part, root, ()).stage).total for part in (made.chain.proxy, made.chain.arms["1+2"][0])
    )
    wanted = stage2 + proxy / 4  # the proxy is trained once and serves four students
    assert dear.total == pytest.approx(wanted, abs=dear.total / dear.steps / 2)


@pytest.mark.parametrize("name", chains())
def test_every_chain_is_read(name: str) -> None:
    """Each names recipes that compose."""
    made = compose_chain(name, [f"recipe={name}", "out=x"])
    root = Path("world")
    for arm, parts in made.chain.arms.items():
        for part, _, changes in chain._steps(made, arm, parts, 0):
            # What it costs is counted on experts that are not there.
            order = chain._order(made, replace(part, as_dear_as={}), root, changes)
            assert order.folder.name == part.stage
            assert order.folder.parent.name in {f"{name}-s0" for name in made.chain.arms}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("experts.stepz=3", "unknown key of experts 'stepz'"),
        ("nothing.batch=3", r"takes out=, device=, .* got 'nothing\.batch=3'"),
        ("experts.steps=many", "steps must be int"),
        ("seeds=3", "seeds must be"),
    ],
)
def test_overrides_amiss(override: str, message: str) -> None:
    """Named with what would do."""
    with pytest.raises(UsageError, match=message):
        compose_chain("miniature", ["recipe=miniature", override])


def test_lessons_of_the_benchmarks_own_seed_are_refused() -> None:
    """Their first pictures would be those that are asked about."""
    made = compose_chain("miniature", ["recipe=miniature"])
    with pytest.raises(UsageError, match="the benchmarks ask about that world"):
        replace(made.chain, world=0)

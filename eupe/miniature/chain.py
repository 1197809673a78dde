"""Several stages in turn: the embedded family from nothing to its student, and the study of how one gets there.

Every part leaves something whole behind (a world, an export, a measurement), and a later call goes on with the first
that is missing; inside a stage, from its last checkpoint.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from eupe.compose import Order, compose
from eupe.config import read
from eupe.export import FOLDER as EXPORTS
from eupe.gate import check_kept
from eupe.miniature.experts import SKILLS, ExpertTraining, train_expert
from eupe.miniature.retention import measure_retention
from eupe.plan import plan as costed
from evals.context import BarFactory
from evals.encoders.entry import config_folder
from evals.errors import UsageError
from evals.files import cache_home
from evals.miniature import world

_LESSONS = "lessons"
Train = Callable[[Order], bool]
"""Trains a stage and exports its students; whether it came to its end."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stage of a chain."""

    recipe: str
    change: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the recipe that differ."""
    as_dear_as: Mapping[str, float] = field(default_factory=dict)
    """Stages by recipe -> share: trained for as long as those shares of them cost together, in FLOPs."""

    @property
    def stage(self) -> str:
        """What its folder is called."""
        return self.recipe.rpartition("-")[2]


@dataclass(frozen=True, slots=True)
class Chain:
    """What is trained, in order (`configs/chain`)."""

    world: int
    """Seed of the world of lessons; 0 is that of the world that the benchmarks ask about, and is refused."""
    experts: ExpertTraining
    proxy: Part
    kept: Mapping[str, float]
    """Skill -> which share of the best expert's the proxy must have before anything learns from it."""
    arms: Mapping[str, tuple[Part, ...]]
    """Ways to a student: each goes through its stages from the start."""
    seeds: tuple[int, ...] = (0,)
    """Every arm is trained once with each."""
    compare: tuple[tuple[str, str], ...] = ()
    """Arms whose differences are asked for: all are scored then, and a table is written."""

    def __post_init__(self) -> None:
        plain = {part.recipe for part in _parts(self) if not part.as_dear_as}
        if lacking := {recipe for part in _parts(self) for recipe in part.as_dear_as} - plain:
            raise UsageError(f"as_dear_as names stages that the chain does not have: {', '.join(sorted(lacking))}.")
        unknown = {name for pair in self.compare for name in pair} - set(self.arms)
        if unknown:
            raise UsageError(f"compare names arms that are not there: {', '.join(sorted(unknown))}.")
        if self.world == 0:
            raise UsageError("world must not be 0: the benchmarks ask about that world; take another seed.")


@dataclass(frozen=True, slots=True)
class Plan:
    """A chain and where it happens."""

    name: str
    chain: Chain
    out: Path
    cache: Path
    common: tuple[str, ...] = ()
    """Overrides that every stage gets."""


def chains() -> list[str]:
    """Names of the chains."""
    return sorted(path.stem for path in (config_folder() / "chain").glob("*.yaml"))


def compose_chain(name: str, overrides: Sequence[str]) -> Plan:
    """The chain of `recipe=<name>`, with `experts.steps=10` for its experts, `stage2.batch=8` for its stages of that
    name, and `out=`, `device=` for all. Raises UsageError naming a key amiss.
    """
    raw = yaml.safe_load((config_folder() / "chain" / f"{name}.yaml").read_text())
    chain: Chain = read(Chain, raw, f"chain {name}")
    out, common = Path("runs"), []
    for override in overrides:
        key, _, value = override.partition("=")
        first, _, rest = key.partition(".")
        if key == "out":
            out = Path(value).expanduser()
        elif key == "device":
            common.append(override)
        elif key == "seeds":
            chain = replace(chain, seeds=read(tuple[int, ...], yaml.safe_load(value), "seeds"))
        elif first == "experts" and rest:
            chain = replace(chain, experts=_changed(chain.experts, rest, value))
        elif rest and first in {part.stage for part in _parts(chain)}:
            chain = _with_change(chain, first, rest, value)
        elif key != "recipe":
            known = ", ".join(sorted({part.stage for part in _parts(chain)}))
            raise UsageError(
                f"chain {name} takes out=, device=, seeds=[0,1], experts.<key>= and <stage>.<key>= for its stages "
                f"({known}); got {override!r}."
            )
    cache = Path(os.environ.get("EUPE_EVAL_CACHE") or cache_home()).expanduser()
    return Plan(name, chain, out, cache, tuple(common))


def run(plan: Plan, train: Train, bar: BarFactory, tell: Callable[[str], None]) -> dict[tuple[str, int], Path] | None:
    """Train what is missing; exports of the last stage by (arm, seed), or None where a stage was asked to stop.

    Raises ResultsError where the proxy lost too much.
    """
    root = lessons(plan, bar)
    experts = {skill: plan.out / "experts" / skill for skill in SKILLS}
    for skill, export in experts.items():
        if not export.exists():
            export.parent.mkdir(parents=True, exist_ok=True)
            train_expert(skill, root, export, plan.chain.experts, bar)
    proxy = plan.out / plan.chain.proxy.stage / EXPORTS / "proxy"
    if not proxy.exists() and not train(_order(plan, plan.chain.proxy, root, ())):
        return None
    check_kept(measure_retention(root, experts, proxy, tell), plan.chain.kept)
    ends: dict[tuple[str, int], Path] = {}
    for arm, parts in plan.chain.arms.items():
        for seed in plan.chain.seeds:
            for part, made, changes in _steps(plan, arm, parts, seed):
                if not made.exists() and not train(_order(plan, part, root, changes)):
                    return None
                ends[arm, seed] = made
    return ends


def _steps(plan: Plan, arm: str, parts: Sequence[Part], seed: int) -> Iterator[tuple[Part, Path, tuple[str, ...]]]:
    """(stage, its export, overrides) of an arm."""
    before: Path | None = None
    for at, part in enumerate(parts, start=1):
        # Arms that begin alike share that beginning.
        owner = next(name for name, others in plan.chain.arms.items() if others[:at] == tuple(parts[:at]))
        name = f"{owner}-s{seed}/{part.stage}"
        export = plan.out / name / EXPORTS / "student"
        start = () if before is None else (f"students.student.start='{before}'",)
        yield part, export, (f"name={name}", f"seed={seed}", *start)
        before = export


def _order(plan: Plan, part: Part, root: Path, changes: Sequence[str]) -> Order:
    own = [f"{key}={value}" for key, value in part.change.items()]
    words = [f"recipe={part.recipe}", f"out='{plan.out}'", f"sources.world.root='{root}'", *plan.common, *changes, *own]
    if not part.as_dear_as:
        return compose(words)
    stages = {each.recipe: each for each in _parts(plan.chain) if not each.as_dear_as}
    budget = sum(
        share * costed(_order(plan, stages[recipe], root, ()).stage).total for recipe, share in part.as_dear_as.items()
    )
    made = compose(words).stage
    return compose([*words, f"rate.steps={round(budget / costed(made).total * made.rate.steps)}"])


def lessons(plan: Plan, bar: BarFactory) -> Path:
    """The world that everything learns from, rendered if it is not there."""
    root = plan.cache / "miniature" / world.world_name(_LESSONS, plan.chain.world)
    with bar("world of lessons", world.images(_LESSONS)) as progress:
        done = 0

        def tell(now: int, _: int) -> None:
            nonlocal done
            progress.update(now - done)
            done = now

        return world.make(root, size=_LESSONS, seed=plan.chain.world, progress=tell)


def _parts(chain: Chain) -> Iterator[Part]:
    yield chain.proxy
    for parts in chain.arms.values():
        yield from parts


def _with_change(chain: Chain, stage: str, key: str, value: str) -> Chain:
    def changed(part: Part) -> Part:
        return replace(part, change={**part.change, key: value}) if part.stage == stage else part

    arms = {arm: tuple(changed(part) for part in parts) for arm, parts in chain.arms.items()}
    return replace(chain, proxy=changed(chain.proxy), arms=arms)


def _changed(training: ExpertTraining, key: str, value: str) -> ExpertTraining:
    made: ExpertTraining = read(ExpertTraining, {key: yaml.safe_load(value)}, "experts")
    return replace(training, **{key: getattr(made, key)})

"""What the verbs of the trainer do, around the training itself."""

import sys

from eupe.compose import Order
from eupe.gate import check_teachers
from eupe.log import Log
from eupe.miniature import chain, study
from eupe.miniature.chain import Plan
from eupe.processes import Stop, World, world
from eupe.schedule import Scores, after_step, export_missing
from eupe.train import set_up, train
from evals.context import BarFactory, silent_bar
from evals.progress import bar as bar_on_stderr


def train_chain(plan: Plan, stop: Stop, *, quiet: bool) -> bool:
    """Train what is missing of a chain, in this process alone; whether it is complete."""

    def stage(order: Order) -> bool:
        return train_stage(order, stop, quiet=quiet)

    bar = silent_bar if quiet else bar_on_stderr
    ends = chain.run(plan, stage, bar, tell)
    if ends is not None and plan.chain.compare:
        tell(study.score(ends, plan.chain.compare, plan.out, chain.lessons(plan, bar)))
    for (arm, seed), export in (ends or {}).items():
        tell(f"{arm}, seed {seed}: {export}\n  eupe-eval run --encoder {export} --data miniature")
    return ends is not None


def train_stage(order: Order, stop: Stop, *, quiet: bool) -> bool:
    """Train a stage, export its students, and have them scored where the schedule says so; whether it is complete."""
    scores = Scores(order.stage.schedule, order.folder, tell, stop)
    try:
        with world(order.device) as here:
            done = _train(order, here, stop, scores, quiet=quiet)
        # Only the first process has scores to wait for; the others may leave.
        return done and scores.wait()
    finally:
        scores.close()


def tell(text: str) -> None:
    """On stderr."""
    print(text, file=sys.stderr)


def _train(order: Order, here: World, stop: Stop, scores: Scores, *, quiet: bool) -> bool:
    stage = order.stage
    check_teachers(stage)
    scores.check(here)
    bar: BarFactory = silent_bar if quiet or not here.first else bar_on_stderr
    run = set_up(stage, order.folder, here, bar)
    log = None
    if here.first:
        log = Log(order.folder, stage.name, stage.loggers)
        for note in run.notes:
            tell(note)
    train(run, log, bar, stop, after_step=lambda: after_step(run, scores, tell))
    if run.done < stage.rate.steps:
        return False
    for folder in export_missing(run, scores):
        if here.first and not quiet:
            tell(f"exported {folder}")
    return True

"""What the verbs of the trainer do, around the training itself."""

from eupe.compose import Order
from eupe.log import Log
from eupe.processes import Stop, World
from eupe.train import set_up, train
from evals.context import BarFactory, silent_bar
from evals.session import bar as bar_on_stderr


def train_stage(order: Order, here: World, stop: Stop, *, quiet: bool) -> bool:
    """Train a stage; whether it is complete."""
    bar: BarFactory = silent_bar if quiet or not here.first else bar_on_stderr
    run = set_up(order.stage, order.folder, here, bar)
    log = Log(order.folder, order.stage.name) if here.first else None
    train(run, log, bar, stop)
    return run.done == order.stage.rate.steps

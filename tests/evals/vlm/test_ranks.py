"""Two processes against one, copies and shards; a training that is told to end."""

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evals.vlm import log
from evals.vlm.fit import fit
from evals.vlm.loop import accelerator
from evals.vlm.stopping import stopping
from evals.vlm.tokens import Codec
from tests.eupe.ranks import run_ranks
from tests.evals.vlm.small import GRID, STEPS, TWO, SmallEncoder, after, model, talks, tokenizer

PROGRAM = """
from pathlib import Path
import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from safetensors.torch import save_file
from evals.vlm.fit import fit
from evals.vlm.loop import accelerator, whole_state
from evals.vlm.tokens import Codec
import sys
sys.path.insert(0, here)
from small import GRID, TWO, SmallEncoder, after, model, talks, tokenizer

def go(name, stop, data):
    made, encoder, here = model(tokenizer()), SmallEncoder(), accelerator(torch.device("cpu"))
    assert here.num_processes == 2
    if shard:
        # What `accelerate launch --use_fsdp` sets up on GPUs; on CPUs it offers copies alone.
        here.state.distributed_type = DistributedType.FSDP
        here.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", reshard_after_forward=True
        )
        assert here.is_fsdp2
    codec = Codec(tokenizer(), GRID**2, 128)
    done = fit(TWO, made, encoder, data, codec, Path(folder) / name, here, stop=stop)
    return done, made, here

data = talks(Path(folder) / f"data{shard}", "alignment", 6)
rank = int(__import__("os").environ["RANK"])
# A signal that reaches one process stops both after the same step.
done, _, _ = go(f"shards{shard}", after(7) if rank else after(99), data)
assert not done.finished and len(done.losses) == 7, done
done, made, here = go(f"shards{shard}", lambda: False, data)
assert done.finished
split = [name for name, one in made.named_parameters() if hasattr(one, "to_local")]
assert len(split) == (len(list(made.parameters())) if shard else 0), split
state = {key: value.clone() for key, value in whole_state(made).items()}
save_file(state, Path(folder) / f"{shard}-{rank}.safetensors")
here.wait_for_everyone()
here.end_training()
"""


@pytest.mark.golden
def test_two_processes_are_one(tmp_path: Path) -> None:
    """Same global batches, copies and shards, stopped in between: first loss to 1e-6, the twentieth to 1e-4."""
    data = talks(tmp_path / "data", "alignment", 6)
    codec = Codec(tokenizer(), GRID**2, 128)
    made = model(tokenizer())
    one = fit(TWO, made, SmallEncoder(), data, codec, tmp_path / "one", accelerator(torch.device("cpu")))
    assert len(one.losses) == STEPS
    assert one.losses[-1] < one.losses[0]
    for shard in (0, 1):
        assert run_ranks(PROGRAM, ranks=2, folder=str(tmp_path), here=str(Path(__file__).parent), shard=shard) == [0, 0]
        lines = log.read(tmp_path / f"shards{shard}")
        assert [line["step"] for line in lines] == list(range(STEPS))
        assert lines[0]["loss"] == pytest.approx(one.losses[0], rel=1e-6)
        assert lines[19]["loss"] == pytest.approx(one.losses[19], rel=1e-4)
        assert lines[0]["norm"] == pytest.approx(log.read(tmp_path / "one")[0]["norm"], rel=1e-5)
        first, second = (load_file(tmp_path / f"{shard}-{rank}.safetensors") for rank in (0, 1))
        assert all(torch.equal(value, second[key]) for key, value in first.items())
        for key, value in made.state_dict().items():
            torch.testing.assert_close(first[key], value, rtol=1e-3, atol=1e-4)


def test_a_signal_saves_and_goes_on_its_way(tmp_path: Path) -> None:
    """The step at hand is finished and kept; afterwards the signal does what it would have done."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    data, codec = talks(tmp_path / "data", "alignment", 6), Codec(tokenizer(), GRID**2, 128)
    try:
        with stopping() as stop:
            asked = after(3)

            def told() -> bool:
                if asked():
                    os.kill(os.getpid(), signal.SIGTERM)
                return stop()

            here = accelerator(torch.device("cpu"))
            done = fit(TWO, model(tokenizer()), SmallEncoder(), data, codec, tmp_path / "run", here, stop=told)
            assert came == []
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not done.finished
    assert len(done.losses) == 3
    assert [path.name for path in (tmp_path / "run" / "state").iterdir()] == ["step-00000003"]

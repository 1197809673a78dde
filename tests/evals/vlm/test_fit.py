"""Training of both stages, on one process."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.datasets.llava import Talk, Talks, Turn
from evals.encoders.load import digest
from evals.errors import DataError, NumericsError, ResultsError, UsageError, WeightsError
from evals.vlm import log
from evals.vlm.conversation import prompt
from evals.vlm.fit import Fitted, TalkFeed, fit, view_of
from evals.vlm.generate import Answerer, Request
from evals.vlm.loop import accelerator
from evals.vlm.model import VisionLanguage, see
from evals.vlm.recipe import INSTRUCTION, Recipe
from evals.vlm.tokens import IGNORED, Codec
from tests.evals.vlm.small import COLOURS, GRID, RECIPE, SmallEncoder, after, model, talks, tokenizer

CPU = torch.device("cpu")


def go(
    made: VisionLanguage,
    data: Talks,
    folder: Path,
    recipe: Recipe = RECIPE,
    encoder: SmallEncoder | None = None,
    stop: Callable[[], bool] = lambda: False,
    workers: int = 0,
) -> Fitted:
    """Train on this process."""
    codec = Codec(tokenizer(), GRID**2, 128)
    here = accelerator(CPU)
    return fit(recipe, made, encoder or SmallEncoder(), data, codec, folder, here, workers=workers, stop=stop)


def weights(made: VisionLanguage) -> dict[str, torch.Tensor]:
    """A copy."""
    return {key: value.detach().clone() for key, value in made.state_dict().items()}


def test_alignment_trains_the_projector_alone(tmp_path: Path) -> None:
    """The language model stays as it is, bit for bit; the state on disk is the projector's; the loss falls."""
    made = model(tokenizer())
    before = weights(made)
    done = go(made, talks(tmp_path / "data", "alignment"), tmp_path / "run")
    changed = {key.split(".")[0] for key, value in made.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"projector"}
    assert done.finished
    assert len(done.losses) == 9
    assert done.losses[-1] < done.losses[0]
    (state,) = (tmp_path / "run" / "state").glob("step-*/shard-*")
    assert state.stat().st_size < 4 * 3 * sum(p.numel() for p in made.projector.parameters()) + 4000


def test_instruction_trains_everything_on_mixed_batches(tmp_path: Path) -> None:
    """Embeddings and head too; records without a picture are among them, and some micro-batch mixes both kinds."""
    made, data = model(tokenizer()), talks(tmp_path / "data", "instruction")
    before, encoder = weights(made), SmallEncoder()
    feed = TalkFeed(RECIPE.instruction, data, Codec(tokenizer(), GRID**2, 128), encoder, view_of(RECIPE, encoder))  # type: ignore[arg-type]
    kinds = [tuple(feed.read(micro).has_image_B.tolist()) for step in range(9) for micro in feed.plan(step)]
    assert {(True, True), (False, False)} <= set(kinds)
    assert any(len(set(kind)) == 2 for kind in kinds)
    done = go(made, data, tmp_path / "run", encoder=encoder)
    same = [key for key, value in made.state_dict().items() if torch.equal(value, before[key])]
    assert same == []
    assert done.losses[-1] < done.losses[0]
    assert not made.training


def test_one_batch_is_learned_by_heart_and_answered(tmp_path: Path) -> None:
    """Three colours by their pictures: a loss below 0.05, and the answers are right."""
    made, encoder, words = model(tokenizer()), SmallEncoder(), tokenizer()
    data = talks(tmp_path / "data", "instruction", 3)
    stage = replace(INSTRUCTION, rate=1e-2, batch=3, micro=3, epochs=100, max_length=128, grouped=False)
    done = go(made, data, tmp_path / "run", replace(RECIPE, instruction=stage), encoder)
    assert done.losses[-1] < 0.05
    codec = Codec(words, GRID**2, 128)
    asked = [Request(codec.encode_prompt(prompt("what colour is it ?", image=True)), str(n)) for n in range(3)]
    feed = TalkFeed(stage, data, codec, encoder, view_of(RECIPE, encoder))
    pictures = feed.read(range(3)).images_B3YX
    assert pictures is not None
    answerer = Answerer(made, words, lambda keys: see(encoder, pictures[[*map(int, keys)]], "final", GRID), 2)
    assert answerer.answers(asked, 8) == list(COLOURS)[:3]


def test_a_step_is_the_mean_of_the_means_of_its_micro_batches(tmp_path: Path) -> None:
    """Answers of one word and of four: each micro-batch counts the same, however many tokens it has."""
    data = talks(tmp_path / "data", "instruction", 4)
    long = (Turn("human", "<image>\nwhat is it ?"), Turn("gpt", "it is the picture"))
    data = replace(data, talks=(*data.talks[:3], replace(data.talks[0], id="3", turns=long)))
    stage = replace(INSTRUCTION, rate=1e-2, batch=4, micro=2, max_length=128, grouped=False)
    encoder, codec, made = SmallEncoder(), Codec(tokenizer(), GRID**2, 128), model(tokenizer())
    feed = TalkFeed(stage, data, codec, encoder, view_of(RECIPE, encoder))
    means, counts = [], []
    for samples in feed.plan(0):
        batch = feed.read(samples)
        assert batch.images_B3YX is not None
        visual = see(encoder, batch.images_B3YX, "final", GRID)
        means.append(made(batch.ids_BT, batch.labels_BT, visual).item())
        counts.append(int((batch.labels_BT != IGNORED).sum()))
    assert sorted(counts) == [4, 7]
    done = go(made, data, tmp_path / "run", replace(RECIPE, instruction=stage), encoder)
    assert done.losses == pytest.approx((sum(means) / 2,), rel=1e-6)
    over_tokens = sum(mean * count for mean, count in zip(means, counts, strict=True)) / 11
    assert done.losses[0] != pytest.approx(over_tokens, rel=1e-5)


@pytest.mark.parametrize("stage", ["alignment", "instruction"])
def test_resumed_is_not_interrupted(tmp_path: Path, stage: Any) -> None:
    """Stopped twice: weights, losses and norms are those of a run that never was, bit for bit; the encoder too."""
    data, encoder = talks(tmp_path / "data", stage), SmallEncoder()
    straight, proof = model(tokenizer()), digest(encoder)
    whole = go(straight, data, tmp_path / "whole")
    for calls in (2, 3, 99):
        # As after a kill: everything but the folder is made anew.
        broken = model(tokenizer())
        part = go(broken, data, tmp_path / "parts", encoder=encoder, stop=after(calls))
        assert part.finished == (calls == 99)
    assert len(part.losses) == 9
    assert all(torch.equal(value, broken.state_dict()[key]) for key, value in straight.state_dict().items())
    assert part.losses == whole.losses
    assert [line["norm"] for line in log.read(tmp_path / "parts")] == [
        line["norm"] for line in log.read(tmp_path / "whole")
    ]
    assert part.encoder_digest == digest(encoder) == proof


def test_processes_that_read_ahead_change_nothing(tmp_path: Path) -> None:
    """Records and pictures come in the same order."""
    data = talks(tmp_path / "data", "instruction")
    alone = go(model(tokenizer()), data, tmp_path / "alone")
    assert go(model(tokenizer()), data, tmp_path / "ahead", workers=1).losses == alone.losses


def test_a_finished_stage_is_read_not_trained(tmp_path: Path) -> None:
    """Calling it again fills a new model with what was learned."""
    data = talks(tmp_path / "data", "alignment")
    first, again = model(tokenizer()), model(tokenizer())
    done = go(first, data, tmp_path / "run")
    assert go(again, data, tmp_path / "run", stop=lambda: pytest.fail("a step was taken")) == done
    assert torch.equal(first.projector.outer.weight, again.projector.outer.weight)


def test_work_that_was_lost_is_done_again(tmp_path: Path) -> None:
    """Lines that a kill left in the log after the last state are written anew, once; one that was cut short goes."""
    data = talks(tmp_path / "data", "alignment")
    whole = go(model(tokenizer()), data, tmp_path / "whole")
    go(model(tokenizer()), data, tmp_path / "run", stop=after(4))
    with (tmp_path / "run" / log.FILE).open("a") as file:
        file.write(json.dumps({"step": 4, "loss": 99.0}) + '\n{"step": 5, "lo')
    (tmp_path / "run" / "state" / ".step-00000005.partial").mkdir()
    assert go(model(tokenizer()), data, tmp_path / "run").losses == whole.losses
    assert [path.name for path in (tmp_path / "run" / "state").iterdir()] == ["step-00000009"]


def test_what_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    """Another recipe, encoder, start or data cannot go on from a state."""
    data = talks(tmp_path / "data", "alignment")
    go(model(tokenizer()), data, tmp_path / "run", stop=after(2))
    faster = replace(RECIPE, alignment=replace(RECIPE.alignment, rate=2e-2))
    others: list[tuple[Any, ...]] = [
        (model(tokenizer()), data, tmp_path / "run", faster),
        (model(tokenizer(), 1), data, tmp_path / "run"),
        (model(tokenizer()), replace(data, fingerprint="1" * 64), tmp_path / "run"),
        (model(tokenizer()), data, tmp_path / "run", RECIPE, SmallEncoder(1)),
    ]
    for other in others:
        with pytest.raises(ResultsError, match="the training of something else"):
            go(*other)


def test_a_state_that_is_damaged_is_named(tmp_path: Path) -> None:
    """A file that was cut, and one that another number of processes wrote."""
    data = talks(tmp_path / "data", "alignment")
    go(model(tokenizer()), data, tmp_path / "run", stop=after(2))
    (path,) = (tmp_path / "run" / "state").glob("step-*/shard-*")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ResultsError, match="cannot be read"):
        go(model(tokenizer()), data, tmp_path / "run")
    manifest = path.parent / "state.json"
    manifest.write_text(manifest.read_text().replace('"shards": 1', '"shards": 4'))
    with pytest.raises(ResultsError, match="saved in 4 shards and this run has 1"):
        go(model(tokenizer()), data, tmp_path / "run")


def test_a_loss_that_is_no_number_stops_before_the_weights(tmp_path: Path) -> None:
    """The message names stage, step and records; no weight took it in."""
    made, data = model(tokenizer()), talks(tmp_path / "data", "alignment")
    with torch.no_grad():
        made.language.model.norm.weight[0] = float("nan")  # type: ignore[union-attr,index]
    before = weights(made)
    with pytest.raises(NumericsError, match=r"the loss of small-0: alignment is nan at step 0 \(samples \d+, \d+"):
        go(made, data, tmp_path / "run")
    assert all(torch.equal(value, before[key]) for key, value in made.projector.state_dict(prefix="projector.").items())


def test_samples_without_supervision_add_nothing(tmp_path: Path) -> None:
    """A whole step of them has loss 0 and norm 0, and no weight becomes NaN."""
    said = (Turn("human", "<image>\nwhat colour is it ?"), Turn("gpt", "red ASSISTANT: red"))
    data = talks(tmp_path / "data", "instruction", 4)
    silent = replace(data, talks=tuple(Talk(talk.id, data.talks[0].image, said) for talk in data.talks))
    encoder, codec = SmallEncoder(), Codec(tokenizer(), GRID**2, 128)
    assert RECIPE.instruction is not None
    feed = TalkFeed(RECIPE.instruction, silent, codec, encoder, view_of(RECIPE, encoder))
    assert (feed.read(range(4)).labels_BT == IGNORED).all()
    made = model(tokenizer())
    before = weights(made)
    assert go(made, silent, tmp_path / "run").losses == (0.0, 0.0, 0.0)
    assert {line["norm"] for line in log.read(tmp_path / "run")} == {0.0}
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())


def test_an_encoder_that_changes_is_found_out(tmp_path: Path) -> None:
    """Frozen means that not even a buffer may move."""

    class Restless(SmallEncoder):
        def encode(self, *args: Any) -> Any:
            self.norm.bias[0] += 1
            return super().encode(*args)

    with pytest.raises(WeightsError, match="it is not frozen"):
        go(model(tokenizer()), talks(tmp_path / "data", "alignment"), tmp_path / "run", encoder=Restless())


def test_pictures_and_stages_that_are_not_there(tmp_path: Path) -> None:
    """A picture that vanished is named; a recipe may have one stage only."""
    data = talks(tmp_path / "data", "alignment", 4)
    (tmp_path / "data" / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png"):
        go(model(tokenizer()), data, tmp_path / "run")
    more, short = talks(tmp_path / "more", "instruction"), replace(RECIPE, instruction=None)
    with pytest.raises(UsageError, match="no stage `instruction`"):
        go(model(tokenizer()), more, tmp_path / "run", short)


def test_recomputed_blocks_learn_the_same(tmp_path: Path) -> None:
    """Gradient checkpointing changes memory, not one bit of the weights; clipping changes them, not the first norm."""
    data, ends, norms = talks(tmp_path / "data", "instruction"), [], []
    for name, changes in (("yes", {}), ("no", {"recompute": False}), ("clip", {"clip": 0.1})):
        assert RECIPE.instruction is not None
        made = model(tokenizer())
        changed: dict[str, Any] = changes
        go(made, data, tmp_path / name, replace(RECIPE, instruction=replace(RECIPE.instruction, **changed)))
        ends.append(torch.cat([value.flatten() for value in made.state_dict().values()]))
        norms.append(log.read(tmp_path / name)[0]["norm"])
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])
    assert norms[0] == norms[1] == norms[2] > 0.1


def test_half_precision_keeps_whole_weights(tmp_path: Path) -> None:
    """bf16 is of the arithmetic: weights are fp32, and losses are near those of fp32 but not the same."""
    data, made = talks(tmp_path / "data", "alignment"), model(tokenizer())
    half = go(made, data, tmp_path / "half", replace(RECIPE, dtype="bf16"))
    whole = go(model(tokenizer()), data, tmp_path / "whole")
    assert {parameter.dtype for parameter in made.parameters()} == {torch.float32}
    assert half.losses == pytest.approx(whole.losses, rel=0.05)
    assert half.losses != whole.losses

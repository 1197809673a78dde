"""Our model in lmms-eval, against our own interviews and a plain computation."""

import importlib.util
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image, ImageFile
from torch import Tensor

from evals.context import Context, Roots
from evals.datasets.vlm import pope
from evals.encoders.load import digest
from evals.errors import UsageError, WeightsError
from evals.files import DigestMemo
from evals.preprocess import to_unit
from evals.vlm import questions
from evals.vlm.checkpoint import VlmCard, read_vlm, write_vlm
from evals.vlm.conversation import SYSTEM
from evals.vlm.fit import view_of
from evals.vlm.interview import Interview
from evals.vlm.pictures import geometry
from tests.evals.datasets.vlm.rows import pope_rows, write_parquet
from tests.evals.vlm.small import DIM, GRID, RECIPE, SIDE, SmallEncoder, model, tokenizer

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("lmms_eval") is None, reason="needs the extra lmms"),
    pytest.mark.filterwarnings("ignore"),  # what lmms-eval imports uses what is deprecated elsewhere
]

TASK, SPLIT = "pope", "test"


@pytest.fixture(autouse=True)
def own_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """lmms-eval lets truncated pictures pass, for the whole process, as soon as it is imported; undone afterwards."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model on disk, of weights that were never trained."""
    encoder, words = SmallEncoder(), tokenizer()
    made = model(words, seed=3)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            # As they are drawn, places attend to what is like them, and one word wins whatever is shown.
            parameter.mul_(0.1 if "k_proj" in name else 6 if "projector" in name else 3)
    card = VlmCard(RECIPE.describe(), "small-0", digest(encoder), DIM, RECIPE.layer, SIDE, GRID, words.pad_token_id)
    write_vlm(tmp_path / "vlm", card, made, words)
    return tmp_path / "vlm"


@pytest.fixture
def plugin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model as lmms-eval makes it, from its two strings, with documents."""
    made = _made(monkeypatch, f"vlm={folder},encoder=small", batch_size="3")
    rows = [{**row, "image": _picture(row)} for row in pope_rows(each=6)]
    made.task_dict[TASK] = {SPLIT: rows}
    return made


def _made(monkeypatch: pytest.MonkeyPatch, given: str, **options: Any) -> Any:
    from evals.vlm import lmms

    def loaded(entry: str, digests: DigestMemo) -> SmallEncoder:
        return SmallEncoder(seed=int(entry == "another"))

    monkeypatch.setattr(lmms, "resolve", lambda name, weights: name)
    monkeypatch.setattr(lmms, "load", loaded)
    return lmms.EupeLlava.create_from_arg_string(given, {"max_batch_size": None, "device": None, **options})


def _picture(row: Mapping[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(row["image"]["bytes"]))


def _shown(row: Mapping[str, Any]) -> list[Image.Image]:
    return [row["image"].convert("RGB")]


def _request(number: int, context: str, wanted: object, visual: object = _shown) -> Any:
    return SimpleNamespace(args=(context, wanted, visual, number, TASK, SPLIT))


def _asked(plugin: Any) -> list[str]:
    return [questions.pope(row) for row in plugin.task_dict[TASK][SPLIT]]


def test_answers_are_those_of_our_interview(
    plugin: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same questions from the same table, every picture encoded once, three questions each in three categories."""
    from evals.vlm import lmms

    seen: list[int] = []
    see = lmms.see

    def counted(encoder: SmallEncoder, images: Tensor, *more: Any) -> Tensor:
        seen.append(len(images))
        return see(encoder, images, *more)

    monkeypatch.setattr(lmms, "see", counted)
    told = plugin.generate_until(
        [_request(at, text, {"max_new_tokens": 5, "until": ["\n\n"]}) for at, text in enumerate(_asked(plugin))]
    )
    write_parquet(tmp_path / "vlm-sets" / "POPE", "test", pope_rows(each=6))
    split = pope.load(tmp_path / "vlm-sets", DigestMemo(None))
    interview = Interview(
        read_vlm(folder, SmallEncoder()), SmallEncoder(), RECIPE, Context(Roots({}), tmp_path, tmp_path), 5
    )
    assert told == interview.answers(split, questions.pope, tmp_path / "kept")
    assert len(set(told)) > 1
    assert sum(seen) == 3


def test_answers_keep_their_places_and_lengths(plugin: Any) -> None:
    """Tasks of several lengths in one call; each is what it is alone, whatever else is asked."""
    texts = _asked(plugin)
    lengths = [1, 3, 2, 3, 1, 2]
    together = [_request(at, texts[at], {"max_new_tokens": length}) for at, length in enumerate(lengths)]
    told = plugin.generate_until(together)
    assert all(0 < len(text.split()) <= length for text, length in zip(told, lengths, strict=True))
    assert len(told[1].split()) > 1
    assert told == [plugin.generate_until([one])[0] for one in together]


def test_a_stop_string_ends_an_answer(plugin: Any) -> None:
    """The first of several; none, and one that lmms-eval leaves empty, end nothing."""
    text = _asked(plugin)[0]

    def said(until: object) -> str:
        (answer,) = plugin.generate_until([_request(0, text, {"max_new_tokens": 6, "until": until})])
        return str(answer)

    whole = said(None)
    words = whole.split(" ")
    assert len(words) > 2
    assert said([None]) == said([]) == said(["never"]) == whole
    first, second = (f" {word}" for word in words[1:3])  # a word alone may be part of one before it
    assert said(second) == said(["never", second, "never"]) == " ".join(words[:2])
    assert said([second, first]) == words[0]


def test_where_the_picture_stands_is_ours(plugin: Any) -> None:
    """A marker that a task wrote into its text is not shown twice, nor read as text."""
    plain = _request(0, "what colour is it", {"max_new_tokens": 4})
    marked = _request(0, "<image>\nwhat colour is it", {"max_new_tokens": 4})
    assert plugin.generate_until([plain]) == plugin.generate_until([marked])


@pytest.mark.parametrize("visual", [None, lambda row: None, lambda row: []])
def test_questions_without_a_picture(plugin: Any, visual: Any) -> None:
    """However a task says so, and beside a question that has one."""
    alone, beside = [_request(0, "what colour", {"max_new_tokens": 4}, way) for way in (visual, _shown)]
    told = plugin.generate_until([alone, beside])
    assert told == [*plugin.generate_until([alone]), *plugin.generate_until([beside])]
    assert told[0] != told[1]


def _plain(folder: Path, text: str, answer: str, picture: Image.Image | None) -> tuple[float, bool]:
    """Mean loss of an answer, and whether each token of it is the likeliest, from the parts of the model alone."""
    loaded, encoder, words = read_vlm(folder, SmallEncoder()), SmallEncoder(), tokenizer()
    language: Any = loaded.model.language
    embed = language.get_input_embeddings()

    def ids(text: str) -> Tensor:
        return torch.tensor(words(text, add_special_tokens=False)["input_ids"])

    wanted = ids(answer)
    if picture is None:
        rows = [embed(ids(f"{SYSTEM} USER: {text} ASSISTANT:"))]
    else:
        view = view_of(RECIPE, encoder)
        square = to_unit(geometry("pad", encoder.spec, view).apply(picture.convert("RGB"), encoder.spec.patch))
        patches = encoder(square[None]).patches_BHWD.reshape(GRID**2, DIM)
        after = embed(ids(f"\n{text} ASSISTANT:"))
        rows = [embed(ids(f"{SYSTEM} USER: ")), loaded.model.projector(patches[None])[0], after]
    with torch.no_grad():
        logits = language(inputs_embeds=torch.cat([*rows, embed(wanted)])[None]).logits[0]
    told = logits[-len(wanted) - 1 : -1].log_softmax(-1)
    loss = -sum(float(row[token]) for row, token in zip(told, wanted, strict=True)) / len(wanted)
    return loss, bool((told.argmax(-1) == wanted).all())


@pytest.mark.parametrize("shown", [True, False])
def test_losses_of_continuations(plugin: Any, folder: Path, shown: bool) -> None:
    """Against a plain pass: answers of one word and of more, given as text or by the document, and the greedy one."""
    row = plugin.task_dict[TASK][SPLIT][0]
    visual = _shown if shown else None
    text = "what colour is it ?"
    (greedy,) = plugin.generate_until([_request(0, text, {"max_new_tokens": 3}, visual)])
    answers = ["red", " red", "the picture shows blue", greedy]
    requests = [_request(0, text, answer, visual) for answer in answers]
    requests.append(_request(0, text, lambda document: document["answer"], visual))
    told = [result.text for result in plugin.loglikelihood(requests)]
    for (loss, is_greedy), answer in zip(told, [*answers, row["answer"]], strict=True):
        expected, likeliest = _plain(folder, text, answer.strip(), row["image"] if shown else None)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert is_greedy == likeliest
    assert told[0] == told[1]
    assert [is_greedy for _, is_greedy in told] == [False, False, False, True, False]


def test_losses_survive_the_evaluator(plugin: Any) -> None:
    """It must hand the pair to the task as it is; of a bare pair release 0.7.3 makes text."""
    from lmms_eval.api.instance import unwrap_generation_output

    (result,) = plugin.loglikelihood([_request(0, "what", "red")])
    pair, _ = unwrap_generation_output(result)
    assert pair == result.text
    assert isinstance(pair[0], float) and isinstance(pair[1], bool)


def test_other_searches_are_not_done_in_silence(plugin: Any) -> None:
    """A task that samples is answered greedily, and that is said; what greedy search does is not."""
    quiet = {"max_new_tokens": 2, "temperature": 0.0, "do_sample": False, "num_beams": 1, "top_p": 1.0}
    with pytest.warns(UserWarning, match=r"pope asks for \{'temperature': 0.7\}; the answers of eupe_llava are greedy"):
        loud = plugin.generate_until([_request(0, "what", {**quiet, "temperature": 0.7})])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plugin.generate_until([_request(0, "what", quiet)]) == loud


def test_tasks_that_are_not_for_it(plugin: Any) -> None:
    """Two pictures, something else than a picture, and several rounds."""
    for visual in (lambda row: [row["image"]] * 2, lambda row: ["film.mp4"]):
        with pytest.raises(UsageError, match="one picture at most; document 0 of pope"):
            plugin.generate_until([_request(0, "what", {}, visual)])
    with pytest.raises(UsageError, match="single questions"):
        plugin.generate_until_multi_round([])


@pytest.mark.parametrize(
    ("given", "options", "what"),
    [
        (",max_pixels=3", {}, "takes vlm, encoder, weights, device and batch_size, and not max_pixels"),
        ("", {"batch_size": "auto"}, "needs a whole number as --batch_size, such as 8; got 'auto'"),
        ("", {"batch_size": "0"}, "got '0'"),
        ("", {"device": "quick"}, "device 'quick' cannot be used"),
    ],
)
def test_arguments(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: str, options: dict[str, str], what: str
) -> None:
    """Each mistake is named."""
    with pytest.raises(UsageError, match=what):
        _made(monkeypatch, f"vlm={folder},encoder=small{given}", **options)


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cuda` is that of the process; a number, and the CPU, stay what they are."""
    from evals.vlm import lmms

    monkeypatch.setattr(lmms, "resolve_device", torch.device)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [str(lmms._device(name)) for name in ("cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:0", "cpu"]


def test_another_encoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its features mean nothing to the projector."""
    with pytest.raises(WeightsError, match="was trained on the encoder small-0"):
        _made(monkeypatch, f"vlm={folder},encoder=another")


def test_what_lmms_eval_asks_of_a_model(plugin: Any) -> None:
    """Where to gather, which process it is, and that nothing heavy is left afterwards."""
    assert plugin.device == torch.device("cpu")
    assert (plugin.rank, plugin.world_size) == (0, 1)
    plugin.clean()
    assert not any(isinstance(value, torch.nn.Module) for value in vars(plugin).values())


def test_pictures_are_not_all_in_memory(plugin: Any) -> None:
    """Between two calls nothing of the documents is kept."""
    plugin.generate_until([_request(at, "what", {"max_new_tokens": 1}) for at in range(4)])
    assert plugin._where == {}


def test_the_entry_point() -> None:
    """lmms-eval finds the model by its name, through what is installed."""
    from lmms_eval.models import get_model

    from evals.vlm.lmms import EupeLlava

    assert get_model("eupe_llava") is EupeLlava

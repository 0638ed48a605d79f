"""Pages that questions name, in a text whose words are one token each."""

from __future__ import annotations

import mlx.core as mx
import pytest
from ram_pages import RamPages
from tiny import llama_model, with_memory

from mlx_edgeinf.cache import Layout
from mlx_edgeinf.generation import read_on
from mlx_edgeinf.models import load_base
from mlx_edgeinf.recall.lexicon import MOST, Lexicon
from mlx_edgeinf.starter import starter_model
from mlx_edgeinf.turns import Prompter

PAGE, LENGTH = 16, 2450
COMMON = "the of and in is a to was it that".split()
RARE = "Kaunas tavern kaunas Tavern harbour whale letters 31415".split()


class Words:
    """Prompts of words, a space before each but one; what is not known is the last of all."""

    known = [*COMMON, *RARE, "?"]

    def spellings(self) -> list[str]:
        return [word if word == "tavern" else f" {word}" for word in self.known]

    def text(self, text: str) -> list[int]:
        return [self.known.index(word if word in self.known else "?") for word in text.split()]


@pytest.fixture(scope="module")
def cache():
    """Read so far that 151 pages and a half have left the window; of how many tokens that is."""
    model = with_memory(llama_model(), layout=Layout(sinks=2, window=8, segment=24))
    cache = model.make_cache(pages=RamPages(model))
    read_on(model, mx.zeros(LENGTH, mx.int32), cache)
    return cache


def written(*placed: tuple[int, str]) -> list[int]:
    """A text of common words, with others from some of its places on."""
    words = [COMMON[at * at % 10] for at in range(LENGTH)]
    for place, text in placed:
        words[place : place + len(text.split())] = text.split()
    return Words().text(" ".join(words))


def named(cache: list, tokens: list[int], *questions: str) -> list[int]:
    return Lexicon(Words()).named(tokens, questions, cache[0].recall).tolist()


def test_the_page_with_the_words_of_the_question_is_named(cache):
    tokens = written((2 + 90 * PAGE, "the tavern in Kaunas is 31415"), (2 + 40 * PAGE, "tavern of letters"))
    assert 90 in named(cache, tokens, "the tavern in Kaunas is")[:2]


def test_a_sentence_that_goes_on_behind_its_page_is_found_whole(cache):
    """Though as many words of the question stand on each of other pages."""
    others = [(2 + page * PAGE, "tavern whale") for page in (10, 12, 14)]
    tokens = written(*others, (2 + 91 * PAGE - 1, "Kaunas harbour letters"))
    assert named(cache, tokens, "letters harbour Kaunas tavern whale")[:2] == [90, 91]


def test_the_page_behind_a_named_one_comes_too(cache):
    """The number may stand there."""
    pages = named(cache, written((2 + 91 * PAGE - 1, "Kaunas 31415"), (2 + 30 * PAGE, "Kaunas")), "Kaunas")
    assert set(pages) == {29, 30, 31, 89, 90, 91}


def test_rare_words_count_more_than_common_ones(cache):
    """One on one page beats one that stands on many."""
    often = [(2 + page * PAGE, "harbour") for page in range(40, 52)]
    assert 70 in named(cache, written(*often, (2 + 70 * PAGE, "whale")), "the harbour and the whale")[:2]


def test_words_on_many_pages_name_none_of_them(cache):
    """Of a question in such words alone, all that comes back is chosen by attention."""
    tokens = written(*((2 + page * PAGE, "whale") for page in range(0, 150, 8)))
    assert named(cache, tokens, "what of the whale ?") == [] and named(cache, tokens, "") == []


@pytest.mark.parametrize("question", ["kaunas", "Kaunas", "KAUNAS", "tavern of kaunas"])
def test_capitals_make_no_difference(cache, question):
    assert 70 in named(cache, written((2 + 70 * PAGE, "Kaunas")), question)[:2]


def test_earlier_questions_count_but_less_than_the_last(cache):
    tokens = written((2 + 30 * PAGE, "whale"), (2 + 60 * PAGE, "harbour"), (2 + 100 * PAGE, "whale harbour"))
    pages = named(cache, tokens, "the whale", "the harbour")
    assert {99, 100} == set(pages[:2])
    tokens = written((2 + 30 * PAGE, "whale"), (2 + 60 * PAGE, "harbour"))
    for earlier, last, first, second in (("whale", "harbour", 60, 30), ("harbour", "whale", 30, 60)):
        pages = named(cache, tokens, f"the {earlier}", f"the {last}")
        assert pages.index(first) < pages.index(second)


def test_the_last_question_decides_how_much_a_word_of_several_counts(cache):
    tokens = written((2 + 30 * PAGE, "whale"), (2 + 60 * PAGE, "harbour"))
    assert named(cache, tokens, "whale harbour", "whale")[:2] in ([29, 30], [30, 31])


def test_what_holds_much_less_than_the_best_is_not_named(cache):
    """However many of the question's words were said elsewhere."""
    less = [(2 + page * PAGE, "tavern") for page in range(20, 50, 3)]
    tokens = written(*less, (2 + 90 * PAGE, "tavern of Kaunas"))
    assert set(named(cache, tokens, "the tavern of Kaunas")) == {89, 90, 91}
    assert {20, 47} <= set(named(cache, tokens, "the tavern"))


def test_only_so_many_are_named_and_none_twice(cache):
    whales = [(2 + page * PAGE, "whale whale") for page in range(0, 28, 2)]
    tokens = written(*whales, *((2 + page * PAGE, "letters") for page in range(60, 88, 2)))
    pages = named(cache, tokens, "whale letters")
    assert len(pages) == MOST == len(set(pages)) and max(pages) < 151


def test_nothing_is_named_by_words_that_are_not_there(cache):
    assert named(cache, written(), "harbour") == []


def test_what_has_not_left_the_window_is_not_on_disk(cache):
    evicted = cache[0].recall.index.tokens
    assert evicted % PAGE
    whole = evicted // PAGE * PAGE
    assert named(cache, written((2 + whole - 1, "whale")), "whale") == [whole // PAGE - 2, whole // PAGE - 1]
    assert named(cache, written((2 + whole, "whale")), "whale") == []
    assert named(cache, written((0, "whale whale")), "whale") == []


def test_without_recall_nothing_is_named():
    model = with_memory(llama_model())
    assert Lexicon(Words()).named(written(), ["the"], model.make_cache()[0].recall).size == 0


def test_the_starter_models_tokens_name_what_was_said():
    """As people type it: without capitals, which makes other tokens of a name."""
    _, tokenizer = load_base(str(starter_model()))
    prompter = Prompter(tokenizer)
    tokens = prompter.text("It rained, and the tea was cold. " * 300)[: LENGTH]
    said = prompter.text(" The tavern in Kaunas, of all taverns, was sold by Queequeg.")
    tokens[2 + 70 * PAGE : 2 + 70 * PAGE + len(said)] = said
    model = with_memory(llama_model(), layout=Layout(sinks=2, window=8, segment=24))
    cache = model.make_cache(pages=RamPages(model))
    read_on(model, mx.zeros(LENGTH, mx.int32), cache)
    for question in ("Who sold the tavern in Kaunas?", "the tavern in kaunas?", "what did queequeg do",
                     "Taverns? TAVERNS?"):  # fmt: skip
        assert 70 in Lexicon(prompter).named(tokens, [question], cache[0].recall)[:2]

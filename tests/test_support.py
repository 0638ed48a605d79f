from __future__ import annotations

import random
import time
from string import ascii_lowercase

import pytest

from mlx_edgeinf.documents import Page
from mlx_edgeinf.support import MOST, Evidence, cited, sentences

PAGES = [
    "Anna kept forty jars of honey for the fair. The roof of her house had to be mended. It rained often.",
    "The Bergen archive is opened by the code 48213. Nobody in the town had ever seen the inside of it.",
    "An old woman asked where the bees were kept. She bought twelve jars.\nThen she walked home to Antwerp.",
    "The prices rose by 4.5 percent to 1,200 kroner. The council of Bergen met twice about that in spring.",
    "",
]


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return Evidence(PAGES)


def quoted(evidence: Evidence, sentence: str) -> list[str]:
    return [PAGES[page][start:end] for page, start, end, _ in evidence.supporting(sentence)]


def test_a_sentence_finds_the_passage_that_says_it_and_no_more_of_the_page(evidence):
    assert quoted(evidence, "Anna kept jars of honey so that her roof could be mended.") == [
        "Anna kept forty jars of honey for the fair. The roof of her house had to be mended."
    ]
    assert quoted(evidence, "The old woman asked where they keep the bees.") == [
        "An old woman asked where the bees were kept."
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "The submarine sank near the coast of Portugal after an explosion.",
        "It was so.",
        "",
        "...",
    ],
)
def test_what_is_not_there_or_says_nothing_has_no_page(evidence, sentence):
    assert evidence.supporting(sentence) == ()


def test_a_page_of_nothing_but_marks_takes_no_time():
    began = time.monotonic()
    assert list(sentences("!" * 50_000 + "x")) == [(0, 50_001)]
    assert time.monotonic() - began < 5


def test_a_number_that_the_passage_lacks_speaks_against_it(evidence):
    assert evidence.pages("In Bergen, the code 48213 opens the archive.") == [2]
    assert evidence.pages("In Bergen, the code 48214 opens the archive.") == []
    assert evidence.pages("Prices rose to 1200 kroner, by 4.5 percent.") == [4]
    assert evidence.pages("Prices rose to 1200 kroner, by 4.6 percent.") == []
    pages = ["A speedup of 2x was seen on 3 machines.", "Nothing of that kind stands here."]
    assert Evidence(pages).pages("A speedup of 2X was seen.") == [1]
    assert Evidence(pages).pages("A speedup of 3x was seen.") == []


def test_a_name_that_the_page_lacks_speaks_against_it(evidence):
    assert evidence.pages("The archive of Antwerp is opened by the code 48213.") == []
    assert evidence.pages("The archive of Lisbon is opened by the code 48213.") == []


def test_capitals_alone_make_no_name_of_a_word(evidence):
    assert evidence.pages("The Archive is opened by the Code 48213.") == [2]


def test_pages_that_say_the_same_are_all_given_up_to_a_few():
    pages = [f"The harbour of Riga froze over in the winter. Day {number} was quiet." for number in range(9)]
    pages += [f"Something else altogether stands here, in sentence {number}." for number in range(9)]
    found = Evidence(pages).supporting("In winter, the harbour of Riga froze.")
    assert len({passage.page for passage in found}) == len(found) == MOST
    assert all(passage.page < 9 for passage in found)


def test_a_passage_never_leaves_its_page():
    pages = ["The grey cat slept on.", "A dog barked loudly."]
    assert Evidence(["\n".join(pages)]).pages("The cat slept and a dog barked.") == [1]
    assert Evidence(pages).pages("The cat slept and a dog barked.") == []


def test_scripts_without_spaces_are_compared_by_pairs_of_characters():
    pages = ["安娜为集市准备了四十罐蜂蜜。房顶需要修理。", "老妇人问蜜蜂养在哪里。", "价格在春天上涨了。"]
    assert Evidence(pages).pages("安娜准备了蜂蜜。") == [1]
    assert Evidence(pages).pages("潜水艇沉没了。") == []


def test_a_document_without_text_supports_nothing():
    assert Evidence(["", "\n"]).supporting("Anna kept forty jars of honey.") == ()
    assert Evidence([]).supporting("Anna kept forty jars of honey.") == ()


def test_sentences_end_where_people_would_say_so():
    text = 'Dr. Smith met J. Jones, e.g. twice. "Why?" he asked. It was 3.5 m.\n1. One\n- another. 是。好'
    assert [text[start:end] for start, end in sentences(text)] == [
        "Dr. Smith met J. Jones, e.g. twice.", '"Why?" he asked.', "It was 3.5 m.", "1. One",
        "- another.", "是。", "好",
    ]  # fmt: skip


def test_pages_stand_behind_the_sentences_they_support(evidence):
    pages = [Page(number, text) for number, text in enumerate(PAGES, 1)]
    text = "**Anna** kept forty jars of honey. What a triumph!\n\n- An old woman asked where the bees were."
    assert cited(text, evidence.supporting, pages) == (
        "**Anna** kept forty jars of honey. (p. 1) What a triumph!\n\n"
        "- An old woman asked where the bees were. (p. 3)"
    )


def test_a_long_document_is_indexed_in_seconds_and_asked_in_milliseconds():
    rng = random.Random(0)
    vocabulary = ["".join(rng.choices(ascii_lowercase, k=6)) for _ in range(9000)]
    weights = [1 / (rank + 1) for rank in range(9000)]
    pages = []
    for _ in range(500):
        said = rng.choices(vocabulary, weights, k=480)
        pages.append(" ".join(" ".join(said[at : at + 16]) + "." for at in range(0, 480, 16)))
    began = time.process_time()
    evidence = Evidence(pages)
    indexed = time.process_time() - began
    for page in range(0, 500, 25):
        assert page + 1 in evidence.pages(pages[page].split(".")[3])
    asked = (time.process_time() - began - indexed) / 20
    assert indexed < 3 and asked < 0.1

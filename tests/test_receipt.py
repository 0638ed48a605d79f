from __future__ import annotations

import pytest

from mlx_edgeinf.events import Receipt


def receipt(**changes) -> Receipt:
    fields = {
        "document": "book.pdf", "pages": 352, "pages_read": 352, "pages_without_text": (),
        "tokens": 163204, "tokens_read": 163204, "seconds": 723.0, "model": "Small",
        "strategy": "one-shot", "stopped": False, "state_bytes": 1, "peak_bytes": 1,
    }  # fmt: skip
    return Receipt(**fields | changes)


@pytest.mark.parametrize("changes, sentence", [
    ({}, "Read all 352 pages (163,204 tokens) in 12 min 3 s with Small."),
    ({"pages": 1, "pages_read": 1, "tokens": 1, "tokens_read": 1, "seconds": 2},
     "Read 1 page (1 token) in 2 s with Small."),
    ({"pages_read": 14, "tokens_read": 6000},
     "Read only pages 1 to 14 of 352 (6,000 of 163,204 tokens) in 12 min 3 s with Small."),
    ({"pages_read": 14, "tokens_read": 6000, "stopped": True},
     "Stopped at page 14 of 352 (6,000 of 163,204 tokens) in 12 min 3 s with Small."),
    ({"pages_without_text": (3, 17, 18, 19)},
     "Read all 352 pages (163,204 tokens) in 12 min 3 s with Small. "
     "Pages without text: 3, 17–19."),
])  # fmt: skip
def test_a_receipt_in_words(changes, sentence):
    assert receipt(**changes).sentence() == sentence

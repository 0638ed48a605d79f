"""Tables of the invented facts that were found, over all texts in which some were hidden.

Entries come from `facts`, a results file for each text: by length and row, how each fact was answered. Facts
of the same length stand together, whichever text they were hidden in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from ..wording import count, size
from .facts import READINGS, pairs
from .gap import FULL, OFF, RECALL, check_of_one
from .hiding import KINDS, SINGLE
from .results import Results, described
from .scores import FIFTHS
from .tables import folded, markdown, with_interval

Answers = list[dict]


def summary(folder: Path, names: Iterable[str]) -> str:
    """Markdown: the tables over some results files, and where each was measured.

    Raises:
        ResultsError: one of them was not measured, or not to its end, or they are of several models or gates.
    """
    texts = [Results.read(folder / f"{name}.json") for name in names]
    check_of_one(folder, [(text, [(str(at), row) for at, row in _asked(text)]) for text in texts])
    return "\n\n".join([
        *(_scores(texts, kind) for kind in KINDS), _depths(texts), _costs(texts),
        *(described(text.setup, lengths=_lengths([text])) for text in texts),
    ])  # fmt: skip


def _scores(texts: Sequence[Results], kind: str) -> str:
    """How often the answer is exact, and its log-probability, by row and length."""
    lengths = _lengths(texts)
    asked = (len(_answers(texts, length, RECALL, kind)) for length in lengths)
    heads = (f"{count(length)} tokens (n {number})" for length, number in zip(lengths, asked))
    lines = [[f"{kind}: exact; log-probability", *heads]]
    for row in chain(*READINGS.values()):
        answers = [_answers(texts, length, row, kind) for length in lengths]
        if any(answers):
            lines.append([row, *(_score(each) if each else "-" for each in answers)])
    lines.append([f"{RECALL} minus {FULL}", *(_apart(texts, length, kind) for length in lengths)])
    return markdown(lines)


def _apart(texts: Sequence[Results], length: int, kind: str) -> str:
    """Fact by fact, at one length."""
    ours, full = (_answers(texts, length, row, kind) for row in (RECALL, FULL))
    if not full:
        return "-"
    apart = (_values(ours, name) - _values(full, name) for name in ("exact", "log_probability"))
    return "; ".join(with_interval(values, 2) for values in apart)


def _depths(texts: Sequence[Results]) -> str:
    """Of `ours with recall` the same by where a single fact stands: each text's are asked in their order."""
    lines = [[f"{RECALL}, {SINGLE}, standing at", *FIFTHS]]
    for length in _lengths(texts):
        split = [np.array_split(_answers([text], length, RECALL, SINGLE), len(FIFTHS)) for text in texts]
        lines.append([f"{count(length)} tokens", *(_mean(np.concatenate(fifth)) for fifth in zip(*split))])
    return folded("By where the fact stands", markdown(lines))


def _costs(texts: Sequence[Results]) -> str:
    """What `ours with recall` takes at each length, of the first text that was read so far."""
    lines = [[RECALL, "peak memory, reading", "state", "on disk", "written, tokens/s", "with recall off"]]
    for length in _lengths(texts):
        entries = next(filter(None, (text.group(str(length)) for text in texts)))
        entry, speeds = entries[RECALL], (f"{entries[row]['decode']:.1f}" for row in (RECALL, OFF))
        sizes = (size(entry[key]) for key in ("peak_bytes", "state_bytes", "disk_bytes"))
        lines.append([f"{count(length)} tokens", *sizes, *speeds])
    return markdown(lines)


def _lengths(texts: Sequence[Results]) -> list[int]:
    """At which facts were asked for."""
    return sorted({int(length) for text in texts for length in text.entries})


def _asked(text: Results) -> list[tuple[int, str]]:
    """What there must be of a text, by length and row."""
    return pairs(_lengths([text]), text.setup["context"])


def _answers(texts: Sequence[Results], length: int, row: str, kind: str) -> Answers:
    """Of all texts; none where none was read so far in this way."""
    entries = (text.group(str(length)).get(row) for text in texts)
    return [answer for entry in entries if entry for answer in entry[kind]]


def _mean(answers: Sequence[dict]) -> str:
    if not len(answers):
        return "-"
    exact, nats = (_values(answers, name).mean() for name in ("exact", "log_probability"))
    return f"{exact:.2f}; {nats:.2f}"


def _score(answers: Answers) -> str:
    return f"{with_interval(_values(answers, 'exact'), 2)}; {_values(answers, 'log_probability').mean():.2f}"


def _values(answers: Sequence[dict], name: str) -> np.ndarray:
    return np.array([answer[name] for answer in answers], float)

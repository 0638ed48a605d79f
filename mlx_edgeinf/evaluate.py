"""python -m mlx_edgeinf.evaluate: what the memory keeps, against full attention and other ways to forget.

`perplexity`: held-out documents are read from the same place by every row, and the negative
log-likelihood (NLL, nats) of their tokens beyond the window is compared:

    gap closed = (NLL of sinks + window - NLL of the row) / (NLL of sinks + window - NLL of full attention)

0 is a model that forgets what leaves the window, 1 is one that forgets nothing.

What else is measured (each in the module of `measure` that is named):

    lengths     the loss far beyond the base model's context, after everything and after the latest alone
    gates       the loss under gates that were trained otherwise, or on other base weights (`variants`)
    heads       what the memory of each head buys, and a split of the bytes by that
    mixes       the loss by what the bytes of a memory are spent on
    selection   the loss with exact recall, by how its pages are chosen
    ahead       what reading recalled pages a layer ahead would bring
    answers     documents are read by every row, and then questions about them are asked (`tasks`)
    retention   questions about stories by how long ago they were read
    facts       invented facts in one long reading, asked for at several lengths
    support     how often the pages linked to a sentence are its evidence (`claims`); needs no model

    python -m mlx_edgeinf.evaluate perplexity --data FOLDER
    mlx.launch -n 2 -- python -m mlx_edgeinf.evaluate perplexity --data FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import asdict
from typing import Any

import mlx.core as mx

from .adapter import AdapterError
from .basemodel import UnsupportedModel, trained_context
from .document_memory import SaveFileError
from .measure import (
    ahead,
    evidence,
    facts,
    found,
    gap,
    heads,
    lengths,
    mixes,
    retention,
    scores,
    selection,
    variants,
)
from .measure.answers import Examiner, measure_answers
from .measure.gap import BY_MASS, OF_CENTROIDS, RECALL, RECALL_SHUFFLED, ROWS, SHUFFLED, WINDOW, ZEROED
from .measure.hiding import LADDER, Text, books, hide
from .measure.metrics import EXACT_MATCH, GATHERED, Metric, RougeMissing, rouge
from .measure.options import parse
from .measure.passages import passages
from .measure.perplexity import measure_losses
from .measure.readings import RECALLED, THROUGHOUT_RECALLED, Reader
from .measure.results import Results, ResultsError, command, surroundings
from .measure.subject import Subject
from .measure.tasks import is_gathering, is_retrieval, load_task
from .models import base_name
from .starter import StarterModelError
from .terminal import run
from .training.corpus import CorpusError

# What asks how the memory is made up, rather than what it is good for, is left to perplexity.
ANSWERING = tuple(row for row in ROWS if row not in (*OF_CENTROIDS, *BY_MASS, RECALL_SHUFFLED, ZEROED))


def _perplexity(args: argparse.Namespace) -> str:
    """Measure what the results file does not hold yet, one document and row at a time; the tables."""
    _check_lender(args.documents)
    subject = Subject.load(args.model, args.adapter_path)
    edges = _edges(subject, args.length)
    documents = passages(args.data, subject.tokenizer, args.documents, args.length)
    setup = _setup(args, documents, subject) | {"edges": edges, "rows": subject.rows(args.rows)}
    results = Results.resume(args.output, setup)
    measure_losses(subject, documents, results)
    return gap.summary(results)


def _gates(args: argparse.Namespace) -> str:
    """Measure what the results file of a base model and length does not hold yet; the table."""
    folders = {folder.resolve().name: folder for folder in args.adapters}
    if len(folders) < len(args.adapters):
        raise CorpusError("Two of the --adapters have the same name: rename one of their folders.")
    told = {}
    for name, folder in folders.items():
        subject = Subject.load(args.model, folder)
        told[name] = variants.described_gates(folder, subject)
    edges, base = _edges(subject, args.length), base_name(args.model)
    documents = passages(args.data, subject.tokenizer, args.documents, args.length)
    setup = _setup(_without(args, "adapters"), documents) | {"edges": edges, "base_model": base}
    results = Results.resume(args.output / f"{base}-{args.length}.json", setup)
    variants.add_gates(told, results)
    del subject  # each is loaded anew, so that one model is held at a time
    variants.measure_variants(args.model, folders, documents, results)
    return variants.summary(results)


def _mixes(args: argparse.Namespace) -> str:
    """Measure what the results file does not hold yet; the table."""
    subject = _of_centroids(args)
    edges = [2 * subject.config.window, *sorted({*args.lengths})]
    if edges[0] >= edges[1]:
        raise CorpusError(f"--lengths must be more than {edges[0]}, two windows of these gates.")
    documents = passages(args.data, subject.tokenizer, args.documents, edges[-1])
    setup = _setup(_without(args, "mixes"), documents, subject) | {"edges": edges, "gates": subject.gates}
    results = Results.resume(args.output, setup)
    mixes.measure_mixes(Reader(subject.model, subject.untrained, documents, edges[0]), args.mixes, results)
    return mixes.summary(results)


def _heads(args: argparse.Namespace) -> str:
    """Measure what the results file does not hold yet; the tables."""
    if args.documents < 2:
        raise CorpusError("Half of the documents tell what heads buy, the rest tests it: take 2 or more.")
    subject = _of_centroids(args)
    edges = _edges(subject, args.length)
    documents = passages(args.data, subject.tokenizer, args.documents, args.length)
    setup = _setup(args, documents, subject) | {"edges": edges, "gates": subject.gates}
    results = Results.resume(args.output, setup)
    heads.measure_heads(Reader(subject.model, subject.untrained, documents, edges[0]), results)
    return heads.summary(results)


def _selection(args: argparse.Namespace) -> str:
    """Measure what the results file of this length does not hold yet; the table."""
    subject = Subject.load(args.model, args.adapter_path)
    edges = _edges(subject, args.length)
    documents = passages(args.data, subject.tokenizer, args.documents, args.length)
    setup = _setup(_without(args, "rows"), documents, subject) | {"edges": edges}
    results = Results.resume(args.output / f"{args.length}.json", setup)
    reader = Reader(subject.model, subject.untrained, documents, edges[0])
    selection.measure_selection(reader, args.rows, results)
    return selection.summary(results)


def _ahead(args: argparse.Namespace) -> str:
    """Measure what the results file does not hold yet; the tables."""
    subject = Subject.load(args.model, args.adapter_path)
    documents = passages(args.data, subject.tokenizer, args.documents, args.length)
    setup = _setup(args, documents, subject) | {"gates": subject.gates, "recall": THROUGHOUT_RECALLED}
    results = Results.resume(args.output, setup)
    ahead.measure_ahead(Reader(subject.model, subject.untrained, documents, 0), results)
    return ahead.summary(results)


def _lengths(args: argparse.Namespace) -> str:
    """Measure what the results file does not hold yet, one document and row at a time; the table."""
    subject = Subject.load(args.model, args.adapter_path)
    wanted, recent = sorted(args.lengths), min(args.lengths)
    if recent <= lengths.COUNTED:
        raise CorpusError(f"--lengths must all be more than {lengths.COUNTED}, the tokens whose loss counts.")
    documents = passages(args.data, subject.tokenizer, args.documents, wanted[-1])
    setup = _setup(args, documents, subject) | {"lengths": wanted, "recent": recent}
    results = Results.resume(args.output, setup)
    lengths.measure_lengths(subject, documents, results)
    return lengths.summary(results)


def _answers(args: argparse.Namespace) -> str:
    """Measure what the results files of some tasks do not hold yet; the tables."""
    rows = [row for row in ROWS if row == WINDOW or row in (args.rows or ANSWERING)]
    if SHUFFLED in rows:
        _check_lender(args.documents)
    summaries = rouge() if args.rouge else None
    subject = Subject.load(args.model, args.adapter_path)
    # All of them before the first is measured, so that a mistake shows at once.
    tasks = {task: load_task(task, args.data, args.documents, subject.tokenizer) for task in args.tasks}
    # Writing takes longer than reading: what was written of few documents stands beside what was not.
    files = {task: f"{task}-rouge" if summaries and not _metric(task) else task for task in tasks}
    for task, exams in tasks.items():
        examiner = Examiner(subject, exams, _metric(task) or summaries)
        alone = argparse.Namespace(**vars(args) | {"tasks": [task]})
        exact = [name for name in exams if examiner.fits(name)]
        told = {"task": task, "rows": rows, "exact": exact, "recall": RECALLED}
        setup = _setup(alone, exams, subject) | told
        results = Results.resume(args.output / f"{files[task]}.json", setup)
        measure_answers(examiner, results, subject.asked_digests)
    return scores.summary(args.output, files.values())


def _retention(args: argparse.Namespace) -> str:
    """Measure what the results file does not hold yet, one story at a time; the table."""
    if not 0 < args.read < args.documents:
        raise CorpusError("Some of the --documents are read and others are not: --read must be less.")
    subject = Subject.load(args.model, args.adapter_path)
    stories = load_task("squality", args.data, args.documents, subject.tokenizer)
    retelling = retention.Retelling(subject, stories, args.read)
    gates = subject.asked_digests[RECALL]
    told = {"read": args.read, "tokens": len(retelling.tokens), "gates": gates, "recall": RECALLED}
    results = Results.resume(args.output, _setup(args, stories, subject) | told)
    retention.measure_retention(retelling, results)
    return retention.summary(results)


def _facts(args: argparse.Namespace) -> str:
    """Measure what the results file of a text does not hold yet, one length and row at a time; the tables."""
    subject = Subject.load(args.model, args.adapter_path)
    number = args.text

    def text(length: int) -> Text:
        book = books(args.data, subject.tokenizer, number)
        return hide(book, subject.tokenizer, length, LADDER, number)

    # Lengths can be added later: all texts begin alike, with the same facts.
    beginning = text(LADDER[0])
    first = argparse.Namespace(**vars(_without(args, "lengths")) | {"text": number or None})
    setup = _setup(first, {"text": beginning.tokens, "facts": beginning.facts}, subject)
    told = {"context": trained_context(subject.model), "recall": RECALLED}
    results = Results.resume(args.output / f"{number}.json", setup | told)
    ladder = sorted({*args.lengths, *map(int, results.entries)})
    kept = args.keep and args.keep / str(number)
    facts.measure_facts(subject, text(ladder[-1]), ladder, results, kept)
    return found.summary(args.output, [str(number)])


def _support(args: argparse.Namespace) -> str:
    """Measure what the results file does not hold yet, one document at a time; the table."""
    setup = {"command": command("evaluate", args), **surroundings()}
    results = Results.resume(args.output, setup)
    evidence.measure_support(args.data, args.documents, results)
    return evidence.summary(results)


def _metric(task: str) -> Metric | None:
    """How written answers are scored where it is known what is right."""
    if is_retrieval(task):
        return EXACT_MATCH
    return GATHERED if is_gathering(task) else None


def _of_centroids(args: argparse.Namespace) -> Subject:
    """The subject of what only centroids are asked."""
    subject = Subject.load(args.model, args.adapter_path)
    if subject.config.kind != "centroids":
        raise AdapterError(f"These gates have a memory of kind {subject.config.kind}, not of centroids.")
    return subject


def _without(args: argparse.Namespace, option: str) -> argparse.Namespace:
    """The options but for one whose values can be added later to what was measured."""
    return argparse.Namespace(**{key: value for key, value in vars(args).items() if key != option})


def _check_lender(documents: int) -> None:
    if documents < 2:
        raise CorpusError(f"The row `{SHUFFLED}` takes another document's: --documents must be at least 2.")


def _edges(subject: Subject, length: int) -> list[int]:
    """Positions between which losses are counted: from where all ways of reading differ."""
    edges = [2 * subject.config.window, length // 2, length]
    if not edges[0] < edges[1]:
        raise CorpusError(f"--length must be {2 * edges[0] + 2} or more, over four windows of these gates.")
    return edges


def _setup(
    args: argparse.Namespace, documents: dict[str, Any], subject: Subject | None = None
) -> dict[str, Any]:
    """What numbers of any kind depend on; subject: with the only gates, if they are of one."""
    config = subject and asdict(subject.config)
    return {
        "command": command("evaluate", args),
        **({"base_model": config["base_model"], "config": config} if config else {}),
        "documents": {name: _digest(document) for name, document in documents.items()},
        **surroundings(),
    }


def _digest(document: object) -> str:
    return hashlib.sha256(repr(document).encode()).hexdigest()[:16]


WORKS = {
    "perplexity": _perplexity, "gates": _gates, "heads": _heads, "mixes": _mixes, "selection": _selection,
    "ahead": _ahead, "lengths": _lengths, "answers": _answers, "retention": _retention, "facts": _facts,
    "support": _support,
}  # fmt: skip
FAILURES = (
    AdapterError, CorpusError, ResultsError, RougeMissing, SaveFileError, StarterModelError, UnsupportedModel,
    OSError,
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 on success, 1 with one sentence on stderr if it cannot."""
    args = parse(argv, __doc__.split("\n")[0])

    def work() -> None:
        tables = WORKS[args.measurement](args)
        if mx.distributed.init().rank() == 0:
            print("", tables, sep="\n")

    stopped = "Stopped. What was measured is saved; run again to go on."
    return run("mlx_edgeinf.evaluate", work, FAILURES, stopped)


if __name__ == "__main__":
    sys.exit(main())

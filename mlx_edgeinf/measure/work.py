"""What is still to be measured, shared between the processes that measure it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import mlx.core as mx

from .results import Results

Entries = dict[tuple[str, str], dict]


def measure_missing(
    results: Results, pairs: Iterable[tuple[str, str]], gates: Mapping[str, str],
    measure: Callable[[str, str], Entries], told: Callable[[str, str], str],
) -> None:  # fmt: skip
    """Measure the pairs of document and row that the results lack; each process takes its share.

    Returns when all processes are done, with what all of them have measured.

    Args:
        gates: of the rows that depend on trained gates, these gates' digest; what others have
            said is measured again.
        measure: entries by (document, row) of a pair; all of them are kept at once.
        told: what to print of a pair that has just been measured.
    """
    world = mx.distributed.init()
    for name, row in islice(pairs, world.rank(), None, world.size()):
        if not measured(results.group(name).get(row), gates.get(row)):
            entries = measure(name, row)
            for (_, read), entry in entries.items():
                entry.update({"gates": gates[read]} if read in gates else {})
            results.add(entries)
            print(told(name, row), flush=True)
    together(results)


def together(results: Results) -> None:
    """Wait for all processes, and take over what they have measured."""
    # Everyone is heard here, so the last one has added what it measured.
    mx.eval(mx.distributed.all_sum(mx.array(1)))
    results.refresh()


def measured(entry: dict | None, gates: str | None) -> bool:
    """Whether an entry is there, and of these gates, where it is of any."""
    return entry is not None and entry.get("gates") == gates

"""Results of invented facts, as if they had been measured."""

from __future__ import annotations

from pathlib import Path

from mlx_edgeinf.measure import facts
from mlx_edgeinf.measure.hiding import KINDS, SINGLE
from mlx_edgeinf.measure.results import Results

CONTEXT, SHORT, LONG = 800, 600, 1000
SETUP = {
    "command": "python -m it", "machine": "a machine", "packages": {"mlx": "0"}, "context": CONTEXT,
    "base_model": "tiny", "config": {},
}  # fmt: skip


def answers(*exact: bool) -> list[dict]:
    """Each is a nat likelier where it is exact."""
    return [{"exact": each, "log_probability": each - 2.0} for each in exact]


def text(
    folder: Path, name: str, lengths: tuple[int, ...], command: str = SETUP["command"], **rows: list[dict]
) -> Results:
    """One read to some lengths; rows, by what they are called in code: what those say of single facts."""
    said = {getattr(facts, row): single for row, single in rows.items()}
    costs = {"decode": 2.5, "peak_bytes": 3e6, "state_bytes": 2e6, "disk_bytes": 4e3}
    results = Results(folder / f"{name}.json", SETUP | {"command": command})
    for length, row in facts.pairs(lengths, CONTEXT):
        kinds = dict.fromkeys(KINDS, answers(True, False)) | {SINGLE: said.get(row, answers(False, False))}
        results.add({(str(length), row): kinds | costs})
    return results

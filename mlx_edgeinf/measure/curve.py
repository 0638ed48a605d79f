"""How the loss of held-out text fell while gates were trained: has it levelled off?"""

from __future__ import annotations

from pathlib import Path

from ..training.checkpoint import runs_before
from ..wording import count
from .results import ResultsError
from .tables import markdown


def summary(folder: Path) -> str:
    """Markdown: of each run that made the gates in a folder, the losses it was stopped to measure.

    Raises:
        ResultsError: no run that is on record was validated more than once.
        AdapterError: the record is damaged.
    """
    runs = [run for run in runs_before(folder) if len(run["validation"]) > 1]
    if not runs:
        raise ResultsError(f"{folder} has no record of a training that was validated twice.")
    return "\n\n".join(map(_curve, runs))


def _curve(run: dict) -> str:
    _, first = run["validation"][0]
    lines = [["iteration", "tokens read", "held-out loss, nats", "gained"]]
    for iteration, loss in run["validation"]:
        tokens = run["tokens"] * iteration // run["iteration"]
        lines.append([count(iteration), count(tokens), f"{loss:.4f}", f"{first - loss:.4f}"])
    commands = ", then ".join(f"`{command}`" for command in run["command"].split("\n"))
    return f"{markdown(lines)}\n\n{commands}"

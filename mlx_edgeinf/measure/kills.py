"""What was left of a library whose process was killed again and again, for README.

The test that kills is `tests/test_library_kill.py`. It fails if anything is lost, so that what it records
is how much there was to lose.
"""

from __future__ import annotations

from pathlib import Path

from ..wording import count
from .results import Results, described, surroundings

COMMAND = "python -m pytest tests/test_library_kill.py --record assets/results"

# What a process told last before it was killed, for people.
MOMENTS = {
    "nothing": "before anything was saved",
    "document": "after a document was added",
    "reading": "after a reading was saved",
    "summary": "after a summary",
    "turns": "after an answer",
    "deleted": "after a document was deleted",
}


def record(folder: Path, kinds: dict[str, int], documents: int, reported: int) -> None:
    """Keep the figure of a test that passed.

    kinds: how many kills came after what was told last, a key of MOMENTS. documents: that were read.
    reported: things that were told to be saved, and looked for after every kill until the process itself
        deleted their document.
    """
    path = folder / "kills.json"
    path.unlink(missing_ok=True)
    results = Results(path, {"command": COMMAND, **surroundings()})
    results.add({("kills", name): number for name, number in kinds.items()})
    results.add({("found", "documents"): documents, ("found", "reported"): reported})


def summary(results: Results) -> str:
    """One sentence with the figure, one with the command."""
    kills, found = results.group("kills"), results.group("found")
    moments = ", ".join(f"{count(kills[name])} {moment}" for name, moment in MOMENTS.items() if name in kills)
    times, documents, reported = sum(kills.values()), found["documents"], found["reported"]
    return (
        f"Killed {count(times)} times while it read {count(documents)} documents ({moments}): "
        f"of {count(reported)} things it had reported as saved, 0 were lost or damaged.\n\n"
        + described(results.setup)
    )

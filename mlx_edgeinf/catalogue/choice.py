"""The model that was chosen last, in one small file in the library's folder."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from ..atomic import replace_text

SETTINGS = "settings.json"


def chosen_model(library: Path) -> str | None:
    """The folder of the model chosen last; None is the starter model, also where nothing can be read."""
    with suppress(OSError, ValueError, AttributeError):
        model = json.loads((library / SETTINGS).read_text(encoding="utf-8")).get("model")
        return model if isinstance(model, str) else None
    return None


def choose_model(library: Path, model: str | None) -> None:
    """Begin with this model the next time.

    Raises:
        SaveError: the file could not be written.
    """
    replace_text(library / SETTINGS, json.dumps({"model": model}) + "\n")

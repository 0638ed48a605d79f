"""Models that are worth choosing from: the starter model, then those of the hub, the smallest first.

Sizes are not written down but worked out from each model's published config.json, of which
`recommended.json` has the fields that matter; a download asks the hub for the exact ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

from .shape import Shape


@dataclass(frozen=True)
class Recommended:
    """A model to choose.

    repo: its id on the hub; None is the starter model, which comes from the package index.
    licence: its SPDX name, or its own. download: bytes, without the few of its tokenizer.
    """

    name: str
    repo: str | None
    licence: str
    shape: Shape
    download: int


def recommended() -> list[Recommended]:
    """The list."""
    return [_read(entry) for entry in json.loads(files(__package__).joinpath("recommended.json").read_text())]


def _read(entry: dict) -> Recommended:
    shape = Shape.of(entry["config"], entry["name"])
    download = entry.get("download", shape.weight_bytes)
    return Recommended(entry["name"], entry["repo"], entry["licence"], shape, download)

"""The model that is measured, with the gates that were trained for it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.tokenizer_utils import TokenizerWrapper

from ..adapter import (
    RECALL,
    WEIGHTS,
    AdapterConfig,
    AdapterError,
    gate_parameters,
    load_weights,
    read_config,
    recall_parameters,
)
from ..models import equip, found_gates, load_base
from .gap import BY_MASS, ENDS, GATED, OF_CENTROIDS, OURS, RECALL_GATED, ROWS


@dataclass(frozen=True)
class Subject:
    """A base model that always takes the memory path.

    untrained: parameters of its gates before any training. gates, recall: digests of the files of
    the trained ones of the memory and of exact recall; empty if there are none.
    """

    model: nn.Module
    tokenizer: TokenizerWrapper
    config: AdapterConfig
    untrained: dict[str, mx.array]
    gates: str
    recall: str = ""

    @property
    def digests(self) -> dict[str, str]:
        """Of the gates that a row of numbers depends on where a text is read, by row.

        The memory's, and behind a plus those of recall throughout the text.
        """
        digests = self.asked_digests
        if self.recall:
            digests |= {row: f"{digests.get(row, '')}+{self.recall}" for row in RECALL_GATED}
        return digests

    @property
    def asked_digests(self) -> dict[str, str]:
        """The same where something is asked: of the memory's alone."""
        return dict.fromkeys(GATED, self.gates)

    def rows(self, wanted: Sequence[str] | None = None) -> list[str]:
        """Ways of reading that say something of these gates; the wanted ones beside those they compare to.

        Raises:
            AdapterError: one is wanted that says nothing.
        """
        others = () if self.config.kind == "centroids" else OF_CENTROIDS
        others += () if self.recall else BY_MASS
        if void := [row for row in wanted or () if row in others]:
            raise AdapterError(f"These gates have no row `{void[0]}`: see `gap.py` for what it compares.")
        compared = {*ENDS, OURS, *(wanted or ROWS)}
        return [row for row in ROWS if row in compared and row not in others]

    @classmethod
    def load(cls, path_or_hf_repo: str | None, adapter_path: Path | None) -> Subject:
        """A model and its gates; None is the starter model, and the gates that `models.load` would find.

        Raises:
            AdapterError: there are no gates for this model, or they do not fit it.
            UnsupportedModel, StarterModelError: see `models.load`.
        """
        model, tokenizer = load_base(path_or_hf_repo)
        folder = adapter_path or found_gates(model, path_or_hf_repo)
        if folder is None:
            raise AdapterError("There are no trained gates for this model: name some with --adapter-path.")
        config = read_config(folder)
        mx.random.seed(0)
        equip(model, config, exact_limit=0)
        untrained = gate_parameters(model) | recall_parameters(model)
        load_weights(model, config, folder)
        digests = (_digest(folder / file) for file in (WEIGHTS, RECALL))
        return cls(model, tokenizer, config, untrained, *digests)


def _digest(file: Path) -> str:
    """Of a file; empty if there is none."""
    if not file.exists():
        return ""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]

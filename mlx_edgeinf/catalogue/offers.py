"""What there is to choose from, and what each choice needs: one list for the page and the command line."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..beside import GATES, gates_beside, steps_trained
from .home import downloaded, local_model, whole_models
from .lessons import ITERATIONS
from .machine import Fit, fit, memory_need
from .recommended import Recommended, recommended
from .refusal import ModelRefused


class Gates(Enum):
    """Where a model's gates are."""

    SHIPPED = "gates come with the program"
    BESIDE = "gates beside the model"
    UNFINISHED = "gates trained in part"
    NONE = "no gates yet"


@dataclass(frozen=True)
class Offer:
    """A model to choose.

    repo: on the hub; None if it is not from there. folder: on this machine; None if it is not here.
    licence: empty if unknown. size: bytes of its weights, to download or on disk.
    need: bytes of memory while reading. steps: that its gates were trained here.
    """

    name: str
    repo: str | None
    folder: Path | None
    licence: str
    size: int
    need: int
    fit: Fit
    gates: Gates
    steps: int = 0

    @property
    def starter(self) -> bool:
        """Whether it is the starter model, which is fetched when it is loaded."""
        return self.repo is None and self.folder is None


def offers(home: Path) -> list[Offer]:
    """The recommended models, then what else was downloaded into `home`."""
    home = home.resolve()
    listed = [_offer(each, home) for each in recommended()]
    known = {offer.folder for offer in listed}
    for repo, folder in whole_models(home):
        if folder not in known:
            # A folder that somebody changed is not offered; named by its path, it says why.
            with suppress(ModelRefused):
                listed.append(offer_of(folder, repo))
    return listed


def offer_of(path: str | Path, repo: str | None = None) -> Offer:
    """A model in any folder.

    Raises:
        ModelRefused: it is none, or not a supported one.
    """
    model = local_model(path)
    need = memory_need(model.shape, model.weight_bytes)
    gates, steps = _gates(model.folder)
    return Offer(
        model.name, repo, model.folder, "", model.weight_bytes, need, fit(need), gates, steps
    )


def _offer(each: Recommended, home: Path) -> Offer:
    folder = downloaded(home, each.repo) if each.repo else None
    need = memory_need(each.shape, each.shape.weight_bytes)
    gates, steps = _gates(folder) if folder else (Gates.NONE if each.repo else Gates.SHIPPED, 0)
    return Offer(
        each.name, each.repo, folder, each.licence, each.download, need, fit(need), gates, steps
    )


def _gates(folder: Path) -> tuple[Gates, int]:
    gates = gates_beside(folder)
    if gates is None:
        return Gates.NONE, 0
    # Only those that were begun here can be gone on with here.
    done = steps_trained(gates) if gates.name == GATES else None
    if done is not None and done < ITERATIONS:
        return Gates.UNFINISHED, done
    return Gates.BESIDE, done or ITERATIONS

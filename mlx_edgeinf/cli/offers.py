"""mlx-edgeinf models: what there is to choose from, and what each needs."""

from __future__ import annotations

import argparse

from ..catalogue.home import default_home
from ..catalogue.offers import Offer, offers
from ..wording import size
from .console import written


def add_models(commands: argparse._SubParsersAction) -> None:
    """Add `models`, which lists them."""
    parser = commands.add_parser("models", help="List models, with size, need of memory and licence.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    parser.set_defaults(work=listed)


def listed(args: argparse.Namespace) -> None:
    """A line for each model; asks nobody on the network."""
    found = offers(default_home())
    if args.json:
        written([_fields(offer) for offer in found])
        return
    for offer in found:
        here = f"on this machine: --model {offer.folder}" if offer.folder else offer.repo
        facts = [size(offer.size), f"{size(offer.need)} of memory: {offer.fit.value}", offer.licence]
        line = [*filter(None, facts), offer.gates.value, here or "the one without --model"]
        print(f"{offer.name}: {', '.join(line)}")


def _fields(offer: Offer) -> dict:
    return {
        "name": offer.name, "repo": offer.repo, "folder": offer.folder and str(offer.folder),
        "bytes": offer.size, "memory_bytes": offer.need, "fit": offer.fit.value,
        "licence": offer.licence, "gates": offer.gates.name.lower(),
    }  # fmt: skip

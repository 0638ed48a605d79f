"""Several documents as one, whose pages know the file that they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, count

from .document import Document, Origin


def joined(documents: Sequence[Document]) -> Document:
    """Return the documents as one, in their order; a single one is returned as it is.

    Pages are numbered through, and each has its `origin`. Documents of one name are told apart
    by a number behind it, and the SHA-256 is that of the documents' digests.

    Raises:
        ValueError: there are no documents.
    """
    if not documents:
        raise ValueError("A collection needs a document.")
    if len(documents) == 1:
        return documents[0]
    names = distinct([document.name for document in documents])
    places = [
        (page, Origin(name, page.number)) for name, each in zip(names, documents) for page in each.pages
    ]
    pages = (replace(page, number=n, origin=origin) for n, (page, origin) in enumerate(places, 1))
    digests = " ".join(document.sha256 for document in documents)
    name = f"{documents[0].name} and {len(documents) - 1} more"
    return Document(name, hashlib.sha256(digests.encode()).hexdigest(), tuple(pages))


def distinct(names: Sequence[str]) -> list[str]:
    """The names, the second of two equal ones with (2) behind it, and so on."""
    taken: list[str] = []
    for name in names:
        ways = chain([name], (f"{name} ({number})" for number in count(2)))
        taken.append(next(way for way in ways if way not in taken))
    return taken

"""What every refusal of a document must be: one sentence that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_edgeinf.documents import DocumentError, read_document


def refused(path: Path, password: str | None = None) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(DocumentError) as caught:
        read_document(path, password)
    message = str(caught.value)
    assert path.name in message and message.count(". ") == 0 and message.endswith(".")
    return message


def one_sentence(caught: pytest.ExceptionInfo) -> bool:
    """Whether an error says what it has to say in one sentence."""
    message = str(caught.value)
    return message.count(". ") == 0 and message.endswith(".") and "\n" not in message

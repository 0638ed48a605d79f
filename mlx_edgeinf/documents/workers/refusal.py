"""How a reader says that a file cannot be read for a reason that deserves a sentence of its own."""

from __future__ import annotations


class Refusal(Exception):
    """The file is refused; `code` tells the parent process which sentence to say."""

    def __init__(self, code: str | int) -> None:
        super().__init__(code)
        self.code = code

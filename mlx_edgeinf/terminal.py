"""What commands have in common: a kind of option, and an end that is good, one sentence, or Ctrl-C."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable


def run(name: str, work: Callable[[], None], failures: tuple[type[Exception], ...], stopped: str) -> int:
    """Do a command's work and return its exit code.

    Args:
        name: of the command, said before the sentence.
        failures: errors whose message is that sentence; any other is a fault and is raised.
        stopped: what to say after Ctrl-C.

    Returns 0, 1 after a failure, 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that knows fewer characters than a document has shows "?" for the others.
        sys.stdout.reconfigure(errors="replace")
    try:
        work()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough; what is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except failures as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
    return 0


def positive(text: str) -> int:
    """A whole number from 1 on; ValueError for any other text, which argparse reports."""
    if int(text) < 1:
        raise ValueError
    return int(text)

"""Plain text and Markdown as pages: decoded, unwrapped, and cut where a reader would pause."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .characters import CONTROLS, readable
from .document import DocumentError
from .hyphens import Joiner
from .line import Line
from .paragraphs import paragraphs

MOST_BYTES = 50_000_000
PAGE = 3_000
LONGEST_PAGE = 10_000
"""Characters: of a page cut by us, and of the pages that form feeds may make on average."""
CONTROL_SHARE = 0.01
WIDEST_WRAP = 120
NARROWEST_WRAP = 40
...

"""Exact recall: of what left the window and is on disk, the few pages that matter brought back."""

from .document import begin as begin
from .document import keep as keep
from .document import reopen as reopen
from .document import writing as writing
from .recall import ASKED as ASKED
from .recall import BLOCK as BLOCK
from .recall import PRECEDENCE as PRECEDENCE
from .recall import QUESTION_BLOCK as QUESTION_BLOCK
from .recall import SUMMARY_ROWS as SUMMARY_ROWS
from .recall import THROUGHOUT as THROUGHOUT
from .recall import Recall as Recall
from .recall import summarize as summarize

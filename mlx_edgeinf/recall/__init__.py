"""Exact recall: of what left the window and is on disk, the few pages that matter brought back.

    document    the page store of a document: begun, opened again, written to while it is read
    recall      of one layer: what leaves is put on disk, what comes back is placed before the window
    finding     which pages a block of queries gets: what is named first, then by estimated attention
    lexicon     what a question names: pages that share its rare words
    index       the estimate, in memory: moments of keys, bounded whatever the length
    consulted   pages of the document that an answer went back to
"""

from .document import begin as begin
from .document import reopen as reopen
from .document import sync_pages as sync_pages
from .document import writing as writing
from .recall import ASKED as ASKED
from .recall import BLOCK as BLOCK
from .recall import PRECEDENCE as PRECEDENCE
from .recall import QUESTION_BLOCK as QUESTION_BLOCK
from .recall import SUMMARY_ROWS as SUMMARY_ROWS
from .recall import THROUGHOUT as THROUGHOUT
from .recall import Recall as Recall
from .recall import summarize as summarize

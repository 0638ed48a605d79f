"""Exact recall from disk: evicted keys and values in pages on disk, the few that matter brought back."""

from .pages import Pages as Pages
from .recall import SUMMARY_ROWS as SUMMARY_ROWS
from .recall import Recall as Recall
from .recall import in_blocks as in_blocks
from .recall import summarize as summarize
from .shape import StoreShape as StoreShape
from .store import PageStore as PageStore

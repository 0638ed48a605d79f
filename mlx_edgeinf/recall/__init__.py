"""Exact recall from disk: evicted keys and values in pages on disk, the few that matter brought back."""

from .recall import Recall as Recall

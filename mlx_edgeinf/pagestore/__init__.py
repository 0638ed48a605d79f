"""Evicted keys and values in pages on disk: append-only, checksummed, safe against crashes. No MLX here."""

from .errors import NotNow as NotNow
from .errors import StoreError as StoreError
from .errors import StoreInUse as StoreInUse
from .pages import Pages as Pages
from .shape import StoreShape as StoreShape
from .store import PageStore as PageStore

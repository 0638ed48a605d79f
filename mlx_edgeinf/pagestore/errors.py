"""What can go wrong with a page store. Every message is one sentence for people."""


class StoreError(OSError):
    """A page store that cannot do what was asked; the message says why and what to do."""


class QuotaExceeded(StoreError):
    """The next page would pass the bytes that this store may take."""


class DiskFull(StoreError):
    """The disk has no room for the next page."""


class Unstorable(StoreError):
    """A key or value that has no place in half precision."""


class StoreInUse(StoreError):
    """Another process, or another part of this one, holds the store."""


class StoreDamaged(StoreError):
    """What is on disk is not what was written."""


class NoSuchPage(StoreError):
    """A page that the store does not hold."""

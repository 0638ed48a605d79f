"""What can go wrong with a page store. Every message is one sentence for people."""


class StoreError(OSError):
    """A page store that cannot do what was asked; the message says why and what to do."""


class QuotaExceeded(StoreError):
    """The next page would pass the bytes that this store may take."""


class NotNow(StoreError):
    """What could not be done at this moment: the store is sound, and another time it may do it."""


class DiskFull(NotNow):
    """The disk has no room for the next page."""


class Unstorable(StoreError):
    """A key or value that has no place in half precision."""


class StoreInUse(NotNow):
    """Another process, or another part of this one, holds the store."""


class StoreDamaged(StoreError):
    """What is on disk is not what was written."""


class NoSuchPage(StoreError):
    """A page that the store does not hold."""

"""The one error of this package."""

from __future__ import annotations


class ModelRefused(ValueError):
    """A model that cannot be had, used or trained for; the message says which, why, and what to do."""

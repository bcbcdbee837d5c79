"""The store in dictionaries, for tests, simulations and trying things out."""

from upshotd.adapters.memory.store import MemoryStore

__all__ = ["MemoryStore"]

"""How a stage says where it is. Imports nothing, so that the command line can draw it at no cost."""

from typing import Protocol, runtime_checkable


@runtime_checkable  # Prefect builds a schema of every flow parameter, and this is a field of one
class Tell(Protocol):
    """Where progress goes. `total` None: nobody knows how much is left."""

    def __call__(self, stage: str, message: str, done: int | None = None, total: int | None = None) -> None: ...


def tell_nobody(stage: str, message: str, done: int | None = None, total: int | None = None) -> None:
    """For callers that do not watch."""

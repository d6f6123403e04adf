"""What to say when the library of an exporter is not there."""

from __future__ import annotations

__all__ = ["missing"]


def missing(function: str, library: str, extra: str) -> ImportError:
    """The error of an exporter whose library cannot be imported; it names what to install."""
    return ImportError(f"{function} needs {library}: pip install 'resilience-policies[{extra}]'", name=library)

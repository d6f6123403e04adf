"""What a database can do to us. Messages hold the kind of fault and nothing else: no statement, no data source."""

from __future__ import annotations


class DatabaseUnavailable(Exception):
    """The database is away, damaged or not what it should be."""


class DatabaseBusy(DatabaseUnavailable):
    """Somebody else holds the lock. Nothing was changed, so trying again is safe."""

"""An `async def` as `user` of a `LoadShedder` was taken, and every call was another user by its coroutine's address."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from resilience import LoadShedder


async def _who(request: str) -> str:
    return request


@pytest.mark.parametrize("user", [_who, partial(_who, "a")], ids=["function", "partial"])
def test_an_async_user_is_refused(user: Any) -> None:
    """A function that has to be awaited for the name of a user is refused when the policy is built."""
    with pytest.raises(TypeError, match=r"user must be the name of a parameter.*plain function"):
        LoadShedder(user=user)

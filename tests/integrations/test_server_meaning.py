"""What a request says of itself, and what an answer says of a limit, for every server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import Quota, Rate, StoreUnavailable, Throttle, Throttled
from resilience.http import parse_rate_limit
from resilience.integrations._arrival import Arrival, client_address
from resilience.integrations._problem import limit_fields, problem_of
from resilience.integrations._server import Limit
from resilience.stores import MemoryStore


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "address"),
    [
        ("192.0.2.1", "", 0, "192.0.2.1"),
        ("192.0.2.1", "10.0.0.1", 0, "192.0.2.1"),
        ("192.0.2.1", "10.0.0.1", 1, "10.0.0.1"),
        ("192.0.2.1", "9.9.9.9,10.0.0.1", 1, "10.0.0.1"),
        ("192.0.2.1", "9.9.9.9, 10.0.0.1, 10.0.0.2", 2, "10.0.0.1"),
        ("192.0.2.1", "10.0.0.2", 2, "192.0.2.1"),
        ("192.0.2.1", "", 1, "192.0.2.1"),
        ("192.0.2.1", "9.9.9.9, unknown", 1, "192.0.2.1"),
        ("192.0.2.1", "9.9.9.9,", 1, "192.0.2.1"),
        ("192.0.2.1", "10.0.0.1:4711", 1, "10.0.0.1"),
        ("192.0.2.1", "[2001:db8::1]:4711", 1, "2001:db8::/64"),
        ("192.0.2.1", "2001:db8::1", 1, "2001:db8::/64"),
        ("2001:db8::1", "", 0, "2001:db8::/64"),
        ("2001:db8::ffff:ffff", "", 0, "2001:db8::/64"),
        ("fe80::1%eth0", "", 0, "fe80::/64"),
        ("::ffff:192.0.2.1", "", 0, "192.0.2.1"),
        ("", "", 0, "unknown"),
        (None, "", 0, "unknown"),
        ("testclient", "", 0, "testclient"),
    ],
)
def test_whose_request_it_is(peer: str | None, forwarded: str, proxies: int, address: str) -> None:
    """The entry that the outermost trusted proxy wrote, else the peer; one household of IPv6 is one address."""
    assert client_address(peer, forwarded, proxies) == address


@given(forged=st.text(st.characters(codec="latin-1"), max_size=60), proxies=st.integers(1, 3))
def test_nothing_that_a_caller_begins_changes_his_address(forged: str, proxies: int) -> None:
    """Whatever stands before the entries of one's own proxies, the address is the one that these wrote."""
    entries = ", ".join(["203.0.113.9", "10.0.0.1", "10.0.0.2"][:proxies])
    assert client_address("192.0.2.1", f"{forged}, {entries}", proxies) == "203.0.113.9"


@given(
    name=st.text(max_size=30),
    burst=st.floats(0.1, 1e30),
    share=st.floats(0.0, 1.0),
    after=st.floats(0.0, 1e30),
    per=st.floats(0.001, 1e6),
)
def test_the_fields_are_always_well_formed(name: str, burst: float, share: float, after: float, per: float) -> None:
    """Any name and any limit give one line of printable ASCII with whole numbers of at most 15 digits."""
    quota = Quota(burst, burst * share, after, after / 2)
    policy, standing = limit_fields(name, Rate(burst, per, burst=burst), quota)
    for field in (policy, standing):
        assert field.isascii()
        assert field.isprintable()
        assert all(len(part.partition("=")[2]) <= 15 for part in field.rsplit('"', 1)[1].split(";"))


def test_a_client_of_ours_reads_what_a_server_of_ours_writes() -> None:
    """While something remains nobody waits; when nothing does, until the next token and not until all are back."""
    rate = Rate(10, 60.0, burst=20)
    names = ("RateLimit-Policy", "RateLimit")
    told = [limit_fields("a", rate, quota) for quota in (Quota(20, 3.5, 99, 0), Quota(20, 0.5, 117, 3))]
    some, none = (parse_rate_limit(dict(zip(names, fields, strict=True))) for fields in told)
    assert some == Quota(20.0, 3.0, 99.0, 0.0)
    assert none == Quota(20.0, 0.0, 3.0, 3.0)


class _Counted(MemoryStore):
    """A store that counts its questions, and may be away."""

    questions = 0
    away = False

    def ask(self, *question: Any, **more: Any) -> Any:
        self.questions += 1
        if self.away:
            raise ConnectionError("away")
        return super().ask(*question, **more)


def test_a_limit_in_a_store_asks_it_once_for_each_request() -> None:
    """What is told of a shared limit costs no second round trip: nothing while it passes, the wait when it refuses."""
    store = _Counted()
    limit = Limit(Throttle("1/hour", store=store, name="shared"))
    passed, refused = Arrival("192.0.2.1"), Arrival("192.0.2.1")
    limit.take(passed)
    with pytest.raises(Throttled):
        limit.take(refused)
    assert store.questions == 2
    assert passed.fields() == []
    assert refused.fields() == [("RateLimit-Policy", '"shared";q=1;w=3600'), ("RateLimit", '"shared";r=0;t=3600')]


def test_a_store_that_is_away_denies_if_told_to() -> None:
    """With "deny" a request is refused as a 503, in plain code and in tasks alike."""
    store = _Counted()
    store.away = True
    limit = Limit(Throttle("1/hour", store=store, name="shared", on_store_error="deny"))
    for _ in range(2):
        with pytest.raises(StoreUnavailable) as caught:
            limit.take(Arrival("192.0.2.1"))
        problem = problem_of(caught.value)
        assert problem is not None
        assert problem.status == 503

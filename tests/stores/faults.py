"""What may befall a server. Each fault is done to a real one, and returns what undoes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import redis

from resilience.stores import RedisStore
from tests.stores.stage import HERE, Stage, Undo

KEYS = ("resilience:bucket:{api}", "resilience:bucket:{strict}", "resilience:breaker:{circuit}")
NOBODY = "1"  # a port that nobody listens on


@dataclass(frozen=True)
class Fault:
    """How it is done, and what it may come to.

    Args:
        do: does it. outage: whether the policies lose their store by it. emptied: how often a bucket may be full anew.
        way: how the store knows the server. options: of the server. early: whether it is so before the first call.
    """

    do: Callable[[Stage], Undo]
    outage: bool = True
    emptied: int = 0
    way: Callable[[Stage], RedisStore] = Stage.direct
    options: tuple[str, ...] = ()
    early: bool = False

    def __str__(self) -> str:
        return self.do.__name__


def refused(stage: Stage) -> Undo:
    """Nobody listens where the server should be."""
    stage.server.kill()
    return stage.server.start


def hung(stage: Stage) -> Undo:
    """The server is stopped."""
    stage.server.pause()
    return stage.server.go_on


def restarted_empty(stage: Stage) -> Undo:
    """Killed, and back with nothing."""
    stage.server.kill()
    return stage.server.start


def restarted_from_disk(stage: Stage) -> Undo:
    """Killed, and back with what it had written."""
    stage.server.kill()
    return stage.server.start


def flushed(stage: Stage) -> Undo:
    """FLUSHALL."""
    with stage.server.client() as client:
        client.flushall()
    return _nothing


def scripts_flushed(stage: Stage) -> Undo:
    """SCRIPT FLUSH."""
    with stage.server.client() as client:
        client.script_flush()
    return _nothing


def failover(stage: Stage) -> Undo:
    """The server dies, and its replica takes its place and its address."""
    replica = stage.another("--replicaof", f"{HERE} {stage.server.port}")
    with replica.client() as client:
        while client.info("replication")["master_link_status"] != "up":
            pass
    stage.server.kill()

    def promote() -> None:
        with replica.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
        stage.lead_to(replica.port)

    return promote


def read_only(stage: Stage) -> Undo:
    """The server has been demoted, and answers READONLY."""
    return _replica_of_nobody(stage)


def without_its_master(stage: Stage) -> Undo:
    """A replica that has lost its master and will not tell what it knows."""
    usual, master = stage.configure(("replica-serve-stale-data", "no", "yes")), _replica_of_nobody(stage)
    return lambda: (master(), usual())


def _replica_of_nobody(stage: Stage) -> Undo:
    client = stage.server.client()
    client.execute_command("REPLICAOF", HERE, NOBODY)

    def undo() -> None:
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.close()

    return undo


def loading(stage: Stage) -> Undo:
    """Killed, and back with so much to load that it answers LOADING for a while."""
    with stage.server.client() as client, client.pipeline(transaction=False) as pipe:
        for number in range(4_000):
            pipe.set(f"other:{number}", "x")
        pipe.execute()
        client.save()
    server, usual = stage.server, stage.server.options
    server.kill()
    server.options = (*usual, "--key-load-delay", "20", "--loading-process-events-interval-bytes", "1024")
    server.launch()
    server.options = usual
    return server.wait_until_ready


def out_of_memory(stage: Stage) -> Undo:
    """Every write is answered with OOM."""
    return stage.configure(("maxmemory", "1", "0"))


def wrong_type(stage: Stage) -> Undo:
    """Somebody else's list is under our keys."""
    return stage.instead(KEYS, lambda client, key: client.lpush(key, "x"))


def junk(stage: Stage) -> Undo:
    """What is under our keys are no numbers."""
    return stage.instead(KEYS, lambda client, key: client.set(key, "no numbers \x00\xff nan"))


def another_shape(stage: Stage) -> Undo:
    """What is under our keys is of another version of the same policies."""
    return stage.instead(KEYS, lambda client, key: client.set(key, "1 2 0 4 5 6 7 0 9 10"))


def slow(stage: Stage) -> Undo:
    """Every answer comes later than anybody waits for it."""
    return stage.by_way_of(latency=3 * stage.timeout)


def cut_in_an_answer(stage: Stage) -> Undo:
    """Every connection ends after ten bytes of an answer."""
    return stage.by_way_of(cut=1.0, cut_after=10)


def clock_set_back(stage: Stage) -> Undo:
    """The server's clock goes back by half a minute, and later to where it was."""
    stage.clock.skew = -30.0

    def undo() -> None:
        stage.clock.skew = 0.0

    return undo


def pool_used_up(stage: Stage) -> Undo:
    """The one connection of the client is with somebody who keeps it."""
    taken = stage.pool.get_connection()
    return lambda: stage.pool.release(taken)


def connections_used_up(stage: Stage) -> Undo:
    """Others have every connection that the server allows."""
    client = stage.server.client()
    client.config_set("maxclients", 1)
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def undo() -> None:
        client.config_set("maxclients", 10_000)
        client.close()

    return undo


def wants_a_password(stage: Stage) -> Undo:
    """The server has a password that nobody told us."""
    with stage.server.client() as client:
        client.config_set("requirepass", "secret")
    stage.cut_all("secret")

    def undo() -> None:
        with redis.Redis(port=stage.server.port, password="secret") as client:
            client.config_set("requirepass", "")

    return undo


def _nothing() -> None:
    return None


ON_DISK = ("--appendonly", "yes", "--appendfsync", "always")

FAULTS = (
    Fault(refused, early=True),
    Fault(hung),
    Fault(restarted_empty, emptied=1),
    Fault(restarted_from_disk, options=ON_DISK),
    Fault(flushed, outage=False, emptied=1),
    Fault(scripts_flushed, outage=False),
    Fault(failover, emptied=1, way=Stage.fronted, options=("--repl-diskless-sync-delay", "0")),
    Fault(read_only),
    Fault(loading, emptied=1),
    Fault(out_of_memory),
    Fault(wrong_type, emptied=1),
    Fault(slow, way=Stage.fronted),
    Fault(cut_in_an_answer, way=Stage.fronted),
    Fault(clock_set_back, outage=False, way=Stage.skewed),
    Fault(pool_used_up, outage=False, way=Stage.crowded),
)
"""Fifteen of sixteen; MOVED and ASK take a cluster (`test_faults_cluster`)."""

MORE = (
    Fault(junk, emptied=1),
    Fault(another_shape, emptied=1),
    Fault(without_its_master),
    Fault(connections_used_up),
    Fault(wants_a_password),
)
"""Others that have the same look from here."""

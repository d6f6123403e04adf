"""What is not time per call: scaling over threads, waiters, the import, frames, garbage, over-admission."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import math
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from resilience import CircuitBreaker, Fallback, Pipeline, Rejected, Retry, Throttle, Timeout
from tests.benchmarks import peers, wrongs
from tests.benchmarks.calls import OURS, wrap
from tests.benchmarks.measure import Figure, figure_of
from tests.benchmarks.table import Row

__all__ = ["ROWS", "cyclic_garbage", "import_ratio"]

ROOT = Path(__file__).resolve().parent.parent.parent


# --- threads
# -----------------------------------------------------------------------------------------------------------


def one_millisecond(x: int) -> int:
    """A call that waits for something else, as most calls do that deserve a policy."""
    time.sleep(0.001)
    return x


def calls_per_second(fn: Callable[[int], object], threads: int, calls: int = 60) -> float:
    """Throughput of that many threads which all call one function."""
    barrier = threading.Barrier(threads + 1)

    def worker() -> None:
        barrier.wait()
        for number in range(calls):
            fn(number)

    workers = [threading.Thread(target=worker) for _ in range(threads)]
    for thread in workers:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    for thread in workers:
        thread.join()
    return threads * calls / (time.perf_counter() - start)


def scaling(rounds: int, threads: int) -> Mapping[str, Figure]:
    """Throughput of many threads over that of one, all through one object."""
    pipeline = Pipeline(Retry(on=ValueError), CircuitBreaker(5), Throttle("1_000_000_000/s"))
    subjects = {OURS: pipeline(one_millisecond)}
    subjects |= {name: decorate(one_millisecond) for name, decorate in peers.closed_breaker().items()}
    values: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(max(4, rounds // 5)):
        for name, fn in subjects.items():
            values[name].append(calls_per_second(fn, threads) / calls_per_second(fn, 1))
    return {name: figure_of(samples) for name, samples in values.items()}


# --- waiters
# -----------------------------------------------------------------------------------------------------------


async def _waiting_for_tokens(count: int, acquire: Callable[[], Awaitable[object]]) -> float:
    start = time.process_time()
    await asyncio.gather(*(acquire() for _ in range(count)))
    return time.process_time() - start


async def _by_throttle(count: int, burst: int) -> float:
    throttle = Throttle(f"{count}/s burst {burst}", max_wait=math.inf)
    throttle.try_acquire(cost=burst)
    return await _waiting_for_tokens(count, throttle.acquire_async)


async def _by_aiolimiter(count: int, burst: int) -> float:
    limiter = peers.load("aiolimiter").AsyncLimiter(count, 1)
    await limiter.acquire(count)
    return await _waiting_for_tokens(count, limiter.acquire)


async def _in_order(count: int) -> bool:
    throttle = Throttle(f"{count}/s", max_wait=math.inf)
    throttle.try_acquire(cost=count)
    order: list[int] = []

    async def waits(number: int) -> None:
        await throttle.acquire_async()
        order.append(number)

    await asyncio.gather(*map(waits, range(count)))
    return order == sorted(order)


async def _parked_on_futures(count: int) -> float:
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(count)]

    async def parked(future: asyncio.Future[None]) -> None:
        await future

    def release(until: float, done: int = 0) -> None:
        due = min(count, round((1 - (until - loop.time())) * count))
        for future in futures[done:due]:
            future.set_result(None)
        if due < count:
            loop.call_later(0.001, release, until, due)

    start = time.process_time()
    loop.call_soon(release, loop.time() + 1)
    await asyncio.gather(*(parked(future) for future in futures))
    return time.process_time() - start


def waiters(rounds: int, count: int = 10_000, burst: int = 10_000) -> Mapping[str, Figure]:
    """Processor time of waiters that a throttle lets go over one second, over that of tasks parked on futures that one
    timer sets at the same pace.

    The bucket is empty when they come. With a burst of 1 nobody may go together with another, so that each costs a
    turn of the loop; then the parked ones, which go in tens, are no measure of the throttle alone.
    """
    if not asyncio.run(_in_order(1_000)):
        raise RuntimeError("a waiter was overtaken, so its time is not worth knowing")
    ways = {OURS: _by_throttle}
    if burst == count and peers.load("aiolimiter"):
        ways["aiolimiter"] = _by_aiolimiter
    values: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(max(4, rounds // (4 if burst > 1 else 10))):
        for name, way in ways.items():
            base = asyncio.run(_parked_on_futures(count))
            gc.collect()
            values[name].append(asyncio.run(way(count, burst)) / base)
            gc.collect()
    return {name: figure_of(samples) for name, samples in values.items()}


# --- import
# ------------------------------------------------------------------------------------------------------------


def import_seconds(statement: str) -> float:
    """Processor time of one import in a fresh interpreter without site packages."""
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); start = time.process_time()\n"
        f"{statement}\nprint(time.process_time() - start)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def import_ratio(rounds: int, statement: str = "import resilience") -> float:
    """The least time for the package over the least time for `asyncio`, in alternation."""
    import_seconds(statement)  # the first import compiles
    pairs = [(import_seconds("import asyncio"), import_seconds(statement)) for _ in range(rounds)]
    return min(own for _, own in pairs) / min(base for base, _ in pairs)


def imports(rounds: int, statement: str) -> Mapping[str, Figure]:
    """Import of the package over import of asyncio: the median of a few such ratios."""
    return {OURS: figure_of([import_ratio(max(6, rounds // 5), statement) for _ in range(5)])}


# --- frames and garbage
# ------------------------------------------------------------------------------------------------


def depth(x: int) -> int:
    """How many Python frames are on the stack."""
    frame, count = sys._getframe(), 0
    while frame.f_back is not None:
        frame, count = frame.f_back, count + 1
    return count


def extra_frames(rounds: int, kind: str) -> Mapping[str, Figure]:
    """Frames between caller and callee beyond the one of a decorator that does nothing."""
    decorators: dict[str, peers.Decorator]
    if kind == "retry":
        decorators = {OURS: Retry(on=ValueError), **peers.decorators_for_retry()}
    else:
        decorators = {OURS: CircuitBreaker(5), **peers.closed_breaker()}
    depths = {name: decorate(depth)(1) for name, decorate in {"wrap": wrap, **decorators}.items()}
    return {name: Figure(depths[name] - depths["wrap"]) for name in decorators}


def cyclic_garbage(fn: Callable[[], object], calls: int = 1_000) -> float:
    """Objects per call that only the cycle collector can free; what the call raises is dropped."""

    def once() -> None:
        with contextlib.suppress(Exception):
            fn()

    once()
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(calls):
            once()
        return gc.collect() / calls
    finally:
        if enabled:
            gc.enable()


def failing() -> None:
    """A call that always fails."""
    raise ValueError


def fine() -> None:
    """A call that succeeds."""


def paths() -> dict[str, Callable[[], object]]:
    """Every way out of a call through our policies that a synchronous function can take."""
    retry = Retry(on=ValueError, backoff=0)
    results = Retry(on_result=lambda result: result is None, backoff=0)
    opened = CircuitBreaker(5, cooldown=3600)
    opened.open()
    empty = Throttle("1/hour")
    empty.try_acquire()
    return {
        "first try": retry(fine),
        "retries run out": retry(failing),
        "no result accepted": results(lambda: None),
        "failure counted": CircuitBreaker(10**9)(failing),
        "circuit open": opened(fine),
        "throttled": empty(fine),
        "replaced": Fallback(on=ValueError, value=0)(failing),
        "finished in time": Timeout(60, thread=False)(fine),
        "composed, failing": Pipeline(retry, CircuitBreaker(10**9), Throttle("1_000_000_000/s"))(failing),
        "composed, refused": Pipeline(Retry(on=Rejected, attempts=2, backoff=0, max_retry_after=0), opened)(fine),
    }


def garbage(rounds: int) -> Mapping[str, Figure]:
    """Cyclic garbage per call: for us the worst of all paths, for peers a retry that gives up."""
    figures = {OURS: Figure(max(map(cyclic_garbage, paths().values())))}
    for name, decorate in peers.decorators_for_retry().items():
        figures[name] = Figure(cyclic_garbage(decorate(failing)))
    return figures


ROWS = [
    Row("8 threads over a 1 ms call / 1 thread", ">= 7.8", None, functools.partial(scaling, threads=8)),
    Row("32 threads over a 1 ms call / 1 thread", ">= 30", None, functools.partial(scaling, threads=32)),
    Row("10,000 async waiters at 10,000/s, CPU / bare futures", "<= 1.3", None, waiters),
    Row("the same with a burst of 1, so one at a time", "", None, functools.partial(waiters, burst=1)),
    Row(
        "import resilience / import asyncio",
        "<= 0.25",
        0.25,
        functools.partial(imports, statement="import resilience"),
    ),
    Row(
        "from resilience import every name / import asyncio",
        "",
        None,
        functools.partial(imports, statement="from resilience import *"),
    ),
    Row("extra Python frames on success, retry", "+0", None, functools.partial(extra_frames, kind="retry"), unit=""),
    Row(
        "extra Python frames on success, breaker", "+0", None, functools.partial(extra_frames, kind="breaker"), unit=""
    ),
    Row("cyclic garbage per call, worst path", "0", None, garbage, unit=""),
    Row("over-admission, 8 threads, switched every microsecond", "0", None, wrongs.over_admitted, unit=" calls"),
]

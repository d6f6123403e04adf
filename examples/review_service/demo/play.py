"""Runs the script twice, without the policies and with them, and shows what came of it."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from examples.auth0_standin.lifeline import exit_on_sigterm
from examples.review_service.children import Child, NotStarted
from examples.review_service.demo import plot, table, words
from examples.review_service.demo.figures import Run, Turn
from examples.review_service.demo.load import Load
from examples.review_service.demo.script import LENGTH, PATIENCE, SCENES, TICK, scene_at
from examples.review_service.demo.stage import Lock, Provider, Service, break_
from examples.review_service.demo.timeline import Timeline


def demo(plot_path: Path | None) -> int:
    """Play it. Returns the exit status."""
    exit_on_sigterm(143)
    console = Console(highlight=False)
    try:
        return _demo(console, plot_path)
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    except (NotStarted, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _demo(console: Console, plot_path: Path | None) -> int:
    if plot_path is not None:
        plot_path.parent.mkdir(parents=True, exist_ok=True)
    timeline = Timeline(console)
    console.print(f"\n{words.OPENING}\n")
    timeline.legend()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reviews-", dir=_memory())))
        provider = Provider(stack.enter_context(Child("examples.auth0_standin", "--port", "0")))
        bare_service = Service(provider, folder / "bare.sqlite3", protected=False)
        stack.callback(bare_service.close)
        kept_service = Service(provider, folder / "kept.sqlite3", protected=True)
        stack.callback(kept_service.close)
        tokens = provider.tokens()
        bare, kept = Run("without policies"), Run("with policies")
        for run, service in ((bare, bare_service), (kept, kept_service)):
            console.print()
            console.rule(run.title)
            _play(timeline, provider, service, tokens, run)
    console.print()
    console.print(table.table(bare, kept))
    console.print(words.closing(bare, kept))
    picture = plot_path or Path(tempfile.mkdtemp(prefix="reviews-demo-")) / "outage.svg"
    picture.write_text(plot.svg(bare, kept), encoding="utf-8")
    console.print(f"The same as a picture: {picture}", soft_wrap=True)
    return 0


def _memory() -> Path | None:
    """A folder in memory, where there is one: the disk may be busy with something that is not in the script."""
    memory = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
    return memory if os.access(memory, os.W_OK) else None


def _play(timeline: Timeline, provider: Provider, service: Service, tokens: list[str], run: Run) -> None:
    """Send the load to `service`, go through the scenes, and write down what is seen."""
    load = Load(service.address(), tokens, run.add)
    service.on_turn = lambda policy, state: run.turned(Turn(time.monotonic() - load.started, policy, state))
    with contextlib.ExitStack() as stack:
        lock = Lock(service.database)
        stack.callback(lock.hold, False)
        stack.callback(provider.reset)
        stack.callback(load.stop)
        load.start()
        _watch(timeline, provider, lock, load, run)


def _watch(timeline: Timeline, provider: Provider, lock: Lock, load: Load, run: Run) -> None:
    """Go tick by tick; a tick is written down when even the last of its requests must be over."""
    lag = round(PATIENCE / TICK)
    ticks = round(LENGTH / TICK)
    calls = provider.calls()
    changes = {round(scene.start / TICK): scene for scene in SCENES}
    for number in range(ticks + lag):
        if number in changes:
            break_(provider, lock, changes[number].trouble)
        time.sleep(max(0.0, load.started + (number + 1) * TICK - time.monotonic()))
        so_far = provider.calls()
        run.calls[number], calls = so_far - calls, so_far
        shown = number - lag
        if shown >= 0:
            for turn in run.turns_in(shown):
                timeline.turn(turn)
            timeline.tick(shown, scene_at(shown * TICK), run.tick(shown), run.calls[shown])

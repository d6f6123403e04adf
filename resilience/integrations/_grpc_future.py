"""A future of a blocking channel whose call is made under a policy.

A policy waits, between attempts and for the answer that it has to judge, and whoever asks for a future does not want to
wait. So the call is made in a thread of its own, in the caller's context, and this stands for it.
"""

from __future__ import annotations

import contextvars
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from resilience.integrations._grpc_meaning import CallExchange

    grpc: Any = None
else:
    import grpc

__all__ = ["Later", "Stopped"]


class Stopped(BaseException):
    """The future was cancelled: nothing for a policy to act on."""


class Later:
    """A call that will have been made. Safe from any thread.

    Args:
        exchange: what is called; its `call` is the attempt under way.
        make: makes it and returns the call as it ended.
    """

    def __init__(self, exchange: CallExchange | None, make: Callable[[], Any]) -> None:
        self._exchange = exchange
        self._make = make
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[Any], object]] = []
        self._begun = time.monotonic()
        self._cancelled = False
        self._call: Any = None
        self._error: BaseException | None = None
        if exchange is not None:
            proceed = exchange.proceed

            def unless_cancelled(details: Any, request: Any) -> Any:
                with self._lock:
                    if self._cancelled:
                        raise Stopped
                    # Under the lock, so that a cancellation finds the call or is found by it.
                    exchange.call = proceed(details, request)
                return exchange.call

            exchange.proceed = unless_cancelled
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(self._run,), name="grpc call", daemon=True).start()

    @classmethod
    def of(cls, value: Any) -> Later:
        """A call that has ended with a value."""
        made = cls(None, lambda: value)
        made._call = _Given(value)
        made._done.set()
        return made

    def _run(self) -> None:
        try:
            self._call = self._make()
        except Stopped:
            self._cancelled = True
        except BaseException as error:  # it is for whoever asks for the result
            self._error = error
        with self._lock:
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    # --- a future -----------------------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the answer, at most `timeout` seconds."""
        self._wait(timeout)
        if self._error is not None:
            raise self._error
        return self._call.result()

    def exception(self, timeout: float | None = None) -> Any:
        """Wait for the error, at most `timeout` seconds; None where there is an answer."""
        self._wait(timeout)
        return self._error if self._error is not None else self._call.exception()

    def traceback(self, timeout: float | None = None) -> Any:
        """Wait for the error's traceback, at most `timeout` seconds."""
        self._wait(timeout)
        return self._error.__traceback__ if self._error is not None else self._call.traceback()

    def _wait(self, timeout: float | None) -> None:
        if not self._cancelled and not self._done.wait(timeout):
            raise grpc.FutureTimeoutError
        if self._cancelled:
            raise grpc.FutureCancelledError

    def done(self) -> bool:
        """Whether it has ended, or was cancelled."""
        return self._cancelled or self._done.is_set()

    def running(self) -> bool:
        """Whether it has not ended."""
        return not self.done()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled

    def cancel(self) -> bool:
        """Cancel the attempt under way and make no other; False where it has ended."""
        with self._lock:
            if self._done.is_set():
                return False
            self._cancelled = True
            call = None if self._exchange is None else self._exchange.call
        if call is not None:
            call.cancel()
        return True

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call `fn` with this when it has ended; at once where it has."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(fn)
                return
        fn(self)

    # --- a call -------------------------------------------------------------------------------------------------------

    def code(self) -> Any:
        """Wait for the status."""
        if not self._settled():
            return grpc.StatusCode.CANCELLED if self._cancelled else grpc.StatusCode.UNKNOWN
        return self._call.code()

    def details(self) -> Any:
        """Wait for the text of the status."""
        return self._call.details() if self._settled() else str(self._error or "Locally cancelled by application!")

    def initial_metadata(self) -> Any:
        """Wait for the metadata that the answer began with."""
        return self._call.initial_metadata() if self._settled() else ()

    def trailing_metadata(self) -> Any:
        """Wait for the metadata that the answer ended with."""
        return self._call.trailing_metadata() if self._settled() else ()

    def _settled(self) -> bool:
        if not self._cancelled:
            self._done.wait()
        return self._call is not None and not self._cancelled

    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.running()

    def time_remaining(self) -> float | None:
        """Seconds that are left of the timeout given by whoever called; None where he gave none."""
        own: float | None = None if self._exchange is None else self._exchange.details.timeout
        return None if own is None else max(0.0, own - (time.monotonic() - self._begun))

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Call `callback` when it has ended; False, and no call, where it has."""
        with self._lock:
            if self._done.is_set():
                return False
            self._callbacks.append(lambda _: callback())
            return True


class _Given:
    """What a policy answered in place of the server."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def result(self) -> Any:
        return self._value

    def exception(self) -> None:
        return None

    traceback = exception

    def code(self) -> Any:
        return grpc.StatusCode.OK

    def details(self) -> str:
        return ""

    def initial_metadata(self) -> tuple[()]:
        return ()

    trailing_metadata = initial_metadata


grpc.Future.register(Later)
grpc.Call.register(Later)

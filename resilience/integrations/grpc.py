"""grpc: interceptors for blocking and asyncio channels. Needs grpcio 1.66.2 or later.

    channel = grpc.intercept_channel(channel, ResilientInterceptor(repeat={"/shop.Orders/Get*"}))
    channel = grpc.aio.insecure_channel(target, interceptors=AsyncResilientInterceptor(repeat={"/shop.Orders/Get*"}))

A call is repeated until its first message has come, and never after it: what has been delivered cannot be taken back.
So a stream of responses is begun by waiting for the first of them. Calls whose caller writes while he reads have no
such beginning; they carry the deadline and the attempt, and no policy is around them.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

from resilience import context
from resilience.errors import DeadlineExceeded
from resilience.integrations._exchange import Courier
from resilience.integrations._grpc_future import Later, Stopped
from resilience.integrations._grpc_meaning import CallExchange, RpcError, Seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator

    grpc: Any = None
else:
    import grpc
    import grpc.aio

__all__ = ["AsyncResilientInterceptor", "ResilientInterceptor"]


_GRACE = 0.05  # seconds


class _Details(NamedTuple):
    method: Any
    timeout: Any
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class _Interceptor:
    def __init__(self, policy: Any, repeat: Collection[str], unary: Any, stream: Any, *, is_async: bool) -> None:
        if isinstance(repeat, str):
            raise TypeError(f"repeat must be a collection of methods such as {{'/shop.Orders/Get'}}, got {repeat!r}")
        self._names = frozenset(repeat)
        for name in self._names:
            if not name.startswith(("/", "*")):
                raise ValueError(f"repeat names methods in full, such as '/shop.Orders/Get', got {name!r}")
        closes = _nothing_async if is_async else _nothing
        self._unary = Courier(policy, (), unary, closes, is_async=is_async)
        # One policy for both: what one learns of a service, the other knows.
        self._stream = Courier(self._unary._policy, (), stream, closes, is_async=is_async)

    def _exchange(self, proceed: Any, details: Any, request: Any, *, streams: bool = False) -> CallExchange:
        whole = _Details(*(getattr(details, field, None) for field in _Details._fields))
        return CallExchange(whole, request, proceed, self._names, streams=streams)


class ResilientInterceptor(_Interceptor):
    """Makes the calls of a blocking channel under a policy. Safe from any number of threads.

    One for each channel: the default policy keeps circuits by service, such as `shop.Orders`.

    Args:
        policy: a policy, or a `Keyed` by service; `resilience.http.client_policy()` by default.
        repeat: methods that may be called twice, in full; `*` stands for anything, as in `{"/shop.Orders/Get*"}`.

    Raises:
        TypeError: `policy` holds a `Hedge`.
        ValueError: a name in `repeat` does not begin with a slash.
    """

    def __init__(self, *, policy: Any = None, repeat: Collection[str] = ()) -> None:
        super().__init__(policy, repeat, _send_unary, _send_stream, is_async=False)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Call a method of one message and one answer."""
        return self._answer(continuation, self._exchange(continuation, client_call_details, request))

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Call a method of several messages and one answer."""
        exchange = self._exchange(continuation, client_call_details, request_iterator, streams=True)
        return self._answer(continuation, exchange)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Call a method of one message and several answers; returns when the first has come."""
        return _deliver(self._stream, self._exchange(continuation, client_call_details, request))

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Call a method of several messages and several answers, once."""
        exchange = self._exchange(continuation, client_call_details, request_iterator, streams=True)
        exchange.begin()
        return _proceed(exchange)

    def _answer(self, continuation: Any, exchange: CallExchange) -> Any:
        # Whether the caller waits for the answer or has asked for a future, only this tells.
        if ".future." not in getattr(continuation, "__qualname__", ""):
            return _deliver(self._unary, exchange)
        return Later(exchange, lambda: _deliver(self._unary, exchange))


class AsyncResilientInterceptor(_Interceptor):
    """Makes the calls of a `grpc.aio` channel under a policy. Serves any number of tasks at once.

    An asyncio channel takes an interceptor for one kind of call only, so this is a collection of one for each:
    `interceptors=AsyncResilientInterceptor()`, or `interceptors=[*AsyncResilientInterceptor(), another]`.

    Args:
        policy: a policy, or a `Keyed` by service; `resilience.http.client_policy()` by default.
        repeat: methods that may be called twice, in full; `*` stands for anything, as in `{"/shop.Orders/Get*"}`.

    Raises:
        TypeError: `policy` holds a `Hedge`.
        ValueError: a name in `repeat` does not begin with a slash.
    """

    def __init__(self, *, policy: Any = None, repeat: Collection[str] = ()) -> None:
        super().__init__(policy, repeat, _send_unary_async, _send_stream_async, is_async=True)

    def __iter__(self) -> Iterator[Any]:
        yield self
        yield _UnaryStream(self)
        yield _StreamUnary(self)
        yield _StreamStream(self)

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Call a method of one message and one answer."""
        return await _deliver_async(self._unary, self._exchange(continuation, client_call_details, request))


class _Facet:
    def __init__(self, whole: AsyncResilientInterceptor) -> None:
        self._whole = whole


class _UnaryStream(_Facet):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        whole = self._whole
        return await _deliver_async(whole._stream, whole._exchange(continuation, client_call_details, request))


class _StreamUnary(_Facet):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        exchange = self._whole._exchange(continuation, client_call_details, request_iterator, streams=True)
        if _is_written(request_iterator):  # by `write()`, for which the caller needs the call first
            exchange.begin()
            return await _proceed_async(exchange)
        return await _deliver_async(self._whole._unary, exchange)


class _StreamStream(_Facet):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        exchange = self._whole._exchange(continuation, client_call_details, request_iterator, streams=True)
        exchange.begin()
        return await _proceed_async(exchange)


# gRPC's classes carry no types, and being registered is all that it asks of an interceptor.
for _kind in ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"):
    getattr(grpc, f"{_kind}ClientInterceptor").register(ResilientInterceptor)
grpc.aio.UnaryUnaryClientInterceptor.register(AsyncResilientInterceptor)
grpc.aio.UnaryStreamClientInterceptor.register(_UnaryStream)
grpc.aio.StreamUnaryClientInterceptor.register(_StreamUnary)
grpc.aio.StreamStreamClientInterceptor.register(_StreamStream)


# --- blocking ---------------------------------------------------------------------------------------------------------


def _deliver(courier: Courier, exchange: CallExchange) -> Any:
    try:
        with _bounded(exchange):
            result = courier.deliver(exchange)
    except RpcError as error:
        result = error
    except DeadlineExceeded:
        if exchange.last is None or exchange.own_left() > 0.0:
            raise
        result = exchange.last
    if isinstance(result, Seen):
        result = result.error
    if isinstance(result, RpcError) and not hasattr(result, "result"):
        raise result
    # A fallback's value becomes the answer of a call, as whoever called expects one.
    return result if hasattr(result, "result") else Later.of(result)


def _proceed(exchange: CallExchange) -> Any:
    details = exchange.details._replace(timeout=exchange.timeout, metadata=tuple(exchange.metadata()))
    exchange.call = exchange.proceed(details, exchange.messages())
    return exchange.call


def _send_unary(exchange: CallExchange) -> Any:
    call = _proceed(exchange)
    try:
        error = call.exception()
    except grpc.FutureCancelledError:
        raise Stopped from None
    if error is not None:
        raise exchange.failure(error)
    return call


def _send_stream(exchange: CallExchange) -> Any:
    call = _proceed(exchange)
    try:
        first = [next(call)]
    except StopIteration:
        first = []
    except RpcError as error:
        raise exchange.failure(error) from None
    return _Begun(call, first)


class _Begun:
    """A stream of answers of which the first has come: the call, for all else that one may ask it."""

    def __init__(self, call: Any, first: list[Any]) -> None:
        self._call = call
        self._first = first

    def __iter__(self) -> _Begun:
        return self

    def __next__(self) -> Any:
        return self._first.pop() if self._first else next(self._call)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


grpc.Call.register(_Begun)


def _nothing(_: Any) -> None:
    """A call that has failed holds nothing."""


# --- asyncio ----------------------------------------------------------------------------------------------------------


async def _deliver_async(courier: Courier, exchange: CallExchange) -> Any:
    try:
        with _bounded(exchange):
            result = await courier.deliver_async(exchange)
    except DeadlineExceeded as late:
        if exchange.own_left() > 0.0:
            raise
        nothing = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(
            grpc.StatusCode.DEADLINE_EXCEEDED, nothing, nothing, details="Deadline Exceeded"
        ) from late
    if isinstance(result, Seen):
        raise result.error
    return result


async def _proceed_async(exchange: CallExchange) -> Any:
    details = grpc.aio.ClientCallDetails(
        exchange.details.method,
        exchange.timeout,
        grpc.aio.Metadata(*exchange.metadata()),
        exchange.details.credentials,
        exchange.details.wait_for_ready,
    )
    return await exchange.proceed(details, exchange.request)


async def _send_unary_async(exchange: CallExchange) -> Any:
    call = await _proceed_async(exchange)
    try:
        await call
    except RpcError as error:
        raise exchange.failure(error) from None
    return call


async def _send_stream_async(exchange: CallExchange) -> Any:
    call = await _proceed_async(exchange)
    answers = call.__aiter__()
    try:
        first = [await answers.__anext__()]
    except StopAsyncIteration:
        first = []
    except RpcError as error:
        raise exchange.failure(error) from None
    return _rest(first, answers)


async def _rest(first: list[Any], answers: AsyncIterator[Any]) -> AsyncIterator[Any]:
    for answer in first:
        yield answer
    async for answer in answers:
        yield answer


def _is_written(request_iterator: Any) -> bool:
    return "_InterceptedStreamRequestMixin" in getattr(request_iterator, "__qualname__", "")


async def _nothing_async(_: Any) -> None:
    """A call that has failed holds nothing."""


def _bounded(exchange: CallExchange) -> Any:
    """The caller's own timeout, which is for the call and all of its attempts.

    gRPC's own end of it comes first, where that is in time, since a breaker counts that and not a cut.
    """
    own: float | None = exchange.details.timeout
    make: Callable[[float], Any] = context.deadline
    return nullcontext() if own is None or own <= 0.0 else make(own + _GRACE)

"""Generated wrappers: that they are what was decorated, and nothing of a user's is ever text in them."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import gc
import inspect
import itertools
import keyword
import linecache
import pickle
import pydoc
import sys
import traceback
import weakref
from types import CodeType, FunctionType
from typing import Any

import pytest

from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    FailureRate,
    Fallback,
    Pipeline,
    Retry,
    RetryBudget,
    SlowRate,
    Throttle,
    _compile,
    _templates,
)
from resilience._hub import HUB
from resilience.testing import VirtualClock
from tests.garbage import nothing_for_the_collector

MISSING = object()


@pytest.fixture(autouse=True)
def _generated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compile, "ENABLED", True)
    # A listener that an earlier test forgot would send every call of a retry the long way.
    monkeypatch.setattr(HUB, "heard", False)


def is_generated(fn: Any) -> bool:
    """Whether a decorated function is a generated wrapper."""
    return str(fn.__code__.co_filename).startswith("<resilience wrapper")


def policies() -> dict[str, Any]:
    """A policy of each template, alone and composed."""
    return {
        "retry": Retry(on=OSError),
        "paid": Retry(on=OSError, budget=RetryBudget()),
        "breaker": CircuitBreaker(5),
        "timed": CircuitBreaker(SlowRate(slower_than=1)),
        "counting": CircuitBreaker(FailureRate(calls=10)),
        "clocked": CircuitBreaker((FailureRate(window=10), 3)),
        "toll": Throttle("1000/s"),
        "settled": Throttle("1000/s", settle=lambda result: 1),
        "pipeline": Pipeline(Retry(on=OSError), CircuitBreaker(5), Throttle("1000/s")),
        "breaker outside": Pipeline(CircuitBreaker(5), Retry(on=OSError, budget=RetryBudget()), Throttle("1000/s")),
        "nested": Pipeline(Fallback(on=KeyError, value=1), Pipeline(Retry(on=OSError), CircuitBreaker(5))),
        "two gates": Pipeline(CircuitBreaker(5), CircuitBreaker(SlowRate(slower_than=1))),
    }


EVERY = pytest.mark.parametrize("kind", policies())


def plain() -> tuple[object, ...]:
    return ()


def every_kind(a: Any, b: Any = 2, /, c: Any = 3, *rest: Any, d: Any, e: Any = 5, **more: Any) -> Any:
    return a, b, c, rest, d, e, more


def only_keywords(*, self: Any = 1, cls: Any) -> Any:
    return self, cls


def stars(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def odd_names(match: Any, case: Any, _: Any, x__: Any, soft: Any = 3, *, free_: Any = 1, r_: Any = 0) -> Any:
    return match, case, _, x__, soft, free_, r_


CALLS: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (plain, (), {}),
    (every_kind, (1,), {"d": 4}),
    (every_kind, (1, 9, 8, 7, 6), {"d": 4, "e": 0, "a": 1, "args": 2}),
    (every_kind, (1,), {"c": 0, "d": MISSING}),
    (only_keywords, (), {"cls": 3}),
    (stars, (1, 2), {"x": 3, "following": 4}),
    (odd_names, (1, 2, 3), {"x__": 4, "r_": 5}),
]


@EVERY
@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.parametrize(("fn", "args", "kwargs"), CALLS)
def test_arguments_arrive_as_they_were_given(fn: Any, args: Any, kwargs: Any, awaits: bool, kind: str) -> None:
    """Whatever its parameters, a decorated function is called with the same, and returns the same."""
    policy = policies()[kind]
    if awaits:
        wrapper = policy(asynchronous(fn))
        assert inspect.iscoroutinefunction(wrapper)
        assert asyncio.run(wrapper(*args, **kwargs)) == fn(*args, **kwargs)
    else:
        assert policy(fn)(*args, **kwargs) == fn(*args, **kwargs)


def asynchronous(fn: Any) -> Any:
    """An `async def` with the parameters of a function, which returns what the function returns."""
    names = _compile._parameters(fn)
    namespace: dict[str, Any] = {"fn": fn}
    exec(f"async def made({names[0]}):\n    return fn({names[1]})\n", namespace)
    made = namespace["made"]
    made.__defaults__, made.__kwdefaults__ = fn.__defaults__, fn.__kwdefaults__
    return made


@EVERY
def test_what_was_decorated_shows(kind: str) -> None:
    """Signature, help, name, docstring, annotations and attributes are the function's own, and `.policy` is added."""

    def fetch(url: str, *, timeout: float = 2.5) -> bytes:
        """Fetch a page."""
        return b""

    vars(fetch)["mark"] = 1
    policy = policies()[kind]
    wrapper: Any = policy(fetch)
    assert inspect.signature(wrapper) == inspect.signature(fetch)
    assert pydoc.render_doc(wrapper) == pydoc.render_doc(fetch)
    assert inspect.getsource(wrapper) == inspect.getsource(fetch)
    for attribute in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "mark"):
        assert getattr(wrapper, attribute) == getattr(fetch, attribute)
    assert wrapper.policy is policy
    assert wrapper.__wrapped__ is fetch


def test_its_own_code_has_the_parameters_too() -> None:
    """A generated wrapper declares the parameters itself, so that what reads the code object sees them."""
    wrapper: Any = CircuitBreaker(5)(every_kind)
    del wrapper.__wrapped__
    assert inspect.signature(wrapper) == inspect.signature(every_kind)


def test_a_wrong_argument_is_the_callers_error_alone() -> None:
    """A call that does not fit the parameters raises the usual TypeError, and no policy takes it for a failure."""
    breaker = CircuitBreaker(1)
    wrapper: Any = breaker(every_kind)
    with pytest.raises(TypeError, match=r"every_kind\(\) missing 1 required keyword-only argument: 'd'"):
        wrapper(1)
    assert breaker.state == "closed"


def test_defaults_are_the_same_objects() -> None:
    """A default is passed by reference, whatever it is and however its repr reads."""

    class Evil:
        def __repr__(self) -> str:
            return "__import__('sys').exit()"

    evil = Evil()
    table: dict[str, int] = {}

    def fetch(a: Any = evil, *, b: Any = table) -> Any:
        return a, b

    wrapper: Any = Retry(on=OSError)(fetch)
    first, second = wrapper()
    assert first is evil
    assert second is table


@pytest.mark.parametrize("name", ["_result", "_function", "_hub", "_breaker1", "_permit12", "Exception"])
def test_a_parameter_with_a_name_of_ours_is_left_to_the_closures(name: str) -> None:
    """A function whose parameter is called as something in a template is wrapped without generated code."""
    namespace: dict[str, Any] = {}
    exec(f"def fetch({name}):\n    return {name}\n", namespace)
    wrapper: Any = Pipeline(Retry(on=OSError), CircuitBreaker(5))(namespace["fetch"])
    assert not is_generated(wrapper)
    assert wrapper(7) == 7
    assert CircuitBreaker(5).explain(namespace["fetch"]).endswith(": a closure, not written out.\n")


@pytest.mark.parametrize("name", ["a b", "1", "a=print()", "None", "lambda", "x):\n    pass\nprint(", "", "ﬁ"])
def test_a_parameter_that_is_no_plain_identifier_is_never_text(name: str) -> None:
    """A code object made by hand may call a parameter anything; such a function is wrapped without generated code."""

    def fetch(x: int) -> int:
        return x

    made = FunctionType(fetch.__code__.replace(co_varnames=(name,)), {})
    wrapper: Any = CircuitBreaker(5)(made)
    assert not is_generated(wrapper)
    assert wrapper(7) == 7


def test_every_name_of_ours_is_reserved() -> None:
    """No template uses a name that a parameter could have, by accident or on purpose."""
    made: dict[str, Any] = {kind: policy.explain(only_keywords) for kind, policy in policies().items()}
    for text in made.values():
        names = {name for code in codes(compile(text, "text", "exec")) for name in local_names(code)}
        ours = names - {"make", "call", "self", "cls", "args", "kwargs"}
        assert {name.rstrip("0123456789") for name in ours} <= _templates.RESERVED
    assert {name for name in _templates.RESERVED if not name.startswith("_")} <= set(dir(builtins))
    assert not any(map(keyword.iskeyword, _templates.RESERVED))


def codes(code: CodeType) -> list[CodeType]:
    """A code object and those inside it."""
    return [code, *itertools.chain.from_iterable(codes(each) for each in code.co_consts if isinstance(each, CodeType))]


def local_names(code: CodeType) -> set[str]:
    """The names that are no attributes."""
    used = {each.argval for each in __import__("dis").get_instructions(code) if each.opname.startswith("LOAD_GLOBAL")}
    return {*code.co_varnames, *code.co_cellvars, *code.co_freevars, *used}


class Client:
    """Methods of every kind under policies."""

    breaker = CircuitBreaker(5)

    def __init__(self, base: int) -> None:
        self.base = base

    @Retry(on=OSError)
    def method(self, x: int, *, y: int = 1) -> int:
        return self.base + x + y

    @breaker
    @classmethod
    def made(cls, base: int) -> Client:
        return cls(base)

    @Throttle("1000/s")
    @staticmethod
    def static(x: int) -> int:
        return x


class Child(Client):
    @Retry(on=OSError)
    def method(self, x: int, *, y: int = 1) -> int:
        return super().method(x, y=y) * 10


def test_methods_of_every_kind() -> None:
    """Methods, class methods and static methods work, in subclasses and through super() too."""
    assert Client(1).method(2) == 4
    assert Child(1).method(2, y=3) == 60
    assert type(Child.made(5)) is Child
    assert Client.static(3) == Client(0).static(3) == 3
    assert is_generated(Client.method)
    assert is_generated(Client.__dict__["made"].__func__)


@Pipeline(Retry(on=OSError), CircuitBreaker(5))
def at_module_level(x: int) -> int:
    """A function that is pickled by its name."""
    return x + 1


def test_a_decorated_function_pickles() -> None:
    """A decorated function of a module pickles by reference, as it did."""
    assert is_generated(at_module_level)
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level
    assert at_module_level(1) == 2


@EVERY
def test_a_decorated_local_function_goes_at_once(kind: str) -> None:
    """When the last reference to a decorated function goes, function and wrapper are freed without the collector."""

    def build() -> tuple[Any, weakref.ref[Any]]:
        def fetch(x: int) -> int:
            return x

        return policy(fetch), weakref.ref(fetch)

    policy = policies()[kind]
    gc.disable()
    try:
        wrapper, fetch = build()
        assert wrapper(1) == 1
        outer = weakref.ref(wrapper)
        del wrapper
        assert fetch() is None
        assert outer() is None
    finally:
        gc.enable()


@EVERY
def test_a_traceback_names_the_users_frame_and_shows_ours(kind: str) -> None:
    """An error's traceback goes from the caller through lines of the wrapper, shown, to the line that raised."""

    def fetch(x: int) -> int:
        raise LookupError(x)

    wrapper: Any = policies()[kind](fetch)
    with pytest.raises(LookupError) as caught:
        wrapper(1)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].name == "fetch"
    ours = [frame for frame in frames if frame.filename.startswith("<resilience wrapper")]
    assert ours
    assert all("_function(x)" in (frame.line or "") or "_function(*args" in (frame.line or "") for frame in ours)
    linecache.checkcache()
    assert linecache.getline(ours[0].filename, 1).startswith("# ")


def test_one_frame_of_ours_for_a_whole_pipeline() -> None:
    """Retry, breaker and throttle stand between a caller and the function in a single frame."""

    def depth() -> int:
        return len(inspect.stack(0))

    here = len(inspect.stack(0))
    assert policies()["pipeline"](depth)() == here + 2


def test_a_shape_is_compiled_once() -> None:
    """Functions with the same parameters under the same kinds of policy share a shape, and their code is their own."""

    def one(left_hand: int, right_hand: int) -> int:
        return left_hand

    def two(left_hand: int, right_hand: int) -> int:
        return right_hand

    first: Any = CircuitBreaker(5)(one)
    before = len(_compile._shapes)
    second: Any = CircuitBreaker(3)(two)
    assert len(_compile._shapes) == before
    assert first.__code__ == second.__code__
    assert first.__code__ is not second.__code__
    assert (first(1, 2), second(1, 2)) == (1, 2)


def test_shapes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes up parameter names for ever does not fill the table: the rest goes by closures."""
    shapes: dict[object, Any] = {}
    monkeypatch.setattr(_compile, "_shapes", shapes)
    monkeypatch.setattr(_compile, "MAX_SHAPES", 3)
    wrappers: list[Any] = []
    for number in range(5):
        namespace: dict[str, Any] = {}
        exec(f"def fetch(x{number}):\n    return x{number}\n", namespace)
        wrappers.append(CircuitBreaker(5)(namespace["fetch"]))
    assert [is_generated(wrapper) for wrapper in wrappers] == [True, True, True, False, False]
    assert len(shapes) == 3
    namespace = {}
    exec("def fetch(x1):\n    return x1\n", namespace)
    assert is_generated(CircuitBreaker(5)(namespace["fetch"]))
    assert [wrapper(1) for wrapper in wrappers] == [1] * 5


def test_what_reads_arguments_sees_them_as_given() -> None:
    """A key or a cost taken from the arguments is asked of what the caller wrote, without the defaults."""
    seen: list[Any] = []

    def look(*args: Any, **kwargs: Any) -> str:
        seen.append((args, kwargs))
        return "key"

    def fetch(user: str, day: int = 1) -> str:
        return user

    for policy in (Throttle("100/s", key=look), Pipeline(Retry(on=OSError), Throttle("100/s", key=look))):
        assert policy(fetch)("ada") == "ada"
    assert seen == [(("ada",), {})] * 2


def test_a_subclass_that_wraps_in_its_own_way_does() -> None:
    """A policy whose `bind` is overridden is never written out in its parent's words."""

    class Loud(CircuitBreaker):
        def bind(self, fn: Any, /) -> Any:
            bound = super().bind(fn)

            def loud(*args: Any) -> Any:
                return bound(*args), "loud"

            return loud

    class Line(Pipeline[Any]):
        def bind(self, fn: Any, /) -> Any:
            def line(*args: Any) -> Any:
                return "line"

            return line

    line: Any = Line(CircuitBreaker(5))
    for policy in (Loud(5), Pipeline(Retry(on=OSError), Loud(5))):
        assert wrapped(policy, stars)(1) == (((1,), {}), "loud")
    assert wrapped(Pipeline(Retry(on=OSError), line), stars)(1) == "line"


def wrapped(policy: Any, fn: Any) -> Any:
    """A decorated function, of no particular type."""
    return policy(fn)


def test_a_subclass_that_decides_in_its_own_way_is_asked() -> None:
    """A policy whose decisions are overridden is written out, and asked all the same."""

    class Shut(CircuitBreaker):
        def _returned(self, permit: int, result: object, started: float) -> None:
            told.append(result)

    told: list[object] = []
    shut = Shut(5, on_result=lambda result: False)
    wrapper: Any = shut(plain)
    assert is_generated(wrapper)
    assert wrapper() == ()
    assert told == [()]


def test_callables_that_are_no_functions() -> None:
    """A partial, a bound method, an object with `__call__` and a class are wrapped too."""
    from functools import partial

    class Object:
        def __call__(self, x: int) -> int:
            return x

        def method(self, x: int) -> int:
            return x

    for fn in (partial(stars, 1), Object(), Object().method, Client):
        wrapper = policies()["pipeline"](fn)
        assert is_generated(wrapper)
        assert type(wrapper(1)) is type(fn(1))


def test_explain_shows_what_runs() -> None:
    """`explain` gives the text that the wrapper was made from, whether or not the function is decorated already."""
    policy = Pipeline(Retry(on=OSError), CircuitBreaker(5), Throttle("100/s"))
    wrapper: Any = policy(every_kind)
    text = policy.explain(every_kind)
    assert text == policy.explain(wrapper)
    assert text == "".join(linecache.getlines(wrapper.__code__.co_filename))
    assert "def call(a, b, /, c, *rest, d, e, **more):" in text
    assert text.splitlines()[0].startswith("# retry, breaker, throttle, around one call.")


def test_explain_names_what_is_not_written_out() -> None:
    """A policy that is left to its closure is named where it stands; only callables can be explained."""
    policy = Pipeline(Fallback(on=KeyError, value=1), CircuitBreaker(5))
    assert "# Fallback(on=<class 'KeyError'>, value=1): a closure, not written out." in policy.explain(plain)
    assert Bulkhead(3).explain(plain) == "# Bulkhead(limit=3, queue=0, max_wait=inf): a closure, not written out.\n"
    number: Any = 3
    with pytest.raises(TypeError, match="explain takes a function"):
        policy.explain(number)


def test_the_switch_is_read_when_decorating(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switched off, the next function is wrapped by closures and those before stay as they are."""
    before: Any = CircuitBreaker(5)(plain)
    monkeypatch.setattr(_compile, "ENABLED", False)
    after: Any = CircuitBreaker(5)(plain)
    assert (is_generated(before), is_generated(after)) == (True, False)


def test_a_coroutine_that_is_never_awaited_costs_nothing() -> None:
    """Nothing is taken before the first step of a coroutine."""
    throttle = Throttle("1/minute", clock=VirtualClock())

    @throttle
    async def fetch() -> None: ...

    fetch().close()
    assert throttle.peek().remaining == 1.0


@pytest.mark.parametrize("enabled", [True, False])
def test_later_attempts_have_the_context_of_none_before(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the second attempt was not raised while the first was being handled, so it does not show it."""
    monkeypatch.setattr(_compile, "ENABLED", enabled)
    errors = [OSError("first"), LookupError("second")]

    def fetch() -> None:
        raise errors.pop(0)

    with pytest.raises(LookupError) as caught:
        Retry(on=OSError, backoff=0)(fetch)()
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("enabled", [True, False])
def test_a_failed_call_leaves_no_garbage(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries, last errors and rejections leave nothing for the collector."""
    monkeypatch.setattr(_compile, "ENABLED", enabled)
    breaker = CircuitBreaker(2, on=OSError, clock=VirtualClock())
    policy = Pipeline(Retry(on=OSError, attempts=3, backoff=0), breaker, Throttle("1000/s"))

    @policy
    def fetch(x: int) -> int:
        raise OSError(x)

    def once() -> None:
        with contextlib.suppress(OSError, CircuitOpen):
            fetch(1)

    once()
    with nothing_for_the_collector():
        for _ in range(5):
            once()


def test_a_tracer_sees_the_lines_of_a_wrapper() -> None:
    """A debugger steps through the lines of a wrapper, in order, as through any function."""
    lines: list[int] = []

    def trace(frame: Any, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename.startswith("<resilience wrapper") and event == "line":
            lines.append(frame.f_lineno)
        return trace

    wrapper: Any = CircuitBreaker(5)(plain)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        wrapper()
    finally:
        sys.settrace(before)
    assert len(lines) >= 4
    assert lines == sorted(lines)

"""The text that wrappers are generated from.

A wrapper that takes `*args, **kwargs` packs every argument into a tuple and a dict and unpacks them again, which costs
more than all that a closed breaker and an idle retry have to do. Only code that has the function's own parameters
avoids it, and only generated code can have them. So here is that code: what the closures of `_drivers` and
`_loop_driver` do on the way of a call that succeeds, with the calls between them written out. Whatever else may happen
is left by one line to those closures or to the policy.

The templates are constants. What is put into them is, in angle brackets: the names of parameters, which are checked
identifiers, numbers of our own, and one template in another. Nothing that a user has written is ever text in here:
functions, defaults and policies are objects that the finished wrapper holds.

Every name of ours starts with an underscore; a function with a parameter of such a name is left to the closures.
"""

from __future__ import annotations

__all__ = ["RESERVED", "WORDS", "source"]

_WRAPPER = """\
# <layers>, around one call. What is not written out here is left to the policies and their closures.
def make(<cells>):
    <async>def call(<parameters>):
        <body>
    return call
"""

_CALL = """\
_result = <await>_function(<arguments>)
"""

_LAST_CALL = """\
return <await>_function(<arguments>)
"""

_END = """\
return _result
"""

_RETRY = """\
if _hub.heard and _retry.channel.heard:
    return <await>_retry.watched(<arguments>)
try:
    <body>
except Exception as _error:
    _next = _retry.plainly(_error, None)
    if _next < 0.0:
        _next = _retry.begin_late(_error, None)
        if _next is None:
            raise
return <await>_retry.again(<after_next>)
"""

_PAID_RETRY = """\
if _hub.heard and _retry.channel.heard:
    return <await>_retry.watched(<arguments>)
try:
    <body>
except Exception as _error:
    _next = _retry.plainly(_error, None)
    if _next < 0.0:
        _next = _retry.begin_late(_error, None)
        if _next is None:
            raise
else:
    if _budget._bucket.short:
        _budget.deposit()
    return _result
return <await>_retry.again(<after_next>)
"""

_BOUNDED_RETRY = """\
_call = _retry._begin(cuts=False)
_call.__enter__()
try:
    while True:
        if _call.delay > 0.0:
            _call.pause()
        try:
            <body>
        except Exception as _error:
            if not _call.failed(_error):
                raise
        else:
            if _call.returned(_result):
                return _result
finally:
    # By name, which is quicker than `with`. A sync call cuts nothing, so what was raised is no matter.
    _call.__exit__(None, None, None)
"""

_CUT_RETRY = """\
_call = _retry._begin(cuts=True)
with _call:
    while True:
        if _call.delay > 0.0:
            await _call.pause_async()
        try:
            <body>
        except Exception as _error:
            if not _call.failed(_error):
                raise
        else:
            if _call.returned(_result):
                return _result
"""

_GATE = """\
_permit<n> = <gate>._permit
try:
    if _permit<n> < 0:
        _permit<n> = <await><gate>._admit<suffix>((), {})
    <body>
except BaseException as _error:
    if _permit<n> >= 0:
        <gate>._raised(_permit<n>, _error, 0.0)
    raise
if <gate>._clean != _permit<n>:
    <gate>._returned(_permit<n>, _result, 0.0)
"""

_REFUSAL = """\
if _permit<n> < 0 and <gate>._shut is not None:
    _now, _shut = <gate>._now(), <gate>._shut
    if _shut is not None and _now < _shut[0]:
        raise <gate>._refused(_shut, _now)
"""

_BREAKER = _GATE.replace("try:\n", f"{_REFUSAL}try:\n", 1)

_TIMED_BREAKER = """\
_permit<n> = <gate>._permit
_started<n> = 0.0
try:
    if _permit<n> < 0:
        _permit<n> = <await><gate>._admit<suffix>((), {})
    _started<n> = <gate>._now()
    <body>
except BaseException as _error:
    if _permit<n> >= 0:
        <gate>._raised(_permit<n>, _error, _started<n>)
    raise
<gate>._returned(_permit<n>, _result, _started<n>)
"""

_END_OF_GATE = """\
if <gate>._clean != _permit<n>:
"""

_COUNTING_BREAKER = _BREAKER.replace(
    _END_OF_GATE,
    """\
# One step without a call in it: see resilience.policies._circuit.
if <gate>._steady == _permit<n>:
    <gate>._window.ticks += 1
elif <gate>._clean != _permit<n>:
""",
)

_CLOCKED_BREAKER = _BREAKER.replace(
    _END_OF_GATE,
    """\
_now = _clock<n>.now()
# One step without a call in it: see resilience.policies._circuit.
_window = <gate>._window
if <gate>._steady == _permit<n> and _now <= _window.ends:
    _window.ticks += 1
elif <gate>._clean != _permit<n>:
""",
)

_WATCHING_BREAKER = """\
_permit<n> = -1
_started<n> = _clock<n>.now()
_watches<n> = <gate>._watches
try:
    # One step without a call in it, and another at the end: see resilience.core.watch.
    if _watches<n>.alone is None and _started<n> <= _watches<n>.until:
        _watches<n>.alone = _started<n>
        _permit<n> = _watches<n>.number
    else:
        _shut = <gate>._shut
        if _shut is not None and _started<n> < _shut[0]:
            raise <gate>._refused(_shut, _started<n>)
        _permit<n> = <gate>._enter(_watches<n>, _started<n>)
        _started<n> = <gate>._now()
    <body>
    _now = _clock<n>.now()
except BaseException as _error:
    if _permit<n> >= 0:
        <gate>._raised(_permit<n>, _error, _started<n>)
    raise
if _permit<n> == _watches<n>.number and _now <= _watches<n>.until:
    _watches<n>.alone = None
    _watches<n>.window.ticks += 1
else:
    <gate>._leave(_watches<n>, _permit<n>, _result, _started<n>, _now)
"""

_TOLL = """\
# The short way through a throttle, where 1e999 is no way: see resilience.policies._quick.
_line = _clock<n>.now() * _times<n>
_floor = _line - _burst<n>
_state = _ledger<n>.sole if _ledger<n>.at_hand else 1e999
if _state < _floor:
    _state = _floor if _floor + _burst<n> == _line else 1e999
_taken = _state + _unit<n>
if _taken <= _line and _taken - _state == _unit<n>:
    _ledger<n>.sole = _taken
else:
    <await><gate>._admit<suffix>((), {})
<body>
"""

_LOCKED_TOLL = """\
if not _quick<n>(<gate>):
    <await><gate>._admit<suffix>((), {})
<body>
"""

_SCOPE = """\
with <gate>.<scope>():
    <body>
"""

WORDS = ("breaker", "throttle", "bulkhead", "limit", "timeout")
"""What a gate or a scope may be called in the text."""

_LAYERS = {
    "retry": _RETRY,
    "paid_retry": _PAID_RETRY,
    "bounded_retry": _BOUNDED_RETRY,
    "gate": _GATE,
    "breaker": _BREAKER,
    "timed_breaker": _TIMED_BREAKER,
    "counting_breaker": _COUNTING_BREAKER,
    "clocked_breaker": _CLOCKED_BREAKER,
    "watching_breaker": _WATCHING_BREAKER,
    "toll": _TOLL,
    "locked_toll": _LOCKED_TOLL,
    "scope": _SCOPE,
}

_LAYERS_OF_COROUTINES = _LAYERS | {"bounded_retry": _CUT_RETRY}

RESERVED = frozenset(
    {
        "_budget",
        "_burst",
        "_call",
        "_clock",
        "_error",
        "_floor",
        "_function",
        "_hub",
        "_ledger",
        "_line",
        "_next",
        "_now",
    }
    | {"_permit", "_quick", "_result", "_retry", "_shut", "_started", "_state", "_taken", "_times", "_unit"}
    | {"_watches", "_window"}
    | {"BaseException", "Exception"}
    | {f"_{word}" for word in WORDS}
)
"""Every name in a template that is not a keyword, less the number at its end."""


def source(
    layers: tuple[tuple[str, str], ...], cells: tuple[str, ...], parameters: str, arguments: str, *, awaits: bool
) -> str:
    """The text of a function that makes a wrapper.

    Args:
        layers: what is written out, outermost first: of each the template, and what to call the policy.
        cells: the names of what the wrapper holds.
        parameters: the parameter list of the function, without defaults.
        arguments: what passes those parameters on.
        awaits: whether the function is a coroutine function.
    """
    outermost, alone = layers[0][0], len(layers) == 1
    body = _LAST_CALL if outermost == "retry" and alone else _CALL
    templates = _LAYERS_OF_COROUTINES if awaits else _LAYERS
    for number in range(len(layers), 0, -1):
        template, word = layers[number - 1]
        if template == "retry" and not alone:
            body += _END
        layer = templates[template].replace("<gate>", f"_{word}{number}").replace("<n>", str(number))
        body = _put(layer, "<body>", body)
    if "retry" not in outermost:
        body += _END
    text = _put(_WRAPPER, "<body>", body)
    words = {
        "<layers>": ", ".join(word for _, word in layers),
        "<async>": "async " if awaits else "",
        "<await>": "await " if awaits else "",
        "<suffix>": "_async" if awaits else "",
        "<scope>": "_cut_scope" if awaits else "_scope",
        "<cells>": ", ".join(cells),
        "<after_next>": f"_next, {arguments}" if arguments else "_next",
        "<arguments>": arguments,
        "<parameters>": parameters,
    }
    for word, put in words.items():
        text = text.replace(word, put)
    return text


def _put(template: str, word: str, text: str) -> str:
    """Put lines in the place of a line, at its depth."""
    before, after = template.split(word + "\n")
    outside, _, depth = before.rpartition("\n")
    lines = "".join(f"{depth}{line}\n" for line in text.splitlines())
    return f"{outside}\n{lines}{after}" if outside else f"{lines}{after}"

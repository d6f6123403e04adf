"""From a chain of policies and a function to one wrapper.

What the policies of a chain do when nothing goes wrong is a few lines each, and those lines, put into each other and
given the function's own parameters, are one function: see `_templates`. This module reads the parameters, asks each
policy whether it can be written out, and puts the two together. A policy that cannot be is bound as it always was, and
the wrapper is built around that. What is written out behaves as the closures of `_drivers` and `_loop_driver` do, which
stay the reference, and which `policy.call` and `bind` go on using; so a test of the one is a test of the other.

Nothing of a user's reaches `exec` as text but the names of parameters, and those only if they are identifiers, no
keywords, none of ours, and come out of the compiler as they went in. Defaults are set on the finished wrapper as the
objects that they are.

The text, and the code compiled from it, depend on the shape alone: the kinds of the layers, and the parameter list. So
a shape is compiled once. Each wrapper then gets a copy of the code, for the interpreter learns in the code itself what
is called from it, and two functions that share it would make it forget again and again. What belongs to one wrapper it
holds in cells, as a closure does; no namespace refers back to it.
"""

from __future__ import annotations

import keyword
from itertools import count
from types import FunctionType

from resilience._again import Rest
from resilience._hub import HUB
from resilience._shape import shape_of
from resilience._templates import RESERVED, source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType
    from typing import Any

    Fn = Callable[..., Any]
    Shape = tuple[Callable[..., FunctionType], str]
    """What makes a wrapper, given what it is to hold; and the text that it was compiled from."""

__all__ = ["ENABLED", "Layer", "compiled", "explained"]

ENABLED = True
"""Whether decorating generates; read each time. Off, every function is wrapped by the closures."""

MAX_SHAPES = 2048
"""Shapes that are kept. A program has some dozens; one that makes up parameter names for ever gets closures."""

_VARARGS, _VARKEYWORDS = 0x04, 0x08
_ANYTHING = ("*args, **kwargs", "*args, **kwargs")

_shapes: dict[object, Shape] = {}
_numbers = count(1)


def compiled(parts: Sequence[Any], fn: Fn) -> Fn | None:
    """A wrapper of a function in these policies, outermost first; None where nothing of it can be written out."""
    found = _runs(parts, fn) if ENABLED else None
    if found is None:
        return None
    for each in found:
        fn = _shown(each.bind(fn), fn)
    return fn


def explained(parts: Sequence[Any], fn: Fn) -> str:
    """The text of what `compiled` makes, innermost wrapper first; what is left to closures is named."""
    texts: list[str] = []
    for each in _runs(parts, fn) or reversed(parts):
        shape = each.shape_for(fn) if isinstance(each, _Run) else None
        texts.append(f"# {each!r}: a closure, not written out.\n" if shape is None else shape[1])
        fn = _shown(each.bind(fn), fn)
    return "\n".join(texts)


def _shown(bound: Any, fn: Fn) -> Fn:
    if bound is not fn and isinstance(bound, FunctionType):
        # A part further out may name a parameter of the function, so its signature has to show through.
        shown: Any = bound
        shown.__wrapped__ = fn
    wrapper: Fn = bound
    return wrapper


class Layer:
    """How a policy is written out.

    Attributes:
        template: by which template.
        word: what it is called there.
        cells: what the template needs besides the policy, by name.
        inside: given what the policy stands directly around, the function to call in its place.
        awaited: whether it is so for coroutine functions alone.
    """

    __slots__ = ("awaited", "cells", "inside", "template", "word")

    def __init__(
        self,
        template: str,
        word: str,
        cells: dict[str, Any],
        inside: Callable[[Fn], Fn] | None = None,
        *,
        awaited: bool = False,
    ) -> None:
        self.awaited = awaited
        self.template = template
        self.word = word
        self.cells = cells
        self.inside = inside


# --- which policies ---------------------------------------------------------------------------------------------------


def _runs(parts: Sequence[Any], fn: Fn) -> list[Any] | None:
    """What to bind a function with, one after the other: runs of policies that are written out, and the others."""
    shape = shape_of(fn)
    if shape not in {"sync", "coroutine"}:
        return None
    awaits = shape == "coroutine"
    found: list[Any] = []
    run: _Run | None = None
    for part in reversed(parts):
        layer = _layer_of(part)
        if layer is None or (layer.awaited and not awaits):
            found.append(part)
            run = None
            continue
        if run is None or run.closed:
            run = _Run(awaits=awaits)
            found.append(run)
        run.add(part, layer)
    return found if any(isinstance(each, _Run) for each in found) else None


def _layer_of(part: Any) -> Layer | None:
    # A subclass that wraps in its own way is not written out in its parent's.
    for kind in type(part).__mro__:
        if "_inline" in kind.__dict__:
            layer: Layer | None = part._inline()
            return layer
        if "bind" in kind.__dict__:
            return None
    return None


class _Run:
    """Policies that become one wrapper: at most one retry, and it outermost."""

    __slots__ = ("_awaits", "_layers", "_parts", "closed")

    def __init__(self, *, awaits: bool) -> None:
        self._awaits = awaits
        self._parts: list[Any] = []
        self._layers: list[Layer] = []
        self.closed = False

    def add(self, part: Any, layer: Layer) -> None:
        """Put a policy around those that are here."""
        self._parts.append(part)
        self._layers.insert(0, layer)
        self.closed = "retry" in layer.template

    def __repr__(self) -> str:
        return ", ".join(map(repr, reversed(self._parts)))

    def bind(self, fn: Fn) -> Fn:
        """Wrap a function: by a generated wrapper, or by closures where there can be none."""
        shape = self.shape_for(fn)
        if shape is None:
            for part in self._parts:
                fn = _shown(part.bind(fn), fn)
            return fn
        innermost = self._layers[-1]
        inside = fn if innermost.inside is None else innermost.inside(fn)
        made = shape[0](*self._cells(inside).values())
        wrapper = FunctionType(made.__code__.replace(), made.__globals__, made.__name__, None, made.__closure__)
        if isinstance(fn, FunctionType):
            wrapper.__defaults__, wrapper.__kwdefaults__ = fn.__defaults__, fn.__kwdefaults__
        return wrapper

    def shape_for(self, fn: Fn) -> Shape | None:
        """What makes wrappers of functions with these parameters; None where there can be no such thing."""
        if any(map(_is_unfit, _names(fn))):
            return None
        parameters, arguments = _parameters(fn)
        layers = tuple((layer.template, layer.word) for layer in self._layers)
        key = (layers, parameters, self._awaits)
        shape = _shapes.get(key)
        if shape is None and len(_shapes) < MAX_SHAPES:
            text = source(layers, tuple(self._cells(fn)), parameters, arguments, awaits=self._awaits)
            shape = _shapes.setdefault(key, (_made(text, f"<resilience wrapper {next(_numbers)}>"), text))
        return shape

    def _cells(self, fn: Fn) -> dict[str, Any]:
        cells: dict[str, Any] = {"_function": fn}
        for number, (part, layer) in enumerate(zip(reversed(self._parts), self._layers, strict=True), 1):
            if layer.template == "bounded_retry":
                cells["_retry"] = part
            elif "retry" in layer.template:
                inner = fn
                for gate in self._parts[:-1]:
                    inner = gate.bind(inner)
                cells |= {"_retry": Rest(part, inner, awaits=self._awaits), **layer.cells}
            else:
                cells[f"_{layer.word}{number}"] = part
                cells |= {f"_{name}{number}": value for name, value in layer.cells.items()}
        return cells


# --- which parameters -------------------------------------------------------------------------------------------------


def _names(fn: Fn) -> tuple[str, ...]:
    """The names of a function's parameters, in the order of its code: positional, keyword-only, `*`, `**`."""
    if not isinstance(fn, FunctionType):
        return ()
    code = fn.__code__
    stars = bool(code.co_flags & _VARARGS) + bool(code.co_flags & _VARKEYWORDS)
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + stars]


def _is_unfit(name: str) -> bool:
    ours = name.rstrip("0123456789") in RESERVED
    return ours or not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name)


def _parameters(fn: Fn) -> tuple[str, str]:
    """A function's parameters as a list to declare, without defaults, and as a list to pass on."""
    if not isinstance(fn, FunctionType):
        return _ANYTHING
    code, names = fn.__code__, _names(fn)
    keywords = names[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    stars = list(names[code.co_argcount + code.co_kwonlyargcount :])
    declared, passed = list(names[: code.co_argcount]), list(names[: code.co_argcount])
    if code.co_posonlyargcount:
        declared.insert(code.co_posonlyargcount, "/")
    if code.co_flags & _VARARGS:
        name = stars.pop(0)
        declared.append(f"*{name}")
        passed.append(f"*{name}")
    elif keywords:
        declared.append("*")
    declared += keywords
    passed += [f"{name}={name}" for name in keywords]
    declared += [f"**{name}" for name in stars]
    passed += [f"**{name}" for name in stars]
    return ", ".join(declared), ", ".join(passed)


# --- code -------------------------------------------------------------------------------------------------------------


def _made(text: str, filename: str) -> Callable[..., FunctionType]:
    """Compile the text of a shape, which tracebacks and debuggers can then show."""
    from linecache import cache

    code: CodeType = compile(text, filename, "exec", dont_inherit=True)
    namespace: dict[str, Any] = {"__name__": __name__, "_hub": HUB}
    exec(code, namespace)  # noqa: S102 - constant templates and checked parameter names, nothing else
    cache[filename] = len(text), None, text.splitlines(keepends=True), filename
    make: Callable[..., FunctionType] = namespace.pop("make")
    return make

"""Metrics for statsd, over UDP.

The protocol is text and has no schema, so what is written is what DogStatsD, Telegraf, Vector and statsd_exporter agree
on: `name:value|type|#label:value`. Older servers know no labels; `tags=False` puts them into the name.

Each event is one datagram, sent without waiting: a server that is not there costs a failed send, and a full buffer
loses a datagram rather than time. There is no thread, so gauges go out with the first event after a second has passed.
"""

from __future__ import annotations

import re
import socket
from math import inf

from resilience import _hub, clock
from resilience._checks import positive_int, wrong_type, wrong_value
from resilience.telemetry._labels import Labels
from resilience.telemetry._measures import measures, readings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from resilience.clock import Clock
    from resilience.events import Event
    from resilience.telemetry._table import Metric

__all__ = ["to_statsd"]

_EVERY = 1.0
_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-\[\]]")
_LARGEST = 1400  # what one Ethernet frame takes


def to_statsd(host: str, port: int, *, tags: bool = True, max_names: int = 1000) -> Callable[[], None]:
    """Send every metric of the table to a statsd server. Safe from any thread; never blocks a call.

    Durations are sent in milliseconds (`ms`), as is the custom there. Characters that mean something in the protocol
    become `_`.

    Args:
        host: the server's name or address; looked up once, here.
        port: its UDP port.
        tags: whether labels are sent as tags; if not, they are parts of the name.
        max_names: names of policies beyond so many are counted under "other".

    Returns:
        A function that stops it and closes the socket.

    Raises:
        OSError: the host is not known.
        TypeError, ValueError: a parameter breaks its rule.
    """
    if not isinstance(host, str):
        raise wrong_type("host", "a name or an address", host)
    if not isinstance(tags, bool):
        raise wrong_type("tags", "True or False", tags)
    if positive_int("port", port) > 65535:
        raise wrong_value("port", "an integer from 1 to 65535", port)
    labels = Labels(max_names)
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    sender = _Sender(socket.socket(family, kind, protocol), address, labels, tags=tags)
    unlisten = _hub.listen(sender.hear)

    def stop() -> None:
        unlisten()
        sender.close()

    return stop


class _Sender:
    def __init__(self, wire: socket.socket, address: tuple[Any, ...], labels: Labels, *, tags: bool) -> None:
        wire.setblocking(False)
        # Asked for, not needed: with less, a burst loses datagrams sooner.
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._wire = wire
        self._address = address
        self._labels = labels
        self._tags = tags
        self._clock: Clock = clock.default
        self._due = -inf

    def hear(self, event: Event) -> None:
        self._send([self._line(*measure) for measure in measures(event, self._labels)])
        now = self._clock.now()
        if now >= self._due:
            self._due = now + _EVERY
            self._send(
                [
                    self._line(metric, at, value)
                    for metric, found in readings(self._labels)
                    for at, value in found.items()
                ]
            )

    def close(self) -> None:
        self._wire.close()

    def _line(self, metric: Metric, values: tuple[str, ...], number: float) -> str:
        form = {"counter": "c", "gauge": "g", "histogram": "ms" if metric.unit == "s" else "h"}[metric.form]
        shown = f"{number * 1000 if form == 'ms' else number:.17g}"
        words = [_UNSAFE.sub("_", value) for value in values]
        if self._tags:
            told = ",".join(f"{label}:{word}" for label, word in zip(metric.labels, words, strict=True) if word)
            return f"{metric.name}:{shown}|{form}|#{told}"
        name = ".".join([metric.name, *[word.replace(".", "_") for word in words if word]])
        return f"{name}:{shown}|{form}"

    def _send(self, lines: list[str]) -> None:
        packet = ""
        for line in lines:
            if packet and len(packet) + len(line) >= _LARGEST:
                self._put(packet)
                packet = ""
            packet = f"{packet}\n{line}" if packet else line
        if packet:
            self._put(packet)

    def _put(self, packet: str) -> None:
        try:
            self._wire.sendto(packet.encode(), self._address)
        except OSError:
            # Nobody there, no room, or stopped a moment ago: statsd is told what it can be told, and no call waits.
            return

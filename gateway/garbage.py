"""Python's garbage collector, told what stays: what was built at the start is not looked through again.

Now and then the collector looks at every object there is, and nothing else happens meanwhile: a fifth of a
second with a thousand devices. Nearly all of what it looks at is configuration, settings and code, which
live as long as the process. They are set aside, and a full look takes milliseconds. What is set aside is
still freed when nobody refers to it; only circles of such objects would stay, and these are made once.
"""

from __future__ import annotations

import asyncio
import gc

#: By then the first sessions stand, and what they are made of stays too.
SETTLED_S = 30.0
#: So many more objects than before make the collector look at the newest: a large batch is not yet a reason.
YOUNG_MAX = 10_000


def set_aside_what_stays() -> None:
    """Call once everything is built and before anything moves; goes on by itself once it has settled."""
    gc.set_threshold(YOUNG_MAX, 10, 10)
    gc.collect()
    gc.freeze()
    asyncio.get_running_loop().call_later(SETTLED_S, gc.freeze)

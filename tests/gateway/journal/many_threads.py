"""Several journals of one process, each in its thread, pack and unpack at the same time; ends with 0 when all
of it comes back as it was. A program of its own, because what is shared here may end the process.
"""

from __future__ import annotations

import random
import threading

from gateway.journal.codec import Coder, seal
from gateway.journal.places import Places

TURNS = 400


def work(seed: int, wrong: list[object]) -> None:
    chance = random.Random(seed)
    coder = Coder(b'{"stream":"')
    try:
        for turn in range(TURNS):
            bodies = [chance.randbytes(2_000) + b"x" * 30_000 for _ in range(4)]
            payload = coder.pack_batches(bodies)
            places = Places()
            for seq in range(1, 200):
                places.add(seq, chance.getrandbits(40))
            again = Places.unpack(places.pack())
            if coder.unpack(turn, 1, seal(turn, 1, payload)) != bodies or again.last != 199:
                wrong.append(turn)
    except Exception as error:  # whatever it is: the threads share something
        wrong.append(error)


if __name__ == "__main__":
    found: list[object] = []
    threads = [threading.Thread(target=work, args=(seed, found)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    raise SystemExit(f"{len(found)} wrong, the first: {found[0]!r}" if found else 0)

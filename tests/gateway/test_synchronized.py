"""Whether the clock is synchronised is known and shown: health warns, a figure tells, nothing is made up."""

from __future__ import annotations

import errno
from pathlib import Path

import httpx
import pytest

from gateway.synchronized import STA_UNSYNC, TIME_ERROR, ClockWatch, Reader, Synchronized, kernel
from tests.gateway.assembly.living_site import Machine, Site, running
from tests.support.small_plc import small_plcs


def says(state: int, status: int) -> Reader:
    return lambda: (state, status)


def fails() -> tuple[int, int]:
    raise OSError(errno.EPERM, "adjtimex")


#: What the kernel says, what that means, and the figure.
CASES = [
    (says(0, 0x2001), Synchronized.YES, 1.0),
    (says(1, 0x2001), Synchronized.YES, 1.0),  # a leap second is announced
    (says(TIME_ERROR, STA_UNSYNC), Synchronized.NO, 0.0),
    (says(0, STA_UNSYNC), Synchronized.NO, 0.0),
    (says(TIME_ERROR, 0x2001), Synchronized.NO, 0.0),
    (fails, Synchronized.UNKNOWN, None),
]


@pytest.mark.parametrize(("reader", "meaning", "figure"), CASES)
def test_what_the_kernel_says_is_shown(reader: Reader, meaning: Synchronized, figure: float | None) -> None:
    watch = ClockWatch(reader)
    part = watch.part_of_health()["clock"]
    assert part["synchronized"] == meaning
    assert part["ok"] is True, "nothing is lost by it"
    assert bool(part.get("warnings")) == (meaning is Synchronized.NO)
    values = [sample.value for family in watch.figures() for sample in family.samples]
    assert values == ([] if figure is None else [figure])


def test_this_kernel_is_understood() -> None:
    try:
        state, status = kernel()
    except OSError:
        pytest.skip("this kernel may not be asked here")
    assert 0 <= state <= TIME_ERROR
    # The kernel never says TIME_OK of a clock that is not synchronised: the bits are those of the status.
    if status & STA_UNSYNC:
        assert state == TIME_ERROR


async def test_a_gateway_tells_it(tmp_path: Path) -> None:
    async with small_plcs(1) as [plc]:
        site = Site(
            links={"left": (plc.port, 1, 20)}, machines={"press": Machine("left/r0")}, listen="127.0.0.1:0"
        )
        async with running(tmp_path, site) as gateway, httpx.AsyncClient(trust_env=False, timeout=45) as http:
            await gateway.until_up()
            url = gateway.gateway.addresses.api
            part = (await http.get(f"{url}/readyz")).json()["parts"]["clock"]
            metrics = (await http.get(f"{url}/metrics")).text
    told = {"yes": "andon_clock_synchronized 1.0", "no": "andon_clock_synchronized 0.0"}
    if part["synchronized"] == "unknown":
        assert "andon_clock_synchronized" not in metrics
    else:
        assert told[part["synchronized"]] in metrics

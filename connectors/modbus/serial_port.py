"""A serial port as a transport of the event loop. pyserial opens and sets it up; the loop reads and writes.

So it works with every loop that can watch a file descriptor, and nothing here blocks.
"""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import suppress
from typing import Any

import serial

from connectors.modbus.config import SerialSettings

_READ_BYTES_MAX = 4096
_PARITY = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}


def open_port(path: str, settings: SerialSettings) -> serial.Serial:
    """A port, for us alone.

    Raises:
        OSError: it is not there, may not be opened, or is in use (`serial.SerialException` is one).
        ValueError: the port does not have this baud rate.
    """
    return serial.Serial(
        path,
        baudrate=settings.baud,
        bytesize=settings.data_bits,
        parity=_PARITY[settings.parity],
        stopbits=settings.stop_bits,
        timeout=0,
        exclusive=True,
    )


class SerialTransport(asyncio.Transport):
    """Calls its protocol as a socket's transport does."""

    def __init__(self, port: serial.Serial, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._port = port
        self._fd: int = port.fileno()
        self._protocol = protocol
        self._unsent = bytearray()
        self._ended = False
        self._loop.add_reader(self._fd, self._can_read)
        protocol.connection_made(self)

    def write(self, data: Any) -> None:
        """Send as soon as the port takes it."""
        if self._ended:
            return
        waiting = bool(self._unsent)
        self._unsent += data
        if not waiting:
            self._can_write()

    def abort(self) -> None:
        """Close at once; what is unsent is dropped."""
        self._end(None)

    def close(self) -> None:
        """The same: there is nobody who would take a farewell."""
        self._end(None)

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self._ended

    def _can_read(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES_MAX)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if not data:  # ready to be read and nothing there: the adapter was pulled out
            self._end(OSError(errno.ENODEV, "the serial port is gone"))
            return
        try:
            self._protocol.data_received(data)
        except Exception as error:  # noqa: BLE001 - as sockets do: the protocol is told, and passes it on
            self._end(error)

    def _can_write(self) -> None:
        try:
            sent = os.write(self._fd, self._unsent)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._end(error)
            return
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._fd, self._can_write)
        else:
            self._loop.remove_writer(self._fd)

    def _end(self, error: Exception | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        with suppress(OSError):
            self._port.close()
        self._loop.call_soon(self._protocol.connection_lost, error)

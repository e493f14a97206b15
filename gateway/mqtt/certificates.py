"""Certificates of a connection: whether our files are new, and how long ours and the broker's are good for.

Files are looked at off the event loop. What cannot be used is told and changes nothing: a connection that
stands is worth more than one with newer papers. Knows nothing of MQTT but that a connection is made anew.
"""

from __future__ import annotations

from pathlib import Path

from gateway.mqtt.options import LinkOptions

#: What a look at the certificate files saw: for each its inode, size and time of change (ns), or None.
Files = tuple[tuple[int, int, int] | None, ...]


def files_of(options: LinkOptions) -> Files:
    """The certificate files as they are on disk now. Does not wait for a network; a look at each file."""
    if not options.tls:
        return ()
    return tuple(_seen(name) for name in (options.ca_file, options.cert_file, options.key_file))


def _seen(name: str | None) -> tuple[int, int, int] | None:
    if name is None:
        return None
    try:
        stat = Path(name).stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns

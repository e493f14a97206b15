"""Where things are said: the topic tree of one gateway. Pure; knows nothing of payloads or brokers.

    {enterprise}/{site}/{path}/_state                       the state of an equipment, retained
    {enterprise}/{site}/{path}/_event/{type}                what happened to it
    {enterprise}/{site}/{path}/_tag/{connection}/{tag}      a tag it is bound to, retained
    {enterprise}/{site}/_tag/{connection}/{tag}             a tag no equipment is bound to, retained
    andon/{gateway}/status                                  online or offline, retained
    andon/{gateway}/_event/{type}                           what happened to a connection

Levels of places begin with a letter or digit (configuration sees to that), so the levels that begin with an
underscore can never be mistaken for a place.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topics:
    """The topics of one gateway."""

    enterprise: str
    site: str
    gateway: str

    @property
    def status(self) -> str:
        """Whether the gateway is there; also the topic of its will."""
        return f"andon/{self.gateway}/status"

    def state(self, path: str) -> str:
        """The newest state of the equipment at `path`."""
        return f"{self.enterprise}/{self.site}/{path}/_state"

    def event(self, path: str, type_: str) -> str:
        """Events of one type of an equipment; of the gateway's connections when `path` is empty."""
        if path:
            return f"{self.enterprise}/{self.site}/{path}/_event/{type_}"
        return f"andon/{self.gateway}/_event/{type_}"

    def tag(self, path: str, tag: str) -> str:
        """The newest value of a tag (full id, `connection/name`), below an equipment or below the site."""
        place = f"{self.enterprise}/{self.site}/{path}" if path else f"{self.enterprise}/{self.site}"
        return f"{place}/_tag/{tag}"

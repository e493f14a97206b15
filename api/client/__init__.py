"""A client of a gateway's API for Python programs: typed answers, pages, events that resume, problems.

    from api.client import Gateway

    with Gateway("https://line-1.example:8420", token="ak_...", ca="plant-ca.pem") as gateway:
        for view in gateway.equipment.list(category="unscheduled-down"):
            print(view.name, view.state.state, view.state.since)
        for event in gateway.events.follow(types=["transition"]):
            print(event.cursor, event.data["equipment"], event.data["to_state"])

It blocks, and may be used from one thread at a time. It knows the wire and nothing of what is behind it.
"""

from api.client.errors import BadAnswer, ClientError, CursorLost, NoAnswer, Refused
from api.client.events import Event
from api.client.gateway import Gateway

__all__ = ["BadAnswer", "ClientError", "CursorLost", "Event", "Gateway", "NoAnswer", "Refused"]

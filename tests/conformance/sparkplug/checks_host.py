"""The primary host: waiting for it, leaving when it goes, and walking the servers. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from tests.conformance.sparkplug.judging import Verdict, proves
from tests.conformance.sparkplug.story import (
    ANOTHER,
    AWAY,
    BIRTHS,
    KILLED,
    NAMESPACE,
    STOPPED,
    Message,
    Session,
    Story,
)
from tests.conformance.sparkplug.wire import Note, Packet


class State(NamedTuple):
    """A STATE message as the rules judge it: `online` is None when it is none or of another host."""

    packet: Packet
    online: bool | None
    timestamp: int
    valid: bool
    """Not older than the newest seen on this connection (online), or than the last online (offline)."""


def states(session: Session, host: str | None) -> list[State]:
    """What a connection was told of the host, judged in order."""
    found: list[State] = []
    newest: int | None = None
    last_online: int | None = None
    for message in session.heard:
        if message.kind != "STATE":
            continue
        online, timestamp = _said(message, host)
        if online is None:
            found.append(State(message.packet, None, timestamp, valid=False))
            continue
        bound = newest if online else last_online
        valid = bound is None or timestamp >= bound
        found.append(State(message.packet, online, timestamp, valid))
        if valid:
            newest = timestamp if newest is None else max(newest, timestamp)
            last_online = timestamp if online else last_online
    return found


def _said(message: Message, host: str | None) -> tuple[bool | None, int]:
    if message.publish.topic != f"{NAMESPACE}/STATE/{host}":
        return None, 0
    try:
        said = json.loads(message.publish.payload)
        online, timestamp = said["online"], said["timestamp"]
    except (ValueError, KeyError, TypeError):
        return None, 0
    if not isinstance(online, bool) or isinstance(timestamp, bool) or not isinstance(timestamp, int):
        return None, 0
    return online, timestamp


def _guided(story: Story) -> list[Session]:
    """The sessions of edge nodes that wait for a host."""
    return [one for one in story.sessions if one.node and story.facts.primary_host is not None]


def _births_wait(story: Story) -> Iterator[tuple[Message, State | None, list[State]]]:
    """Each birth with the last valid STATE before it, and all before it."""
    for session in _guided(story):
        told = states(session, story.facts.primary_host)
        for birth in session.of(*BIRTHS):
            before = [state for state in told if state.packet.number < birth.number]
            valid = [state for state in before if state.online is not None and state.valid]
            yield birth, valid[-1] if valid else None, before


@proves(
    "message-flow-edge-node-birth-publish-phid-wait", "operational-behavior-edge-node-birth-sequence-wait"
)
def births_wait_for_the_host(story: Story) -> Iterator[Verdict]:
    for birth, state, _ in _births_wait(story):
        right = state is not None and state.online is True
        yield Verdict(birth.number, None if right else f"{birth.kind} while the host is not online")


@proves("message-flow-edge-node-birth-publish-phid-wait-id")
def another_host_does_not_count(story: Story) -> Iterator[Verdict]:
    """Judged where the STATE of another host came, or was there to be had; under a similar name too."""
    yield from _not_on_account_of(story, lambda topic, host: topic != f"{NAMESPACE}/STATE/{host}")
    for packet, _ in story.noted(ANOTHER):
        for birth, state, _before in _births_wait(story):
            if birth.number > packet.number:
                problem = None if state is not None and state.online else "born on account of another host"
                yield Verdict(birth.number, problem)


@proves("message-flow-edge-node-birth-publish-phid-wait-online")
def only_online_counts(story: Story) -> Iterator[Verdict]:
    return _not_on_account_of(story, lambda topic, host: topic == f"{NAMESPACE}/STATE/{host}")


def _not_on_account_of(story: Story, chosen: object) -> Iterator[Verdict]:
    """A STATE that does not say that our host is online is not followed by births."""
    assert callable(chosen)
    host = story.facts.primary_host
    for session in _guided(story):
        told = states(session, host)
        topics = {m.packet.number: m.publish.topic for m in session.heard if m.kind == "STATE"}
        for state in told:
            if state.online is True or not chosen(topics[state.packet.number], host):
                continue
            if any(one.online and one.valid and one.packet.number < state.packet.number for one in told):
                continue
            online = (s.packet.number for s in told if s.online and s.packet.number > state.packet.number)
            end = next(online, story.packets[-1].number + 1)
            births = [b.number for b in session.of(*BIRTHS) if state.packet.number < b.number < end]
            problem = f"born at {births[0]} on account of it" if births else None
            yield Verdict(state.packet.number, problem)


@proves("message-flow-edge-node-birth-publish-phid-wait-timestamp")
def an_older_online_does_not_count(story: Story) -> Iterator[Verdict]:
    """While waiting after a newer offline, an online with an older timestamp changes nothing."""
    for session in _guided(story):
        told = states(session, story.facts.primary_host)
        for place, state in enumerate(told):
            if state.online is True:
                later = told[place + 1].packet.number if place + 1 < len(told) else 1 << 62
                births = [b for b in session.of("NBIRTH") if state.packet.number < b.number < later]
                first = not any(s.online and s.valid for s in told[:place])
                problem = (
                    "born on account of an older STATE" if first and births and not state.valid else None
                )
                yield Verdict(state.packet.number, problem)


def _offline(story: Story, *, valid: bool) -> Iterator[tuple[Session, State]]:
    for session in _guided(story):
        for state in states(session, story.facts.primary_host):
            if state.online is False and state.valid == valid:
                yield session, state


@proves("message-flow-edge-node-birth-publish-phid-offline")
def it_says_ndeath_and_leaves_when_the_host_goes(story: Story) -> Iterator[Verdict]:
    for session, state in _offline(story, valid=True):
        born = [m for m in session.of("NBIRTH") if m.number < state.packet.number]
        if born:
            until = _other_reason(story, session, state)
            told = any(state.packet.number < m.number < until for m in session.of("NDEATH"))
            problem = None if told else "no NDEATH although the host has gone"
            yield Verdict(state.packet.number, problem or _stays(story, session, state))


def _stays(story: Story, session: Session, state: State) -> str | None:
    end = session.disconnect or session.closed
    until = _other_reason(story, session, state)
    gone = end is not None and state.packet.number < end.number < until
    return None if gone else "still connected although the host has gone"


def _other_reason(story: Story, session: Session, state: State) -> int:
    """The packet from which on there is another reason to leave, or none at all any more.

    "At once" is not measured in time, which a busy machine stretches: whoever plays the host waits for the
    end before anything else is done.
    """
    told = states(session, story.facts.primary_host)
    back = [s.packet.number for s in told if s.online is True and s.valid]
    done = [packet.number for packet, _ in story.noted(STOPPED, KILLED, AWAY)]
    return min((n for n in (*back, *done) if n > state.packet.number), default=1 << 62)


@proves("operational-behavior-edge-node-termination-host-offline")
def it_disconnects_when_the_host_goes(story: Story) -> Iterator[Verdict]:
    for session, state in _offline(story, valid=True):
        if any(birth.number < state.packet.number for birth in session.of("NBIRTH")):
            yield Verdict(state.packet.number, _stays(story, session, state))


@proves("operational-behavior-edge-node-termination-host-offline-timestamp")
def an_older_offline_changes_nothing(story: Story) -> Iterator[Verdict]:
    """It goes on publishing in the same session: the next thing it says is not its death."""
    for session, state in _offline(story, valid=False):
        after = [message for message in session.said if message.number > state.packet.number]
        told = states(session, story.facts.primary_host)
        excuse = [s.packet.number for s in told if s.online is False and s.valid]
        excuse += [
            p.number for p in story.notes if isinstance(p.body, Note) and p.body.what in (STOPPED, KILLED)
        ]
        until = min((n for n in excuse if n > state.packet.number), default=1 << 62)
        end = session.disconnect or session.closed
        left = end is not None and state.packet.number < end.number < until
        went_on = bool(after) and after[0].kind != "NDEATH"
        problem = None if went_on and not left else "it left on account of an old death"
        yield Verdict(state.packet.number, problem)


def _next_session(story: Story, session: Session) -> Session | None:
    own = story.by_node[session.node]
    place = own.index(session)
    return own[place + 1] if place + 1 < len(own) else None


@proves(
    "operational-behavior-edge-node-termination-host-offline-reconnect",
    "operational-behavior-primary-application-state-with-multiple-servers-walk",
)
def then_it_goes_to_the_next_server(story: Story) -> Iterator[Verdict]:
    servers = list(story.facts.servers)
    for session, state in _offline(story, valid=True):
        if len(servers) < 2:
            continue
        following = _next_session(story, session)
        stopped = any(p.number > state.packet.number for p, _ in story.noted(STOPPED))
        if following is None and stopped:
            continue
        wanted = servers[(servers.index(session.server) + 1) % len(servers)]
        where = following.server if following else "nowhere"
        problem = None if where == wanted else f"from {session.server} it went to {where}, not {wanted}"
        yield Verdict(state.packet.number, problem)


@proves("operational-behavior-primary-application-state-with-multiple-servers-state-subs")
def the_state_of_the_host_is_subscribed(story: Story) -> Iterator[Verdict]:
    wanted = f"{NAMESPACE}/STATE/{story.facts.primary_host}"
    for session in _guided(story):
        births = session.of("NBIRTH")
        before = births[0].number if births else story.packets[-1].number + 1
        filters = [
            topic
            for packet, subscribe in session.subscriptions
            for topic, _ in subscribe.filters
            if packet.number < before
        ]
        if session.subscriptions or births:
            problem = None if wanted in filters else f"no subscription to {wanted}"
            yield Verdict(session.packets[0].number, problem)


@proves("operational-behavior-primary-application-state-with-multiple-servers-single-server")
def one_server_at_a_time(story: Story) -> Iterator[Verdict]:
    if len(story.facts.servers) < 2:
        return
    for sessions in story.by_node.values():
        open_until = 0
        for session in sessions:
            first = session.packets[0].number
            problem = f"connected to {session.server} and another" if first < open_until else None
            yield Verdict(first, problem)
            closed = session.closed
            open_until = closed.number if closed else story.packets[-1].number + 1

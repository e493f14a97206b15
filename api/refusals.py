"""Why a command is refused: every code with its HTTP status, its meaning and what usually helps.

The codes are the same over REST, MQTT and Sparkplug, in events and in the audit trail, and they never change
their meaning. `api.problems` makes problem documents of them. Knows nothing of how it is judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from api.kinds import Kind


class Refusal(NamedTuple):
    """One row: HTTP status, title, when it happens, what usually helps."""

    status: int
    title: str
    meaning: str
    hint: str


#: By code, in the order in which a command meets them.
REFUSALS: Mapping[str, Refusal] = {
    "writes_off": Refusal(
        403,
        "Commands are off",
        "The gateway is not configured to write anything.",
        "Commands need [commands] with enabled = true, and a rule that allows this one.",
    ),
    "not_allowed": Refusal(
        403,
        "Not on the list",
        "No rule of the configuration allows this tag or command over this way.",
        "What may be commanded is listed under [[commands.allow]].",
    ),
    "role": Refusal(
        403,
        "Role not enough",
        "None of the caller's roles may do this.",
        "The rule in [[commands.allow]] says which roles may.",
    ),
    "area": Refusal(
        403,
        "Other area",
        "The equipment lies outside the caller's areas.",
        "Ask somebody whose area it is.",
    ),
    "state_unknown": Refusal(
        409,
        "State unknown",
        "The command depends on the state of the equipment, and that is not known now.",
        "GET /api/v1/equipment/{name}/state says why it is not known.",
    ),
    "state": Refusal(
        409,
        "Wrong state",
        "The command is not allowed in the present state of the equipment.",
        "Bring the equipment into one of the states the reason names.",
    ),
    "wrong_value": Refusal(
        422,
        "Not a value for this tag",
        "The value is not of the kind the tag has, or is no finite number.",
        "Send a number for a number, true or false for a bit, a text for a text.",
    ),
    "out_of_range": Refusal(
        422,
        "Out of range",
        "The value lies outside the limits of the rule.",
        "Send a value within the limits the reason names.",
    ),
    "value_unknown": Refusal(
        409,
        "Present value unknown",
        "The rule limits the change at once, and there is no good present value to measure it from.",
        "Wait until the tag is read with good quality.",
    ),
    "step": Refusal(
        422,
        "Step too large",
        "The value differs more from the present one than the rule allows at once.",
        "Go there in smaller steps.",
    ),
    "rate": Refusal(
        429,
        "Too many commands",
        "More commands in a time than the rule, or the gateway as a whole, allows.",
        "Wait for the time in Retry-After.",
    ),
    "not_armed": Refusal(
        409,
        "Not armed",
        "The rule wants the command armed first, and this one is not.",
        "POST /api/v1/commands/arm with the same tag and value, then send the command with what it gives.",
    ),
    "arm_expired": Refusal(
        409,
        "No longer armed",
        "What it was armed with has run out, or has been used.",
        "Arm it again.",
    ),
    "arm_mismatch": Refusal(
        409,
        "Armed for something else",
        "It was armed by another person, or for another tag or value.",
        "Arm exactly what is to be commanded, as the same person.",
    ),
    "approval_person": Refusal(
        403,
        "No second person",
        "Only a person who has logged in can be the second person; a key or the local caller cannot.",
        "Log in as a user: andon login.",
    ),
    "approval_self": Refusal(
        403,
        "Approved by oneself",
        "Whoever asked for a command, or made the key that asked for it, cannot approve it too.",
        "Ask another person.",
    ),
    "approval_value": Refusal(
        409,
        "Another value",
        "What is approved is not what was asked for.",
        "Look at the command again: GET /api/v1/commands/{id}.",
    ),
    "approval_expired": Refusal(
        409,
        "Approved too late",
        "The time in which the command could be approved is over.",
        "Ask for it anew, under a new Idempotency-Key.",
    ),
    "approval_not_needed": Refusal(
        409,
        "Nothing to approve",
        "The command does not wait for an approval: it needs none, has one, or has ended.",
        "GET /api/v1/commands/{id} says how far it has come.",
    ),
    "rule_changed": Refusal(
        409,
        "Changed meanwhile",
        "Its rule, tag or connection was changed after it was asked for; nothing was sent.",
        "Look at what is configured now, and ask for it anew, under a new Idempotency-Key.",
    ),
    "key_reused": Refusal(
        422,
        "Key used before",
        "The Idempotency-Key of the request came with another request before.",
        "Use a new key for every new request, and the same only to send the same again.",
    ),
    "key_running": Refusal(
        409,
        "Still at it",
        "A request with this Idempotency-Key is being worked on.",
        "Ask again after the time in Retry-After; the answer is then that of the first.",
    ),
    "expired": Refusal(
        409,
        "Expired",
        "The time of the command was over before anything was sent.",
        "Send it anew, under a new key, if it is still wanted.",
    ),
    "busy": Refusal(
        503,
        "Too many at once",
        "As many commands wait, for this tag or altogether, as the gateway lets wait.",
        "Wait for the time in Retry-After.",
    ),
    "audit_unavailable": Refusal(
        503,
        "No audit trail",
        "The audit trail cannot be written, and nothing is commanded without a trace.",
        "/readyz shows the state of each part.",
    ),
    "ledger_unavailable": Refusal(
        503,
        "No ledger",
        "The ledger of commands cannot be written, so that one could be sent twice.",
        "Is the disk of data_dir full, or read-only?",
    ),
    "journal_unavailable": Refusal(
        503,
        "No journal",
        "The journal did not take the command in time, and nothing is commanded without a trace.",
        "/readyz shows the state of each part.",
    ),
    "stopping": Refusal(
        503,
        "Stopping",
        "The gateway is shutting down and takes no commands.",
        "Send it again, under the same key, after the time in Retry-After.",
    ),
    "interrupted": Refusal(
        409,
        "Interrupted",
        "The gateway was stopped before the command was sent; nothing was sent.",
        "Send it anew, under a new key, if it is still wanted.",
    ),
    "device_refused": Refusal(
        409,
        "Refused by the device",
        "The device, or the link to it, would not take the command; nothing was carried out.",
        "The reason says what the device said; GET /api/v1/connections shows the state of the link.",
    ),
}

#: Codes that other routes have too, with the same meaning.
_SHARED = frozenset(("key_reused", "stopping"))

#: The same as problems, and those of requests that are no commands.
COMMAND_KINDS: tuple[Kind, ...] = (
    *(Kind(code, *row) for code, row in REFUSALS.items() if code not in _SHARED),
    Kind(
        "key_missing",
        400,
        "No Idempotency-Key",
        "A command came without an Idempotency-Key, so that sending it again could carry it out twice.",
        "Send the header Idempotency-Key with a new UUID for every new command.",
    ),
    Kind(
        "unknown_command",
        404,
        "Unknown command",
        "There is no command of this id, or it is kept no more.",
        "GET /api/v1/commands lists those that are kept.",
    ),
)

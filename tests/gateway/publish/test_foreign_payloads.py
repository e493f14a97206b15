"""What others have put under our topics is no reason to stop: it is not ours, and that is all."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.publish.holdings import Holdings
from gateway.publish.ownership import read_state, read_tag

FOREIGN = [
    b"",
    b"{}",
    b"\xff\xfe",
    b'{"equipment":"\xf0a"}',
    b'{"tag":"\xf0a"}',
    b'{"\xf0a":1}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("payload", FOREIGN)
def test_a_payload_of_others_is_neither_a_state_nor_a_value(payload: bytes) -> None:
    assert read_state(payload) is None
    assert read_tag(payload) is None


@pytest.mark.parametrize("body", FOREIGN)
def test_remembered_topics_that_cannot_be_read_are_begun_anew(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "published.json").write_bytes(body)
    assert not Holdings(tmp_path).topics

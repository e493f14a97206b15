"""Fixtures: a plant in memory, the application over it, and a client without a socket."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

_ROOT = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

from api.app import create_app  # noqa: E402
from api.settings import ApiSettings  # noqa: E402
from tests.api.twins import Plant, make_ports  # noqa: E402


@pytest.fixture
def settings() -> ApiSettings:
    return ApiSettings(
        heartbeat_s=0.05,
        stall_s=60.0,
        last_word_s=30.0,
        first_message_s=3600.0,
        page_limit=20,
        page_limit_max=50,
    )


@pytest.fixture
def plant() -> Plant:
    plant = Plant()
    plant.fill(60)
    return plant


@pytest.fixture
def app(plant: Plant, settings: ApiSettings) -> FastAPI:
    return create_app(make_ports(plant), settings, now=lambda: plant.now_at)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client

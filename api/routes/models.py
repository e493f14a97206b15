"""State models: which there are, and what each says."""

from __future__ import annotations

from starlette.responses import Response

from api import params
from api.access import Permission
from api.examples import MODEL, MODEL_LIST
from api.hints import did_you_mean, shown
from api.operation import PREFIX, Answer, Call, Context, Operation
from api.paging import page_by_key
from api.problems import Problem
from api.responses import encode_json, list_answer, tagged_answer
from api.routes.find import seen_models
from api.schemas import ModelList, ModelName
from api.settings import ApiSettings


async def list_models(context: Context, call: Call) -> Response:
    """The names of all models."""
    position = context.ports.live.position()
    limit = call.query["limit"] or context.settings.page_limit
    seen = seen_models(context.ports.models, context.ports.live, call.by)
    names, next_ = page_by_key(seen, str, call.query["after"], limit)
    page = ModelList([ModelName(name) for name in names], next_, position.stream, position.last_seq)
    return await list_answer(page, call.headers, context.settings.gzip_bytes_min)


async def get_model(context: Context, call: Call) -> Response:
    """One model: states, transitions, rules."""
    name, seen = call.path["name"], seen_models(context.ports.models, context.ports.live, call.by)
    model = context.ports.models.model(name) if name in seen else None
    if model is None:
        hint = did_you_mean(name, seen)
        raise Problem("unknown_model", f'No state model is named "{shown(name)}".', hint=hint)
    return tagged_answer(encode_json(model), "model", call.headers)


def operations(settings: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    return (
        Operation(
            f"{PREFIX}/models",
            "models",
            "All state models",
            "Built-in models first, then those the configuration brings.",
            list_models,
            (
                Answer(
                    200, "A page of names.", "application/json", ModelList, {"two": MODEL_LIST}, tagged=True
                ),
            ),
            (
                params.text("after", "Only what follows this name: `next` of the page before.", "packml"),
                params.limit(settings.page_limit, settings.page_limit_max),
            ),
            needs=Permission.READ,
            scoped=True,
        ),
        Operation(
            f"{PREFIX}/models/{{name}}",
            "models",
            "One state model",
            "States with codes and categories, transitions, and rules where it has them.",
            get_model,
            (
                Answer(
                    200,
                    "The model.",
                    "application/json",
                    {"type": "object"},
                    {"own model": MODEL},
                    tagged=True,
                ),
            ),
            (params.text("name", "Name of the model.", "packml", "path"),),
            ("unknown_model",),
            needs=Permission.READ,
            scoped=True,
        ),
    )

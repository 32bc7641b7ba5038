"""A host in Django, which knows HTTP alone: no websockets and no lifespan."""

import asyncio
from typing import Any

import django  # type: ignore[import-untyped]
from django.conf import settings  # type: ignore[import-untyped]
from django.core.handlers.asgi import ASGIHandler  # type: ignore[import-untyped]
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]

from tests.hosts.record import HELLO, gates, later, noted, pieces

_later: set["asyncio.Task[None]"] = set()


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse(HELLO, content_type="text/plain", headers={"x-host": "yes"})


async def echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body, headers={"x-length": request.headers.get("content-length", "none")})


async def stream(request: HttpRequest, token: str) -> HttpResponse:
    return StreamingHttpResponse(pieces(token), content_type="text/plain")


async def release(request: HttpRequest, token: str) -> HttpResponse:
    gates[token].set()
    return HttpResponse()


def told(request: HttpRequest) -> HttpResponse:
    return JsonResponse(noted, safe=False)


async def boom(request: HttpRequest) -> HttpResponse:
    raise LookupError("of the host")


def state(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Django has none")


async def background(request: HttpRequest, token: str) -> HttpResponse:
    task = asyncio.create_task(later(token))
    _later.add(task)
    task.add_done_callback(_later.discard)
    return HttpResponse(status=202)


def caught(request: HttpRequest) -> HttpResponse:
    return HttpResponse("caught LookupError", status=418)


def where(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.META['SCRIPT_NAME']}|{request.path_info}")


urlpatterns = [
    path("hello", hello),
    path("echo", echo),
    path("stream/<str:token>", stream),
    path("release/<str:token>", release),
    path("noted", told),
    path("boom", boom),
    path("state", state),
    path("background/<str:token>", background),
    path("where", where),
]
handler500 = caught


def build() -> Any:
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            LOGGING_CONFIG=None,
            MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
            ROOT_URLCONF=__name__,
            SECRET_KEY="only for tests",
        )
        django.setup(set_prefix=False)
    return ASGIHandler()

"""The web application: pages, pictures and the API of one run."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from labeler.errors import LabelerError, UsageError
from labeler.report.cards import KeptIn
from labeler.report.info import RunInfo
from labeler.report.pages import Pages
from labeler.report.site import STATIC
from labeler.serve.api import router
from labeler.serve.live import CSP, LiveRun
from labeler.serve.security import Guarded

_UNIT_FILE = re.compile(r"(\d{1,18})(-negative)?\.html", re.ASCII)
_LAYER_FILE = re.compile(r"(.+)-(\d{1,9})\.html", re.ASCII)
_CONTENT_NAMED = {"Cache-Control": "max-age=31536000, immutable"}  # a picture's name is its content


def create_app(live: LiveRun, names: frozenset[str] | None = None) -> Guarded:
    """The application over a run; `names` are the host names it answers to, None for any."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        live.close()

    app = FastAPI(
        title="labeler", version=version("labeler"), openapi_url="/api/openapi.json", docs_url=None,
        redoc_url=None,
        description="A labelled neuron catalogue, read-only, as it is now.", lifespan=lifespan,
    )  # fmt: skip
    app.state.live = live
    app.include_router(router)
    _add_pages(app, live)
    _add_files(app, live)
    _add_errors(app, live)
    return Guarded(app, names)


def _add_pages(app: FastAPI, live: LiveRun) -> None:
    def page(path: str, answer: Callable[..., Response]) -> None:
        app.add_api_route(path, answer, include_in_schema=False, response_class=HTMLResponse)

    def first() -> Response:
        return HTMLResponse(live.first_page())

    def about() -> Response:
        return HTMLResponse(live.renderer().run())

    def unit(layer: str, file: str) -> Response:
        found = _UNIT_FILE.fullmatch(file)
        if found is None:
            raise HTTPException(404)
        return HTMLResponse(live.unit_page(layer, int(found[1]), bool(found[2])))

    def layer(file: str) -> Response:
        found = _LAYER_FILE.fullmatch(file)
        text = live.layer_page(found[1], int(found[2])) if found else None
        if text is None:
            raise HTTPException(404)
        return HTMLResponse(text)

    def api() -> Response:
        paths = app.openapi()["paths"].items()
        operations = [{"path": path, "parameters": [], **methods["get"]} for path, methods in paths]
        return HTMLResponse(live.renderer().api(operations))

    for path in ("/", "/index.html"):
        page(path, first)
    page("/run.html", about)
    page("/units/{layer}/{file}", unit)
    page("/layers/{file}", layer)
    page("/api", api)


def _add_files(app: FastAPI, live: LiveRun) -> None:
    assets = {path.name: path for path in STATIC.iterdir()}

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        if name not in assets:
            raise HTTPException(404)
        return FileResponse(assets[name])

    @app.get("/images/{name}", include_in_schema=False)
    def image(name: str) -> Response:
        if not name.endswith(".webp") or not KeptIn(live.images)(name):
            raise HTTPException(404)
        return FileResponse(live.images / name, media_type="image/webp", headers=_CONTENT_NAMED)


def _add_errors(app: FastAPI, live: LiveRun) -> None:
    def answer(request: Request, status: int, sentence: str, headers: Any = None) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": sentence}, status, headers)
        pages = Pages(RunInfo("labeler"), KeptIn(live.images), csp=CSP, served=True)
        title = "Not found" if status == 404 else "No answer"
        return HTMLResponse(pages.message(title, sentence), status, headers)

    @app.exception_handler(LabelerError)
    def labeler_error(request: Request, error: LabelerError) -> Response:
        return answer(request, 422 if isinstance(error, UsageError) else 404, str(error))

    @app.exception_handler(RequestValidationError)
    def wrong_question(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return answer(request, 422, f"{first['loc'][-1]}: {first['msg']}.")

    @app.exception_handler(HTTPException)
    def no_answer(request: Request, error: HTTPException) -> Response:
        sentence = "There is no such page." if error.status_code == 404 else f"{error.detail}."
        return answer(request, error.status_code, sentence, error.headers)

    @app.exception_handler(Exception)
    def failed(request: Request, _: Exception) -> Response:
        # the server that runs this app gets the exception too, and logs it
        return answer(request, 500, "The server failed; where it was started it says why.")

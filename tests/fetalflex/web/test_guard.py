import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from fetalflex.web.guard import Guard, Rules, TooLargeError

TOKEN = "a-token-of-some-length"


async def echo(request: Request) -> JSONResponse:
    return JSONResponse({"length": len(await request.body())})


async def refuse(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({}, status_code=413)


def client(rules: Rules | None = None, host: str = "127.0.0.1", **headers: str) -> TestClient:
    app = Starlette(
        routes=[Route("/{path:path}", echo, methods=["GET", "POST"])], exception_handlers={TooLargeError: refuse}
    )
    return TestClient(Guard(app, rules or Rules()), base_url=f"http://{host}", headers=headers, follow_redirects=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.1:8600", "[::1]:8600"])
def test_loopback_is_answered(host: str) -> None:
    assert client(host=host).get("/").status_code == 200


def test_another_name_for_this_machine_is_refused_without_a_token() -> None:
    assert client(host="evil.example").get("/").status_code == 403


def test_another_page_cannot_post() -> None:
    assert client(origin="http://evil.example").post("/").status_code == 403
    assert client(origin="http://127.0.0.1").post("/").status_code == 200


def test_with_a_token_only_who_knows_it_is_answered_under_any_name() -> None:
    rules = Rules(TOKEN)
    user = client(rules, "scanner.example")
    assert user.get("/").status_code == 401
    assert user.get("/?token=another").status_code == 401
    moved = user.get(f"/?token={TOKEN}")
    assert (moved.status_code, moved.headers["location"]) == (303, "/")
    assert "HttpOnly" in moved.headers["set-cookie"]
    assert user.get("/").status_code == 200


def test_open_paths_need_no_token() -> None:
    user = client(Rules(TOKEN, open_paths=("/r/",)), "scanner.example")
    assert user.get("/r/x").status_code == 200
    assert user.get("/other").status_code == 401


def test_large_bodies_are_cut_off_whether_they_say_so_or_not() -> None:
    user = client(Rules(largest=1000))
    assert user.post("/", content=b"x" * 1000).json() == {"length": 1000}
    assert user.post("/", content=b"x" * 1001).status_code == 413
    assert user.post("/", content=iter([b"x" * 600, b"x" * 600])).status_code == 413


def test_every_answer_forbids_scripts_from_elsewhere_and_keeping() -> None:
    for answer in (client().get("/"), client(host="evil.example").get("/")):
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"

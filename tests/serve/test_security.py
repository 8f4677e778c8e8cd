"""What a server must not do: answer strangers, hand out other files, or forget its headers."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.catalogues import some_tiles, units, write_run
from tests.serve.serving import Server, serving

TRAVERSALS = (
    "images/../run.json", "images/..%2Frun.json", "images/%2e%2e/run.json", "images/%2e%2e%2frun.json",
    "images/..%5crun.json", "images/%252e%252e%252frun.json", "images//etc/passwd",
    "images/%2Fetc%2Fpasswd", "images/run.json%00.webp", "images/.webp", "images/", "static/../site.py",
    "static/..%2Fsite.py", "static/%2e%2e%2f__init__.py", "static/site.py", "static/", "units/../run.json",
    "units/..%2F..%2Frun/json.html", "layers/..%2F..%2Frun-1.html", "run.json", "catalogue.db",
    "..%2Fcatalogue.db", "images/..%2Fcatalogue.db", "%2e%2e/%2e%2e/etc/passwd", "images/secret.webp",
)  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_path_leads_to_another_file(server: Server, run: Path, path: str) -> None:
    (run / "secret.webp").write_bytes(b"secret")
    answer = server.ask(path)
    assert answer.status == 404
    assert b"fingerprint" not in answer.body
    assert b"secret" not in answer.body
    assert b"root:" not in answer.body


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("", "GET", 200), ("units/early.1/3.html", "GET", 200), ("static/site.js", "GET", 200),
        ("api/units", "GET", 200), ("api/openapi.json", "GET", 200), ("nothing", "GET", 404),
        ("api/units", "POST", 405), ("api/units", "DELETE", 405), ("api/units?limit=0", "GET", 422),
    ],
)  # fmt: skip
def test_every_answer_has_the_security_headers(server: Server, path: str, method: str, status: int) -> None:
    answer = server.ask(path, method)
    assert answer.status == status
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert policy.endswith("frame-ancestors 'none'")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "", "[::2]", "a@127.0.0.1"]
)
def test_a_stranger_name_is_refused(server: Server, host: str) -> None:
    answer = server.ask("api/status", Host=host)
    assert answer.status == 400
    assert answer.json == {"error": "This server does not answer to that host name."}
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1234", "LOCALHOST"])
def test_its_own_names_are_answered(server: Server, host: str) -> None:
    assert server.ask("api/status", Host=host).status == 200


def test_it_listens_on_loopback_by_default(server: Server) -> None:
    assert server.url.startswith("http://127.0.0.1:")


def test_a_record_that_cannot_be_read_is_a_sentence_and_not_a_trace(tmp_path: Path) -> None:
    tiles = some_tiles(tmp_path / "run" / "images", 2)
    run = write_run(tmp_path / "run", units("a", 2, tiles), 2)
    database = sqlite3.connect(run / "catalogue.db")
    database.execute("""UPDATE units SET record = '{"unit": 1}' WHERE unit = 'a:1'""")
    database.commit()
    database.close()
    with serving(run) as server:
        for path in ("api/units/a:1", "units/a/1.html"):
            answer = server.ask(path)
            assert answer.status == 500
            assert "Traceback" not in answer.text
            assert "where it was started it says why" in answer.text
            assert "content-security-policy" in answer.headers
        assert server.ask("api/units/a:0").status == 200


def refused(*arguments: str) -> str:
    code = "from labeler.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode in (1, 2)
    assert found.stdout == ""
    return found.stderr


def test_what_cannot_be_served_is_one_sentence(tmp_path: Path, run: Path, server: Server) -> None:
    assert "is not a run directory" in refused(str(tmp_path))
    port = server.url.rstrip("/").rpartition(":")[2]
    assert "give another --host or --port" in refused(str(run), "--port", port)
    assert "Nothing can listen on 203.0.113.7" in refused(str(run), "--host", "203.0.113.7", "--port", "0")
    broken = write_run(tmp_path / "broken", [], 0)
    (broken / "catalogue.db").write_bytes(b"not a database" * 100)
    assert "is not a readable catalogue" in refused(str(broken))

"""A W&B server on loopback: answers what the installed client asks, remembers what arrives."""

import base64
import gzip
import json
import re
import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KEY = "0123456789abcdef0123456789abcdef01234567"  # nobody's, of the right length
ENTITY = "tester"


@dataclass
class Run:
    """What has arrived of one run."""

    config: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)  # groupName, tags, displayName, jobType ...
    lines: dict[str, dict[int, Any]] = field(default_factory=lambda: defaultdict(dict))
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for _, line in sorted(self.lines["wandb-history.jsonl"].items())]


class WandbServer:
    """Serves from ``__enter__`` to ``__exit__``, or until it dies, on a port of its own.

    Attributes:
        delay: How many seconds each answer takes.
        status: What it answers: 200, or an error to all.
        refuses: The end of a path that it forbids, if any.
        dies_at: The end of a path: asked for it, it dies, without an answer to this or any other.
    """

    def __init__(
        self,
        status: int = 200,
        delay: float = 0.0,
        refuses: str | None = None,
        dies_at: str | None = None,
    ) -> None:
        self.status, self.delay, self.refuses, self.dies_at = status, delay, refuses, dies_at
        self.runs: dict[str, Run] = defaultdict(Run)
        self.asked: list[str] = []
        self.unknown: list[str] = []  # what it was asked and could not answer
        self.artifacts: list[dict[str, Any]] = []
        self._lock, self._over = threading.RLock(), threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """Close the port; what is being answered is cut off."""
        if not self._over.is_set():
            self._over.set()
            self._http.shutdown()
            self._http.server_close()

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> tuple[int, Any]:
        """Return the status of an answer and what it holds."""
        if self._over.wait(self.delay) or (self.dies_at and path.endswith(self.dies_at)):
            self.die()
            raise ConnectionAbortedError
        if self.refuses and path.endswith(self.refuses):
            return 403, {"errors": [{"message": "forbidden"}]}
        if self.status != 200:
            return self.status, {"errors": [{"message": f"the double answers {self.status}"}]}
        with self._lock:
            if method == "PUT":
                run, name = path.removeprefix("/upload/").split("/", 1)
                self.runs[run].files[name] = body
                return 200, {}
            if base64.b64encode(f"api:{KEY}".encode()).decode() not in authorization:
                return 401, {"errors": [{"message": "the key is wrong"}]}
            given = json.loads(body or b"{}")
            if path.endswith("/file_stream"):
                return 200, self._stream(self.runs[path.split("/")[4]], given)
            if path == "/graphql":
                name = re.search(r"(?:query|mutation)\s+(\w+)", given["query"])
                operation = name[1] if name else "?"
                self.asked.append(operation)
                known = getattr(self, f"_{operation}", None)
                if known:
                    return 200, {"data": known(given.get("variables") or {})}
            if not path.startswith("/sdk/otel/"):  # telemetry, which servers need not take
                self.unknown.append(f"{path} {body.decode()}")
        return 404, {"errors": [{"message": f"the double does not know {path}"}]}

    # One method an operation of the client; what it gives are the variables of the query.

    def _Viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        names = {"entity": ENTITY, "username": ENTITY, "name": ENTITY, "email": ""}
        return {"viewer": names | {"id": "1", "flags": "{}", "teams": {"edges": []}}}

    def _ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _RunResumeStatus(self, given: dict[str, Any]) -> dict[str, Any]:
        project, name = self._project(given["project"]), given["name"]
        return {"model": project | {"bucket": self._bucket(name) if name in self.runs else None}}

    def _UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["name"]
        inserted, run = name not in self.runs, self.runs[name]
        run.config |= json.loads(given.pop("config", None) or "{}")
        run.about |= {key: value for key, value in given.items() if value is not None}
        bucket = self._bucket(name) | {"project": self._project(given["project"])}
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        run, names = given["run"], given["files"]
        files = [{"name": n, "uploadUrl": f"{self.url}/upload/{run}/{n}"} for n in names]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def _OrganizationCoreWeaveOrganizationID(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def _ArtifactType(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _CreateArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        self.artifacts.append(given["input"])
        # Committed: the client need not upload it, as if the server had it already.
        artifact = {"id": "1", "state": "COMMITTED", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def _project(self, name: str) -> dict[str, Any]:
        return {"id": name, "name": name, "entity": {"id": ENTITY, "name": ENTITY}}

    def _bucket(self, name: str) -> dict[str, Any]:
        run = self.runs[name]
        history, events, output = (
            run.lines[f] for f in ("wandb-history.jsonl", "wandb-events.jsonl", "output.log")
        )
        tail = [line for _, line in sorted(history.items())[-1:]]
        return {
            **{"id": name, "name": name, "displayName": run.about.get("displayName")},
            **{"config": json.dumps(run.config), "sweepName": run.about.get("sweep")},
            **{"historyLineCount": len(history), "eventsLineCount": len(events)},
            **{"logLineCount": len(output), "historyTail": json.dumps(tail), "eventsTail": "[]"},
            **{"summaryMetrics": "{}", "wandbConfig": "{}", "tags": run.about.get("tags", [])},
        }

    def _stream(self, run: Run, given: dict[str, Any]) -> dict[str, Any]:
        for name, chunk in given.get("files", {}).items():
            run.lines[name] |= dict(enumerate(chunk["content"], chunk["offset"]))
        if "exitcode" in given:
            run.exit_code = given["exitcode"]
        return {"exitcode": None, "limits": {}}


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            authorization = self.headers.get("Authorization") or ""
            try:
                status, content = server.answer(self.command, self.path, authorization, body)
            except ConnectionAbortedError:
                self.close_connection = True
                self.connection.close()
                return
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = _serve

        def handle(self) -> None:
            with suppress(ConnectionError):  # a client that has gone
                super().handle()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler

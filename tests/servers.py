"""A web server on this machine that misbehaves as it is told."""

from __future__ import annotations

import contextlib
import http.server
import threading


class Server:
    """Files by path; for each path, what to do with the first requests; and all requests that came.

    A behaviour is an int (this status), or a pair of a name and a value: ("cut", n) sends n bytes and closes,
    ("hang", n) sends n bytes and then nothing, ("later", seconds) is 503 with Retry-After, ("whole", None) and
    ("cut whole", n) ignore Range, ("shifted", n) answers with a range that begins n bytes off, ("page", content) is
    another file, ("endless", None) never ends, ("unsized", None) says no length.
    """

    def __init__(self, address):
        self.address = address
        self.files = {}
        self.behaviour = {}
        self.requests = []
        self.stopped = threading.Event()

    def url(self, path):
        return f"{self.address}/{path}"

    def ranges(self):
        """The Range header of each request, in order."""
        return [wanted for _, wanted in self.requests]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server.state
        path, wanted = self.path.lstrip("/"), self.headers["Range"]
        server.requests.append((path, wanted))
        plan = server.behaviour.get(path, [])
        what = plan.pop(0) if plan else ("serve", None)
        name, value = ("status", what) if isinstance(what, int) else what
        content = value if name == "page" else server.files.get(path)
        self.close_connection = True
        if content is None or name in ("status", "later"):
            self.send_response(value if name == "status" else 503 if name == "later" else 404)
            if name == "later":
                self.send_header("Retry-After", str(value))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and "whole" not in name else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            said = start + value if name == "shifted" else start
            self.send_header("Content-Range", f"bytes {said}-{len(content) - 1}/{len(content)}")
        if name not in ("endless", "unsized"):
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self._body(server, name, value, content[start:])

    def _body(self, server, name, value, body):
        if name == "endless":
            while not server.stopped.is_set():
                self.wfile.write(bytes(1 << 16))
        elif name in ("cut", "cut whole", "hang"):
            self.wfile.write(body[:value])
            if name == "hang":
                server.stopped.wait()
        else:
            self.wfile.write(body)

    def handle(self):
        with contextlib.suppress(ConnectionError):  # the client has had enough, as it should
            super().handle()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving():
    """A server while the block runs."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.state = Server(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.state
        finally:
            server.state.stopped.set()
            server.shutdown()
            thread.join()

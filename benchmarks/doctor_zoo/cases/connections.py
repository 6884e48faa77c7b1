"""Connections and pipes that forked workers share: one asks, another takes the answer."""

from __future__ import annotations

import functools
import http.client
import multiprocessing
import socket
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from declare import FORK, fault, healthy
from inputs import RECORDS, Rows, written

LAZY = "getpid|first use|in each worker|in every worker"
shared = functools.partial(fault, "ds.open_handles", methods=FORK, fix=LAZY, most_workers=0, is_silent=True)

# A server that ends when its standard input does, with whoever started it.
SERVER = """
import http.server, os, socket, socketserver, sys, threading
kind, place = sys.argv[1:]
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
class Numbers(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(b"%08d" % (3 * int(line)))
class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"%08d" % (3 * int(self.path[1:]))
        self.send_response(200); self.send_header("Content-Length", "8"); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
if kind == "unix":
    server = socketserver.ThreadingUnixStreamServer(place, Numbers)
else:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Pages if kind == "http" else Numbers)
server.daemon_threads = True
print(server.server_address[1] if kind != "unix" else 0, flush=True)
server.serve_forever()
"""


def serve(kind, place="-"):
    """Return the server's process and its port."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", SERVER, kind, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, int(process.stdout.readline())


class Socket(Rows):
    def __init__(self):
        self.server, port = serve("tcp")
        self.connection = socket.create_connection(("127.0.0.1", port))

    def __getitem__(self, index):
        self.connection.sendall(b"%d\n" % index)
        return torch.tensor(int(self.connection.recv(8, socket.MSG_WAITALL))), index


@shared(where=r"dataset\.connection", plain="differs equal raises hangs broken")
def tcp_socket():
    """One TCP connection to a feature server."""
    return Socket()


class UnixSocket(Socket):
    def __init__(self):
        place = Path(tempfile.mkdtemp()) / "s"
        self.server, _ = serve("unix", place)
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(str(place))


@shared(where=r"dataset\.connection", plain="differs equal raises hangs broken")
def unix_socket():
    """One connection by a socket file."""
    return UnixSocket()


class Http(Rows):
    def __init__(self):
        self.server, port = serve("http")
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.length = len(self.get(150)) * 75

    def get(self, index):
        self.connection.request("GET", f"/{index}")
        return self.connection.getresponse().read()

    def __getitem__(self, index):
        return torch.tensor(int(self.get(index))), index


@shared(where=r"dataset\.connection", plain="differs equal raises hangs broken")
def http_connection():
    """An HTTP connection that is kept alive."""
    return Http()


class Session(Rows):
    length = 400

    def __init__(self):
        import requests

        self.server, self.port = serve("http")
        self.session = requests.Session()
        self.session.trust_env = False
        self.first = self[0]

    def __getitem__(self, index):
        return torch.tensor(int(self.session.get(f"http://127.0.0.1:{self.port}/{index}").content)), index


@shared(where=r"dataset\.session", plain="differs equal raises hangs broken", needs=("requests", "urllib3"))
def requests_session():
    """A session that already holds a connection. psf/requests#4323"""
    return Session()


class Decoder(Rows):
    """A child process that decodes what it is sent, as people keep an ffmpeg or a tokenizer."""

    CODE = "import sys\nfor line in sys.stdin: print('%08d' % (3 * int(line)), flush=True)"

    def __init__(self):
        self.decoder = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", self.CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def __getitem__(self, index):
        self.decoder.stdin.write(b"%d\n" % index)
        return torch.tensor(int(self.decoder.stdout.read(9))), index


@shared(where=r"dataset\.decoder", plain="differs equal raises hangs broken")
def decoder_process():
    """Pipes to one child process: a position that never moves, an answer that another worker takes."""
    return Decoder()


class Pipe(Rows):
    def __init__(self):
        ours, theirs = multiprocessing.Pipe()
        self.connection = ours
        self.process = multiprocessing.get_context("fork").Process(target=answer, args=(theirs,), daemon=True)
        self.process.start()

    def __getitem__(self, index):
        self.connection.send(index)
        return torch.tensor(self.connection.recv()), index


def answer(connection):
    while True:
        connection.send(3 * connection.recv())


@shared(where=r"dataset\.connection", plain="differs equal raises hangs broken")
def multiprocessing_pipe():
    """One end of a multiprocessing.Pipe, the other in a helper process."""
    return Pipe()


class Sqlite(Rows):
    def __init__(self):
        def write(path):
            with sqlite3.connect(path) as base:
                base.execute("create table rows (id integer primary key, value integer, pad text)")
                base.executemany(
                    "insert into rows values (?, ?, ?)", [(n, 3 * n, "x" * 2000) for n in range(RECORDS)]
                )
            base.close()

        self.base = sqlite3.connect(written("rows.db", write))

    def __getitem__(self, index):
        return torch.tensor(
            self.base.execute("select value from rows where id = ?", (index,)).fetchone()
        ), index


@fault(
    "ds.open_handles",
    methods=FORK,
    where=r"dataset\.base",
    fix=LAZY,
    most_workers=0,
    plain="equal differs raises",
)
def sqlite_member():
    """SQLite's own list of ways to corrupt a database: a connection carried across a fork. sqlite.org/howtocorrupt.html 2.6"""
    return Sqlite()


class LazySqlite(Sqlite):
    def __init__(self):
        super().__init__()
        self.path, self.base = self.base.execute("pragma database_list").fetchone()[2], None

    def __getitem__(self, index):
        if self.base is None:
            self.base = sqlite3.connect(self.path)
        return super().__getitem__(index)


@healthy()
def sqlite_at_first_use():
    """The repaired one."""
    return LazySqlite()


class Duck(Rows):
    def __init__(self):
        import duckdb

        self.base = duckdb.connect()
        self.base.execute("create table rows as select range as id, range * 3 as value from range(3000000)")

    def __getitem__(self, index):
        found = self.base.execute("select sum(value) from rows where id % 1000 < ?", [index + 1]).fetchone()
        return torch.tensor(int(found[0])), index


@fault(
    "ds.open_handles",
    methods=FORK,
    where=r"dataset\.base",
    fix=LAZY,
    most_workers=0,
    plain="equal raises hangs",
    needs=("duckdb",),
)
def duckdb_member():
    """A connection whose threads no forked worker has. duckdb/duckdb-python#292"""
    return Duck()

"""A real server in a process of its own, the program as its client, and a wire that can be cut."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import torch

from helpers.program import call
from helpers.served import StubRunner, listening, served


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def environment() -> dict[str, str]:
    """Of other processes, whose bits are to be those of this one: sums depend on the threads."""
    threads = str(torch.get_num_threads())
    return {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}


class Program:
    """`sfumato serve` with the bundled model, which can be killed and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options, self.port = folder, options, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        words = ["--folder", str(self.folder), "--port", str(self.port), "--device", "cpu"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sfumato", "serve", *words, *self.options],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == self.url

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.communicate(timeout=60)
            self.process = None

    def ask(self, path: str) -> Any:
        return httpx.get(f"{self.url}{path}", trust_env=False).json()


class Wire:
    """A TCP proxy before a port. seen: bytes that came from there; cut: nothing comes through."""

    def __init__(self, port: int) -> None:
        self.target, self.seen, self.cut = port, b"", False
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listening.accept()
                try:
                    if self.cut:
                        raise ConnectionError
                    far = socket.create_connection(("127.0.0.1", self.target))
                except ConnectionError:  # of a server that is gone
                    near.close()
                    continue
                self.open += [near, far]
                for pair in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, noted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if noted:
                    self.seen += data
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def drop(self, seconds: float) -> None:
        """Cut every connection, and let none through for a while."""
        self.cut = True
        for end in self.open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        time.sleep(seconds)
        self.open, self.cut = [], False

    def close(self) -> None:
        self.listening.close()


def files(folder: Path) -> dict[str, bytes]:
    names = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in names}


def both(app: Any, server: Program, *words: str) -> Any:
    """Run here and there, each in a folder of its own, and compare all that is left and said."""
    made = []
    for place, before in (("here", ()), ("there", ("--server", server.url))):
        shutil.rmtree("out", ignore_errors=True)
        Path("out").mkdir()
        done = call(app, *before, *words)
        shutil.move("out", place)
        made.append((done.exit_code, done.stdout, done.stderr, files(Path(place))))
        shutil.rmtree(place)
    here, there = made
    assert there[:3] == here[:3], f"there: {there[:3]}, here: {here[:3]}"
    assert list(there[3]) == list(here[3])
    assert not [name for name in here[3] if here[3][name] != there[3][name]]
    return here


def start(*words: str) -> subprocess.Popen[str]:
    """The program as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "sfumato", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment(),
    )  # fmt: skip


def until(what: Callable[[], Any], seconds: float = 600.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


@contextmanager
def stub_server(folder: Path, runner: StubRunner | None = None, **settings: Any) -> Iterator[str]:
    """The address of a server with a stub; without one given, with one that never gets to a
    picture."""
    ready, stop, found = threading.Event(), threading.Event(), []

    async def serve() -> None:
        stub = runner or StubRunner(hold=asyncio.Event())
        async with served(folder, stub, **settings) as service, listening(service) as client:
            found.append(str(client.base_url).rstrip("/"))
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield found[0]
    finally:
        stop.set()
        thread.join(20)

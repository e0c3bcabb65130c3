"""The joints of a stream: readers that hash, read a program's output, or carry bytes from one thread to another.

The rule that keeps truncated dumps out of the store: a source that breaks off must *raise* in `read`; an end of file that is
only a dead process looks like success to S3.
"""

from __future__ import annotations

import hashlib
import io
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, cast

from blocks.errors import BackupFailed, SettingsError

CHUNK = 1024 * 1024
PIPE_CHUNKS = 64
"""age writes chunks of 64 KiB, so a pipe holds about 4 MiB."""


class HashingReader(io.RawIOBase):
    """Passes bytes through and remembers how many there were and what they hash to."""

    def __init__(self, source: IO[bytes]) -> None:
        super().__init__()
        self._source = source
        self._sha256 = hashlib.sha256()
        self.bytes = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes from the source."""
        data = self._source.read(size if size >= 0 else CHUNK)
        self._sha256.update(data)
        self.bytes += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the source."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    @property
    def sha256(self) -> str:
        """Hex digest of what has passed so far."""
        return self._sha256.hexdigest()


class ProcessOutput(io.RawIOBase):
    """The standard output of a program; reading to its end raises unless the program ended well.

    Args:
        name: what to call it in errors, for example `pg_dump langfuse`.
        argv: program and arguments; no secrets, everybody can read them.
        env: the whole environment of the program, secrets included.
    Raises:
        SettingsError: there is no such program.
    """

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        super().__init__()
        self._name = name
        try:
            self._process = subprocess.Popen(
                argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            raise SettingsError(f"{name}: cannot start {argv[0]}: {error.strerror}; is it installed on this machine?") from None
        self._stdout = cast(IO[bytes], self._process.stdout)
        self._stderr = StderrTail(cast(IO[bytes], self._process.stderr))

    @property
    def pid(self) -> int:
        """Process id of the program."""
        return self._process.pid

    def kill(self) -> None:
        """End the program, from any thread; whoever reads its output is told."""
        self._process.kill()

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what the program has written; at its end see how it ended.

        Raises:
            BackupFailed: the program failed or was killed.
        """
        count = cast(io.RawIOBase, self._stdout).readinto(buffer) or 0
        if count == 0:
            self._finish()
        return count

    def _finish(self) -> None:
        status = self._process.wait()
        if status != 0:
            how = f"was killed by signal {-status}" if status < 0 else f"failed with exit status {status}"
            raise BackupFailed(f"{self._name} {how}: {self._stderr.text() or 'it said nothing'}", permanent=False)

    def close(self) -> None:
        """End the program if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._stdout.close()
        self._stderr.close()
        super().close()


class StderrTail:
    """Keeps the last lines a program writes to its standard error, so that its pipe never fills up."""

    LINES = 20

    def __init__(self, pipe: IO[bytes]) -> None:
        self._lines: list[str] = []
        self._pipe = pipe
        self._thread = threading.Thread(target=self._drain, daemon=True, name="stderr")
        self._thread.start()

    def _drain(self) -> None:
        for line in self._pipe:
            self._lines = [*self._lines, line.decode(errors="replace").strip()][-self.LINES :]

    def text(self) -> str:
        """Return the last lines as one."""
        self._thread.join(timeout=5)
        return " | ".join(line for line in self._lines if line)

    def close(self) -> None:
        """Wait for the end and close the pipe."""
        self._thread.join(timeout=5)
        self._pipe.close()


class Pipe(io.RawIOBase):
    """A bounded pipe between two threads; an error on either side is raised on the other."""

    def __init__(self, chunks: int = PIPE_CHUNKS) -> None:
        super().__init__()
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=chunks)
        self._rest = memoryview(b"")
        self._ended = False
        self._error: BaseException | None = None
        self._abandoned = threading.Event()

    def readable(self) -> bool:
        """Say yes."""
        return True

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, data: Any, /) -> int:
        """Append bytes; waits while the pipe is full.

        Raises:
            BrokenPipeError: the reader has gone.
        """
        if len(data):
            self._put(bytes(data))
        return len(data)

    def finish(self, error: BaseException | None = None) -> None:
        """End the stream, for the reader with `error` where there is one."""
        try:
            self._put(error)
        except BrokenPipeError:
            return  # nobody reads any more: they know already

    def _put(self, item: bytes | BaseException | None) -> None:
        while not self._abandoned.is_set():
            try:
                self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue
            return
        raise BrokenPipeError("the reader has gone")

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes; 0 at the end.

        Raises: what the writer ended with, each time: an error must never look like an end of file to who asks again.
        """
        if not self._rest and not self._ended:
            item = self._queue.get()
            if isinstance(item, bytes):
                self._rest = memoryview(item)
            else:
                self._ended, self._error = True, item
        if self._error is not None:
            raise self._error
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def abandon(self) -> None:
        """Tell the writer that nobody reads any more."""
        self._abandoned.set()


@contextmanager
def pumped(work: Callable[[IO[bytes]], None], name: str) -> Iterator[io.BufferedReader]:
    """Run `work(writer)` in a thread and give its output as a reader; its errors are raised in `read`.

    The thread has ended when this returns; it notices at its next write that nobody reads any more.
    """
    pipe = Pipe()

    def run() -> None:
        try:
            work(cast(IO[bytes], pipe))
        except BaseException as error:  # noqa: BLE001 - handed to the reader, which raises it
            pipe.finish(error)
        else:
            pipe.finish()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield io.BufferedReader(pipe, CHUNK)
    finally:
        pipe.abandon()
        thread.join()

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""pool-zstd on a terminal: its progress bar fits, leaves nothing behind, and is drawn nowhere else. Usage: terminal_test.py POOL-ZSTD."""
import fcntl
import os
import pathlib
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

PATIENCE_S = 120  # what never comes is waited for so long
ERASE = b"\r\x1b[K"
WAVES = ["--wave", "256K"]


class Terminal:
    """A program on a terminal of its own. What it writes is in `text`."""

    def __init__(self, command: list[str], columns: int, stdin: int | None = None):
        self.text = b""
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            if stdin is not None:
                os.dup2(stdin, 0)
            fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            os.execve(command[0], command, dict(os.environ, TERM="xterm"))
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.terminal, 4096)
            except OSError:  # the other end is closed
                return
            if not data:
                return
            self.text += data

    def end(self) -> int:
        """Waits for the program; its status, as of os.waitpid."""
        status = os.waitpid(self.process, 0)[1]
        self.reader.join()
        os.close(self.terminal)
        return status


def check(name: str, holds: object, told: object = "") -> None:
    check.count += 1
    if not holds:
        check.failed += 1
        print(f"FAILED: {name}: {told!r}", file=sys.stderr)


check.count = check.failed = 0


def read_slowly(fifo: pathlib.Path, begin_bytes: int = 0) -> threading.Thread:
    """Takes what is written into the pipe, and waits behind its begin, so long that a bar is due. Nothing of the pipe's
    end comes before that."""
    def read() -> None:
        with open(fifo, "rb", buffering=0) as pipe:
            taken = 0
            while taken < begin_bytes:
                taken += len(pipe.read(begin_bytes - taken))
            time.sleep(0.3)
            while pipe.read(1 << 20):
                pass

    thread = threading.Thread(target=read)
    thread.start()
    return thread


def main() -> int:
    program = os.path.realpath(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        pathlib.Path("noise").write_bytes(os.urandom(3_000_000))
        fifo = pathlib.Path("fifo")
        os.mkfifo(fifo)
        for columns in (200, 80, 40, 12):
            reader = read_slowly(fifo)
            run = Terminal([program, *WAVES, "-o", "fifo", "noise"], columns)
            status = run.end()
            reader.join()
            case = f"{columns} columns"
            drawn = [line.replace(b"\x1b[K", b"") for line in re.split(rb"\r|\n", run.text) if b"%  " in line and b"=>" not in line]
            check(f"{case}: ends well", status == 0, run.text)
            check(f"{case}: a bar is drawn", bool(drawn), run.text)
            check(f"{case}: it fits", all(len(line) < columns for line in drawn), drawn)
            check(f"{case}: it has a frame where there is room", all((b"[" in line) == (columns >= 40) for line in drawn), drawn)
            result = run.text.rpartition(ERASE)[2]
            check(f"{case}: it is erased, then the result is told", re.fullmatch(rb"noise [^\r\n]*\r\n", result), run.text)

        reader = read_slowly(fifo, 2_850_000)
        run = Terminal([program, *WAVES, "-o", "fifo", "noise"], 80)
        run.end()
        reader.join()
        result = run.text.rpartition(ERASE)[2]
        check("nothing is drawn behind the result of a file that ends slowly", re.fullmatch(rb"noise [^\r\n]*\r\n", result), run.text)

        reader = read_slowly(fifo)
        run = Terminal([program, "-q", *WAVES, "-o", "fifo", "noise"], 80)
        run.end()
        reader.join()
        check("-q draws nothing", run.text == b"", run.text)

        reader = read_slowly(fifo)
        told = subprocess.run([program, *WAVES, "-o", "fifo", "noise"], stderr=subprocess.PIPE, check=True).stderr
        reader.join()
        check("nothing is drawn where there is no terminal", b"\r" not in told and b"\x1b" not in told and told.count(b"\n") == 1, told)

        taken, given = os.pipe()
        run = Terminal([program, *WAVES, "-o", "late.zst", "-"], 80, taken)
        os.close(taken)
        data = os.urandom(256 << 10)
        limit = time.monotonic() + PATIENCE_S
        while b" MB/s" not in run.text and time.monotonic() < limit:
            os.write(given, data)
            time.sleep(0.02)
        os.write(run.terminal, b"\x03")
        status = run.end()
        os.close(given)
        check("^C ends the program", os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT, status)
        check("^C leaves a clean line", b" MB/s" in run.text and run.text.endswith(ERASE), run.text)
        left = sorted(os.listdir("."))
        check("^C leaves no output", left == ["fifo", "noise"], left)
    print(f"{check.count} checks, {check.failed} failed")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""A child process that cannot outlive us: on Linux the kernel kills it when we end, however we end.

The kernel's death signal (PR_SET_PDEATHSIG) fires when the *thread* that started the child ends, so every child gets
a thread of its own, which starts it and then waits for it. The signal is asked for by a small Python launcher that then
becomes the program (exec keeps the setting); code between fork and exec would be unsafe in a process with threads.
Elsewhere than on Linux a child is stopped whenever this process ends in an orderly way, and not when it is killed.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final

_LAUNCHER: Final = """
import ctypes, os, sys
parent, program = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != parent:  # it ended before the line above took effect
        sys.exit(1)
os.execvp(program[0], program)
"""


class Child:
    """A running program; `ended` is set as soon as it has gone, and `exit_code` then says how."""

    def __init__(self, command: Sequence[str], log_file: Path) -> None:
        """Starts the command in a session of its own (Ctrl-C is ours to hand on); its output is added to the file."""
        self.ended = threading.Event()
        self.exit_code: int | None = None
        started: Future[subprocess.Popen[bytes]] = Future()
        thread = threading.Thread(target=self._run, args=(command, log_file, started), name="child", daemon=True)
        thread.start()
        self._process = started.result()

    def _run(self, command: Sequence[str], log_file: Path, started: "Future[subprocess.Popen[bytes]]") -> None:
        try:
            with log_file.open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-S", "-E", "-c", _LAUNCHER, str(os.getpid()), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result(process)
        self.exit_code = process.wait()
        self.ended.set()

    @property
    def pid(self) -> int:
        """Process id, of the launcher at first and of the program from then on."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens when the program has ended."""
        if not self.ended.is_set():
            self._process.send_signal(number)

    def stop(self, patience_seconds: float) -> None:
        """Asks the program to end (SIGTERM), and kills it when it has not done so in time."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        if not self.ended.wait(patience_seconds):
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self.send(signal.SIGKILL)
        self.ended.wait()

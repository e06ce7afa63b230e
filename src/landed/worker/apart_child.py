"""The process of its own that the handlers run in: `landed.worker.apart` starts it, and speaks with it over a socket.

It loads the file, says what handlers there are, and calls them as it is asked to. It ends when the other end of the
socket closes, when it is told to by SIGTERM, or, on Linux, with the worker, even while something holds Python's lock.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import io
import os
import signal
import socket
import sys
import threading
from contextlib import suppress

import msgspec

from landed.domain.events import decode_event
from landed.errors import SettingsError
from landed.handlers import HandlerEvent, load
from landed.settings import EventSettings
from landed.worker.calls import RETURNED, Called, Calls
from landed.worker.frames import Call, Done, GiveUp, Loaded, Ping, Unloaded, decode_question, frame, read_frame

# Prints where each thread is, without Python's lock: sent before a process that does not answer is killed.
DUMP_SIGNAL = signal.SIGQUIT
# From being told to end until the end, whatever is still under way.
END_SECONDS_MAX = 0.8
# https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run: the arguments are the socket's descriptor, settings as JSON, and the file or the module."""
    descriptor, settings, target = sys.argv[1:]
    # What the application sees when it reads its arguments.
    sys.argv = [target]
    with socket.socket(fileno=int(descriptor)) as parent:
        # What a handler starts must not keep the connection open when this process has ended.
        parent.set_inheritable(False)
        _prepare()
        is_loaded = threading.Event()
        threading.Thread(target=_leave_with, args=(parent, is_loaded), daemon=True).start()
        try:
            handlers = load(target)
        except SettingsError as error:
            parent.sendall(frame(Unloaded(str(error))))
            return
        parent.sendall(frame(Loaded(tuple((handler.name, handler.wanted) for handler in handlers))))
        is_loaded.set()
        # The settings have been judged by who gave them.
        calls = Calls(handlers, EventSettings.model_validate_json(settings))
        asyncio.run(_serve(parent, calls))
    if calls.under_way:
        # Threads that go on would meet an interpreter that is being taken down.
        _flush()
        os._exit(0)


def _prepare() -> None:
    """Print each line when it is there, say where a crash happened, and end with the parent."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    with suppress(RuntimeError):
        # There may be no stderr to print to.
        faulthandler.enable()
        faulthandler.register(DUMP_SIGNAL, all_threads=True)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave_with(parent: socket.socket, is_loaded: threading.Event) -> None:
    """End if the other end closes while the application's file is still being loaded, for however long that takes."""
    with suppress(OSError):
        if not parent.recv(1, socket.MSG_PEEK) and not is_loaded.is_set():
            os._exit(1)


async def _serve(parent: socket.socket, calls: Calls) -> None:
    """Answer until told to end, and then end soon, whatever handlers do against it."""
    reader, writer = await asyncio.open_unix_connection(sock=parent)
    reading = asyncio.create_task(_Desk(reader, writer, calls).run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, reading.cancel)
    await asyncio.wait({reading})
    end = threading.Timer(END_SECONDS_MAX, os._exit, (0,))
    end.daemon = True
    end.start()
    await calls.close()


class _Desk:
    """Takes questions, and answers them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, calls: Calls) -> None:
        self._reader = reader
        self._writer = writer
        self._calls = calls
        self._under_way: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until no question comes any more."""
        with suppress(EOFError):
            while True:
                self._take(decode_question(await read_frame(self._reader)))

    def _take(self, question: Call | GiveUp | Ping) -> None:
        if isinstance(question, Call):
            self._under_way[question.number] = asyncio.create_task(self._call(question))
        elif isinstance(question, GiveUp):
            if task := self._under_way.get(question.number):
                task.cancel()
        else:
            self._writer.write(frame(Done(question.number, RETURNED)))

    async def _call(self, asked: Call) -> None:
        try:
            event = HandlerEvent.of(
                decode_event(asked.body),
                attempt=asked.attempt,
                is_replay=asked.is_replay,
                is_sample=asked.is_sample,
            )
            called = await self._calls.call(asked.handler, event)
        except msgspec.MsgspecError as error:
            called = Called(said=f"landed's own mistake: {type(error).__name__}", error=type(error).__name__)
        finally:
            del self._under_way[asked.number]
        self._writer.write(frame(Done(asked.number, called)))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


if __name__ == "__main__":
    main()

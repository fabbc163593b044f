"""A program: processes without a model, kept running by a Supervisor.

`python -m tests.regionlm.serve.supervised WORK` prints the port once they serve. A client sends a
line: "who" is answered with the process's id; "wait" too, and then with "done" once the client has
sent another line.
"""

import os
import signal
import socket
import sys
import threading

from regionlm.serve.processes import Supervisor
from regionlm.serve.worker import end_with_parent

COUNT = 2


def serve(number, listening, channel):
    """Answer until SIGTERM, and what has begun even then."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    listening.settimeout(0.05)
    channel.send(None)
    waiting = []
    while not stop.is_set():
        try:
            connection, _ = listening.accept()
        except (TimeoutError, BlockingIOError):  # another process was faster
            continue
        connection.settimeout(60)
        waiting.append(threading.Thread(target=answer, args=(connection,)))
        waiting[-1].start()
    for one in waiting:
        one.join()


def answer(connection):
    with connection, connection.makefile("rw") as lines:
        asked = lines.readline().strip()
        print(os.getpid(), file=lines, flush=True)
        if asked == "wait" and lines.readline():
            print("done", file=lines, flush=True)


def refuse(number, listening, channel):
    """The last one can't serve."""
    if number < COUNT - 1:
        serve(number, listening, channel)
    channel.send(f"no such device {number}")


def die(number, listening, channel):
    """The last one ends without a word."""
    if number < COUNT - 1:
        serve(number, listening, channel)
    os._exit(3)


if __name__ == "__main__":
    # A test run in the background of a shell ignores SIGINT, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        work = {"serve": serve, "refuse": refuse, "die": die}[sys.argv[1]]
        Supervisor(work, COUNT, listening, 60).run(lambda: print(port, flush=True))

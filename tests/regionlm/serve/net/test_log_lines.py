"""Log lines are written beside the work, which nothing that happens to them disturbs."""

import io
import json
import os
import threading

from regionlm.serve.net import log_lines
from regionlm.serve.net.log_lines import LogLines


def test_lines_are_json_and_in_order():
    stream = io.BytesIO()
    log = LogLines(stream)
    for number in range(100):
        log.write({"number": number, "text": 'a "quoted"\nline'})
    log.close()
    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["number"] for line in written] == list(range(100))


def test_a_closed_stream_loses_lines_only():
    stream = io.BytesIO()
    stream.close()
    log = LogLines(stream)
    log.write({"a": 1})
    log.close()


class FullDisk(io.BytesIO):
    """Has room again once `free` is set."""

    free = False

    def write(self, line):
        if not self.free:
            raise OSError(28, "No space left on device")
        return super().write(line)


def test_how_many_lines_a_full_disk_lost_is_told_once_there_is_room():
    stream = FullDisk()
    log = LogLines(stream)
    log.write({"a": 1})
    log.write({"a": 2})
    log.close()
    stream.free = True
    log.write({"a": 3})
    log.close()
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [{"lost": 2}, {"a": 3}]


def test_a_device_that_is_full_loses_lines_only():
    with open("/dev/full", "wb", buffering=0) as stream:
        log = LogLines(stream)
        log.write({"a": 1})
        log.close()


def test_a_reader_that_does_not_read_delays_nobody(monkeypatch):
    monkeypatch.setattr(log_lines, "_CLOSING_SECONDS", 1)  # in vain: it waits until then
    read, write = os.pipe()
    log = LogLines(os.fdopen(write, "wb", buffering=0))
    done = threading.Event()

    def work():
        for _ in range(20_000):  # more than the pipe and the queue hold
            log.write({"text": "x" * 50})
        done.set()

    threading.Thread(target=work, daemon=True).start()
    assert done.wait(60)
    os.close(read)
    log.close()

"""GET requests at a constant rate, as a program: `load.py URL PER_S SECONDS` prints the latencies as JSON.

Each request has its time of departure, and its latency counts from there: a slow response does not make the next one late.
The program shares the machine with what it measures, so it does as little per request as it can.
"""

import asyncio
import json
import sys
from collections import deque
from urllib.parse import urlsplit

CONNECTIONS = 64
END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length:"


class Load:
    """Requests that have departed, and the connections that carry them."""

    def __init__(self, url, total):
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
        self.loop = asyncio.get_running_loop()
        self.free, self.waiting = deque(), deque()
        self.took, self.failed, self.total = [], 0, total
        self.done = self.loop.create_future()

    async def connect(self):
        try:
            await self.loop.create_connection(lambda: Connection(self), self.host, self.port)
        except OSError:
            self.loop.call_later(0.1, lambda: asyncio.ensure_future(self.connect()))

    def depart(self, departure):
        self.waiting.append(departure)
        self.send()

    def send(self):
        while self.waiting and self.free:
            self.free.pop().send(self.waiting.popleft())

    def ended(self, departure, is_ok):
        if is_ok:
            self.took.append(self.loop.time() - departure)
        else:
            self.failed += 1
        if len(self.took) + self.failed == self.total:
            self.done.set_result(None)


class Connection(asyncio.Protocol):
    """A connection with at most one request."""

    def __init__(self, load):
        self.load, self.departure, self.received = load, None, b""

    def connection_made(self, transport):
        self.transport = transport
        self.load.free.append(self)
        self.load.send()

    def send(self, departure):
        self.departure, self.received = departure, b""
        self.transport.write(self.load.request)

    def data_received(self, data):
        self.received += data
        head, end, body = self.received.partition(END_OF_HEAD)
        if end and len(body) >= length(head):
            self.finish(head.startswith(b"HTTP/1.1 200"))
            self.load.free.append(self)
            self.load.send()

    def connection_lost(self, _error):
        if self in self.load.free:
            self.load.free.remove(self)
        if self.departure is not None:
            self.finish(False)
        asyncio.ensure_future(self.load.connect())

    def finish(self, is_ok):
        departure, self.departure = self.departure, None
        self.load.ended(departure, is_ok)


def length(head):
    """The length of the body, by the head of a response."""
    head = head.lower()
    start = head.index(LENGTH) + len(LENGTH)
    end = head.find(b"\r\n", start)
    return int(head[start:] if end < 0 else head[start:end])


async def main(url, per_s, seconds):
    load = Load(url, round(per_s * seconds))
    await asyncio.gather(*(load.connect() for _ in range(CONNECTIONS)))
    start = load.loop.time()
    for number in range(load.total):
        departure = start + number / per_s
        if (pause := departure - load.loop.time()) > 0:
            await asyncio.sleep(pause)
        load.depart(departure)
    await load.done
    rate = len(load.took) / (load.loop.time() - start)
    took = sorted(load.took)
    at = lambda part: round(took[min(int(part * len(took)), len(took) - 1)] * 1e3, 3) if took else None
    return {"per_s": round(rate, 1), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1), "failed": load.failed}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))))

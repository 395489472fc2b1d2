"""GET requests at a constant rate, as a program: `load.py URL PER_S SECONDS` prints the latencies as JSON.

Each request has its time of departure, and its latency counts from there: a slow response does not make the next one late.
"""

import asyncio
import json
import sys
from urllib.parse import urlsplit

CONNECTIONS = 64


async def main(url, per_s, seconds):
    parts = urlsplit(url)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    loop, took, failed = asyncio.get_running_loop(), [], []
    free = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection(parts.hostname, parts.port))
    start = loop.time()

    async def one(departure):
        reader, writer = await free.get()
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            (took if head.startswith(b"HTTP/1.1 200") else failed).append(loop.time() - departure)
            free.put_nowait((reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            failed.append(loop.time() - departure)
            free.put_nowait(await asyncio.open_connection(parts.hostname, parts.port))

    tasks = []
    for number in range(round(per_s * seconds)):
        departure = start + number / per_s
        if (pause := departure - loop.time()) > 0:
            await asyncio.sleep(pause)
        tasks.append(asyncio.create_task(one(departure)))
    await asyncio.gather(*tasks)
    took.sort()
    at = lambda part: round(took[min(int(part * len(took)), len(took) - 1)] * 1e3, 3) if took else None
    rate = len(took) / (loop.time() - start)
    return {"per_s": round(rate, 1), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1), "failed": len(failed)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))))

"""Drives the emulator with the official client: client.py <url> <token> <destination>.

Prints a JSON object with the client's results as the last line.
"""

import json
import sys
import time

from qstash import QStash
from qstash.errors import QStashError, RateLimitExceededError

url, token, destination = sys.argv[1:4]
client = QStash(token, base_url=url)


def refused(call):
    try:
        call()
        return None
    except RateLimitExceededError as error:
        return f"rate limited until {error.reset}"
    except QStashError as error:
        return str(error)


def publish(name, **more):
    return client.message.publish_json(
        url=destination,
        body={"from": "python", "name": name},
        headers={"Authorization": "Bearer from-python", "X-Name": name},
        deduplication_id=f"python-{name}",
        retries=1,
        timeout="50s",
        redact={"header": ["Authorization"]},
        **more,
    )


later = int(time.time()) + 3600
first = publish("kept", not_before=later)
again = publish("kept", not_before=later)
other = publish("other", delay="1h")
third = publish("third", not_before=later)
now = publish("now")
message = client.message.get(first.message_id)
client.message.cancel(first.message_id)
twice = refused(lambda: client.message.cancel(first.message_id))
many = client.message.cancel_many([other.message_id, third.message_id])
deadline = time.time() + 60
while True:
    logs = client.log.list(filter={"message_id": now.message_id}).logs
    if any(log.state.value == "DELIVERED" for log in logs):
        break
    if time.time() > deadline:
        raise SystemExit(f"never delivered: {logs}")
    time.sleep(0.05)
keys = client.signing_key.get()
result = {
    "same": first.message_id == again.message_id,
    "deduplicated": [first.deduplicated, again.deduplicated],
    "not_before": message.not_before == later * 1000,
    "url": message.url,
    "body": message.body,
    "retries": message.max_retries,
    "authorization": message.headers["Authorization"][0],
    "cancelled_twice": twice,
    "cancelled_many": many,
    "states": [log.state.value for log in logs],
    "keys": [keys.current, keys.next],
    "wrong_token": refused(lambda: QStash("wrong", base_url=url).message.get(now.message_id)),
}
print(json.dumps(result))

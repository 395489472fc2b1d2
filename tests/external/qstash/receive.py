"""Runs the official receiver on every case of a file, with the body as text, as an application does.

Prints a JSON array of {"accepted": bool, "reason": str | null} as the last line.
"""

import base64
import datetime
import json
import sys
import warnings

import jwt.api_jwt
from qstash import Receiver

warnings.simplefilter("ignore")  # the cases' keys are shorter than real ones
with open(sys.argv[1], encoding="utf-8") as file:
    task = json.load(file)


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(task["now_ms"] / 1000, tz)


jwt.api_jwt.datetime = Frozen
receiver = Receiver(task["current"], task["next"])


def judge(case):
    try:
        body = base64.b64decode(case["body"]).decode("utf-8")
        receiver.verify(signature=case["signature"], body=body, url=case["url"])
        return {"accepted": True, "reason": None}
    except Exception as error:  # any exception is a refusal
        return {"accepted": False, "reason": f"{type(error).__name__}: {error}"[:200]}


print(json.dumps([judge(case) for case in task["cases"]]))

"""Agent identities as an independent implementation makes and reads them (PyPI cryptography and pynacl).

  vectors.py fixed                       the fixed vectors, from fixed seeds
  vectors.py sign                        signs what it reads as JSON on stdin: {"seed", "messages"}
  vectors.py verify                      {"line", "signatures": [{"message", "signature"}]} -> {"verified": [...]}
  vectors.py open                        {"seed", "boxes"} -> {"opened": [...]}
  vectors.py documented                  {"block", "seed", "agent_runtime_id", "task_id"}: what the documentation's
                                         block of Python makes of them -> {"assertion"}
"""

import base64
import json
import os
import sys
import tempfile

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.public import SealedBox
from nacl.signing import SigningKey

AGENT = "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d"
TASK = "0b8e1b0e-6f3a-4c55-8e0c-2f6f1a2b3c4d"
AT = "2027-01-15T08:00:00Z"


def private(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))


def line(key: Ed25519PrivateKey) -> str:
    openssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(*openssh).decode()


def sign(key: Ed25519PrivateKey, message: str) -> str:
    return base64.b64encode(key.sign(message.encode())).decode()


def assertion(key: Ed25519PrivateKey) -> str:
    fields = {
        "agent_runtime_id": AGENT,
        "signature": sign(key, f"{AGENT}:{TASK}:{AT}"),
        "task_id": TASK,
        "timestamp": AT,
    }
    text = json.dumps(fields, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def fixed() -> list:
    seeds = ["9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "00" * 32, "ff" * 32, "07" * 32]
    return [
        {
            "seed": seed,
            "line": line(private(seed)),
            "registration": sign(private(seed), f"{AGENT}:{AT}"),
            "assertion": assertion(private(seed)),
            "x25519": bytes(SigningKey(bytes.fromhex(seed)).verify_key.to_curve25519_public_key()).hex(),
        }
        for seed in seeds
    ]


def verified(key, one: dict) -> bool:
    try:
        key.verify(base64.b64decode(one["signature"], validate=True), one["message"].encode())
        return True
    except InvalidSignature:
        return False


def main() -> object:
    what = sys.argv[1]
    if what == "fixed":
        return fixed()
    asked = json.load(sys.stdin)
    if what == "sign":
        key = private(asked["seed"])
        return {"line": line(key), "signatures": [sign(key, message) for message in asked["messages"]]}
    if what == "verify":
        key = serialization.load_ssh_public_key(asked["line"].encode())
        return {"verified": [verified(key, one) for one in asked["signatures"]]}
    if what == "open":
        box = SealedBox(SigningKey(bytes.fromhex(asked["seed"])).to_curve25519_private_key())
        return {"opened": [box.decrypt(base64.b64decode(one, validate=True)).decode() for one in asked["boxes"]]}
    if what == "documented":
        openssh = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            with open("agent.key", "wb") as file:
                file.write(private(asked["seed"]).private_bytes(*openssh))
            names: dict = {}
            exec(asked["block"], names)
            os.chdir("/")
        return {"assertion": names["assertion"](asked["agent_runtime_id"], asked["task_id"])}
    raise SystemExit(__doc__)


print(json.dumps(main()))

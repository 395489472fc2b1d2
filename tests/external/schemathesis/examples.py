"""Validates the examples of the OpenAPI document on stdin against their schemas, and prints their number."""

import json
import sys

import jsonschema_rs

document = json.load(sys.stdin)


def resolved(value):
    """Returns the target of a reference, or else the value itself."""
    if "$ref" not in value:
        return value
    target = document
    for name in value["$ref"].removeprefix("#/").split("/"):
        target = target[name]
    return target


def bodies():
    for part in ("paths", "webhooks"):
        for path, item in document[part].items():
            for method, operation in item.items():
                if "requestBody" in operation:
                    yield f"{method} {path} request", operation["requestBody"]
                for status, response in operation["responses"].items():
                    yield f"{method} {path} {status}", resolved(response)


count, invalid = 0, []
for name, body in bodies():
    for content in body.get("content", {}).values():
        # The schemas refer to each other by their place in the document.
        schema = {"components": document["components"], **content["schema"]}
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        for error in validator.iter_errors(content["example"]):
            invalid.append(f"{name}: {error.message}")
        count += 1
print("\n".join(invalid) if invalid else count)
sys.exit(bool(invalid))

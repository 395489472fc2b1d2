"""Validates Kubernetes manifests: `python validate.py FILE`. Prints a line for each.

Kubernetes' own kinds have the schemas of two versions; custom resources have those of custom_resources.json. Strict: an
unknown field is an error.
"""

import json
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

# The oldest version that the chart allows, and the newest that the package knows.
VERSIONS = ["1.27", kubernetes_validate.latest_version()]
CUSTOM = json.loads(Path(__file__).with_name("custom_resources.json").read_text(encoding="utf-8"))


def is_custom(manifest):
    group = manifest["apiVersion"].split("/")[0]
    return "." in group and (not group.endswith(".k8s.io") or group.startswith("gateway."))


def problems_of_custom(manifest):
    schema = CUSTOM.get(manifest["kind"])
    if schema is None:
        return ["custom_resources.json has no schema of this kind"]
    validator = jsonschema.Draft202012Validator({**schema, "$defs": CUSTOM["$defs"]})
    return [f"{error.message} at {'.'.join(map(str, error.path))}" for error in validator.iter_errors(manifest)]


def problems_of_own(manifest):
    problems = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(f"Kubernetes {version}: {error.message} at {'.'.join(map(str, error.path))}")
    return problems


def main():
    failed = False
    with open(sys.argv[1], encoding="utf-8") as file:
        manifests = [one for one in yaml.safe_load_all(file) if one]
    for manifest in manifests:
        problems = problems_of_custom(manifest) if is_custom(manifest) else problems_of_own(manifest)
        failed |= bool(problems)
        print(f"{manifest['kind']} {manifest['metadata']['name']}: {'; '.join(problems) or 'valid'}")
    sys.exit(failed)


main()

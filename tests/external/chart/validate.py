"""Validates Kubernetes manifests: `python validate.py FILE`. Prints a line for each; custom resources have no schema here.

Strict: an unknown field is an error.
"""

import sys

import kubernetes_validate
import yaml

# The oldest version that the chart allows, and the newest that the package knows.
VERSIONS = ["1.27", kubernetes_validate.latest_version()]


def is_custom(manifest):
    group = manifest["apiVersion"].split("/")[0]
    return "." in group and (not group.endswith(".k8s.io") or group.startswith("gateway."))


def main():
    failed = False
    with open(sys.argv[1], encoding="utf-8") as file:
        manifests = [one for one in yaml.safe_load_all(file) if one]
    for manifest in manifests:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["kind"] == "PrometheusRule":
            print(f"{name}: {sum(len(group['rules']) for group in manifest['spec']['groups'])} rules")
            continue
        if is_custom(manifest):
            print(f"{name}: custom resource")
            continue
        problems = []
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                problems.append(f"Kubernetes {version}: {error.message} at {'.'.join(map(str, error.path))}")
        failed |= bool(problems)
        print(f"{name}: {'; '.join(problems) or 'valid'}")
    sys.exit(failed)


main()

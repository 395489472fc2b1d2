"""Prints the documents of a YAML text as a JSON list: `python to_json.py < FILE`."""

import json
import sys

import yaml

print(json.dumps([one for one in yaml.safe_load_all(sys.stdin) if one]))

"""Checks answers against the description of the admin API (JSON Schema 2020-12).

Standard input has an object: the description, and answers with their places in it. What does not fit
is printed, a line each.
"""

import json
import sys

from jsonschema import Draft202012Validator

given = json.load(sys.stdin)
description = given["description"]
for answer in given["answers"]:
    schema = {**answer["schema"], "components": description["components"]}
    Draft202012Validator.check_schema(schema)
    for error in Draft202012Validator(schema).iter_errors(answer["body"]):
        print(f"{answer['name']}: {'/'.join(map(str, error.absolute_path))}: {error.message}")

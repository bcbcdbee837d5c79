"""JSON Schemas: whether one can be used, and whether a value meets it."""

from collections.abc import Mapping

import jsonschema
from referencing import Registry


def fault(schema: Mapping[str, object]) -> str | None:
    """Return what is wrong with a schema, or None."""
    try:
        jsonschema.Draft202012Validator.check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        return f"is no JSON Schema: {error.message[:200]}"
    return None


def unmet(schema: Mapping[str, object], value: Mapping[str, object]) -> str | None:
    """Return where *value* does not meet *schema*, without the value itself, or None.

    Raises ValueError for a schema that refers to what is not in it.
    """
    # An empty registry: by default the library asks the web for what a schema refers to.
    validator = jsonschema.Draft202012Validator(dict(schema), registry=Registry())
    try:
        error = next(iter(validator.iter_errors(dict(value))), None)
    except Exception as broken:  # the library's own errors have no common kind
        raise ValueError("the schema cannot be used") from broken
    if error is None:
        return None
    where = "/".join(map(str, error.absolute_path)) or "the answer"
    return f"{where} does not meet {error.validator}"

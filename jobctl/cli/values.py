"""Values that a person types."""

import json
import math
from typing import Any

from jobctl.errors import InvalidInput


def parse_json(text: str, where: str) -> Any:
    """A JSON value; ``NaN`` and its like are no JSON.

    Raises:
        InvalidInput: it is none; ``where`` says what was read.
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise InvalidInput(f"{where} nests too deeply") from None
    except ValueError as error:
        if "int_max_str_digits" in str(error):
            raise InvalidInput(f"{where} is not JSON: a number has too many digits") from None
        reason = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise InvalidInput(f"{where} is not JSON: {reason[:1].lower()}{reason[1:]}") from None


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits[:40]} is out of range")
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"there is no {name} in JSON")

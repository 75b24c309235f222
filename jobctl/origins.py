"""Where each setting comes from: the command line, a variable of the environment, or the file.

To say it (``jobctl config show``), and to blame the right one for a mistake.
"""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

PREFIX: Final = "JOBCTL_"
OWN: Final = {
    "JOBCTL_SECRET": ("auth", "secret"),
    "JOBCTL_PREVIOUS_SECRET": ("auth", "previous_secrets"),
}
"""Variables whose name is not that of their setting. They win over those that have it."""

Place = Sequence[str | int]
"""``("queues", "mail", "concurrency")``; a number is an index of a list."""


class Given(NamedTuple):
    """Something that was said: ``value`` at ``place``, a table or a single setting."""

    kind: Literal["flag", "env", "file"]
    name: str
    place: tuple[str, ...]
    value: Any

    def says(self, place: Place) -> bool:
        """Whether it says something at ``place``, or within."""
        shared = min(len(place), len(self.place))
        if self.place[:shared] != tuple(place)[:shared]:
            return False
        found = self.value
        for part in place[shared:]:
            if isinstance(found, Mapping):
                if part not in found:
                    return False
                found = found[part]
            elif isinstance(found, list | tuple):
                if not isinstance(part, int) or part >= len(found):
                    return False
                found = found[part]
            else:
                return True  # it stands where a table should be
        return True

    def is_table(self, place: Place) -> bool:
        """Whether what it says at ``place`` is a part of something that others may add to."""
        if len(self.place) > len(place):
            return True
        found = self.value
        for part in place[len(self.place) :]:
            if not isinstance(found, Mapping):
                return False
            found = found.get(part)
        return isinstance(found, Mapping)


def everything_given(
    path: Path | None, values: Mapping[str, Any], flags: Mapping[str, Any], variables: Collection[str]
) -> list[Given]:
    """What was said anywhere, the strongest first.

    Args:
        path: The file; None: there is none.
        values: What stands in it.
        flags: Options of the command line by their setting's name; None: not given.
        variables: Names of the first parts of settings, in lower case: other variables are not the server's.
    """
    found = [Given("flag", f"--{name.replace('_', '-')}", (name,), value) for name, value in flags.items()]
    found = [each for each in found if each.value is not None]
    named = []
    for name, text in os.environ.items():
        if not text or not name.upper().startswith(PREFIX):
            continue
        if own := OWN.get(name):
            found.append(Given("env", name, own, text if own[-1] == "secret" else [text]))
            continue
        place = tuple(name[len(PREFIX) :].lower().split("__"))
        if place[0] in variables:
            named.append(Given("env", name, place, _read(text)))
    found += sorted(named, key=lambda each: -len(each.place))
    if path is not None:
        found.append(Given("file", str(path), (), values))
    return found


def who_says(given: Sequence[Given], place: Place) -> list[Given]:
    """Who is to blame for what stands at ``place``: one for a single setting, all that fill it for a table.

    Where nobody has said it (something is missing), those who say what is around it.
    """
    for length in range(len(place), 0, -1):
        found = [each for each in given if each.says(place[:length])]
        if found:
            return found if found[0].is_table(place[:length]) else found[:1]
    return list(given)


def _read(text: str) -> Any:
    """A list or a table of the environment is JSON."""
    try:
        value = json.loads(text) if text[0] in "[{" else text
    except (ValueError, RecursionError):
        return text
    return value

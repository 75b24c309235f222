"""The table of ``jobctl jobs list``."""

import pytest

from jobctl.cli.jobs import fitting

ID = "01a20679-da96-7102-bc18-91759e4d80c1"
HEADER = ("ID", "STATUS", "QUEUE", "NAME", "TRY", "AGE", "TIME", "ON", "MESSAGE")
DONE = (ID, "✔ completed", "default", "thumbnail", "1/3", "0.5s", "0.2s", "", "")
RUNS = (ID, "● running", "default", "thumbnail", "1/3", "0.5s", "0.2s", "host:1", "half way")


def columns(room: int, *rows: tuple[str, ...]) -> tuple[str, ...]:
    return fitting([HEADER, *rows], room)[0]


def test_what_says_nothing_is_left_out() -> None:
    assert fitting([HEADER, DONE], 200) == [
        ("ID", "STATUS", "QUEUE", "NAME", "TRY", "AGE", "TIME"),
        (ID, "✔ completed", "default", "thumbnail", "1/3", "0.5s", "0.2s"),
    ]


@pytest.mark.parametrize(
    ("room", "left"),
    [
        (200, "ID STATUS QUEUE NAME TRY AGE TIME ON MESSAGE"),
        (100, "ID STATUS NAME TRY AGE TIME ON MESSAGE"),
        (80, "ID STATUS NAME AGE MESSAGE"),
        (66, "ID STATUS NAME AGE"),
        (60, "ID STATUS NAME"),
    ],
)
def test_what_does_not_fit_is_left_out_from_the_least_to_the_most(room: int, left: str) -> None:
    table = fitting([HEADER, DONE, RUNS], room)
    assert table[0] == tuple(left.split())
    assert table[1][0] == ID


def test_where_not_even_the_least_fits_the_id_gives_way() -> None:
    header, row = fitting([HEADER, DONE], 40)
    assert header == ("ID", "STATUS", "NAME")
    assert row == ("…9e4d80c1", "✔ completed", "thumbnail")

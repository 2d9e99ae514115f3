"""The days that tests speak of, asked each time: a run may cross midnight."""

import datetime

from care.periods import day_of


def today() -> datetime.date:
    """Return the day it is in China."""
    return day_of(datetime.datetime.now(datetime.UTC))


def next_year() -> datetime.date:
    """Return the last day of a contract of a year that begins today."""
    first = today()
    return first.replace(year=first.year + 1, day=min(first.day, 28))

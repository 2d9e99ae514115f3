"""The log never ends the hub."""

import io
import json
import pathlib

import pytest

from ops.logs import configure_logs, log


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="no /dev/full here")
def test_lines_that_a_full_disk_refuses_are_counted_and_told_later() -> None:
    with pathlib.Path("/dev/full").open("ab", buffering=0) as full:
        with pytest.raises(OSError, match="No space left"):
            full.write(b"x")
        configure_logs(full)
        log.warning("one")
        log.warning("two")
        kept = io.BytesIO()
        configure_logs(kept)
        log.warning("three")
    lines = [json.loads(line) for line in kept.getvalue().splitlines() if line]
    assert [line["event"] for line in lines] == ["log lines were lost", "three"]
    assert lines[0]["lines"] == 2

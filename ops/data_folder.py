"""The folder that holds the embedded PostgreSQL, logs and ports: `QIAO_HOME`."""

import pathlib
import tempfile

from conformance.problem import InvalidContent, Issue


def require_data_folder(home: pathlib.Path) -> None:
    """Make the folder where there is none; InvalidContent where it cannot be written."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=home).close()
    except OSError as refusal:
        raise InvalidContent(_not_writable(home, refusal)) from None


def _not_writable(home: pathlib.Path, refusal: OSError) -> Issue:
    return Issue(
        code="security",
        key="data-folder",
        text_en=f"The data folder {home} cannot be written: {refusal.strerror}",
        text_zh=f"数据目录 {home} 不可写",
        fix_en="Let the hub's user write there, or set QIAO_HOME to a folder that it may write.",
        fix_zh="请授予写权限，或将 QIAO_HOME 设为可写的目录。",
    )

"""The failures of the store in words, and those of PostgreSQL as ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from conformance.problem import EditConflict, Gone, Issue, NotFound, TooCostly, VersionConflict


@contextmanager
def translated_failures() -> Iterator[None]:
    """Raise our own failures for those of the database that a caller can do something about."""
    try:
        yield
    except (
        psycopg.errors.UniqueViolation,
        psycopg.errors.DeadlockDetected,
        psycopg.errors.SerializationFailure,
        psycopg.errors.LockNotAvailable,
    ) as failure:
        raise EditConflict(_COLLIDED) from failure
    except psycopg.errors.QueryCanceled as failure:
        raise TooCostly(_TOO_LONG) from failure


def version_conflict(key: tuple[str, str], current: int | None, *, wanted: str) -> VersionConflict:
    """Return the failure for a version that is not the one the request named."""
    have = "none" if current is None else str(current)
    return VersionConflict(
        Issue(
            code="conflict",
            key="version-conflict",
            text_en=f"{key[0]}/{key[1]} is at version {have}, the request wants {wanted}",
            text_zh=f"{key[0]}/{key[1]} 当前版本为 {have}，请求要求的版本为 {wanted}",
            fix_en="Read the current version, apply your change to it and send its ETag.",
            fix_zh="请读取当前版本，在其上修改后携带新的 ETag 重新提交。",
        )
    )


def not_found(type_: str, id_: str) -> NotFound:
    """Return the failure for a resource that never was."""
    return NotFound(
        Issue(
            code="not-found",
            key="not-found",
            text_en=f"{type_}/{id_} is not known",
            text_zh=f"{type_}/{id_} 不存在",
            fix_en="Check type and id, or search for the resource.",
            fix_zh="请检查资源类型和 id，或通过检索查找。",
        )
    )


def gone(type_: str, id_: str) -> Gone:
    """Return the failure for a resource that was deleted."""
    return Gone(
        Issue(
            code="deleted",
            key="deleted",
            text_en=f"{type_}/{id_} was deleted",
            text_zh=f"{type_}/{id_} 已被删除",
            fix_en="Read an earlier version through its history.",
            fix_zh="可通过历史记录读取早先的版本。",
        )
    )


_COLLIDED = Issue(
    code="conflict",
    key="write-collided",
    text_en="Another writer changed the same resource at the same moment",
    text_zh="同一资源正被另一写入者修改",
    fix_en="Send the same request again.",
    fix_zh="请原样重新提交。",
)
_TOO_LONG = Issue(
    code="timeout",
    key="statement-too-long",
    text_en="The database did not finish in the time a statement may take",
    text_zh="数据库未能在语句时限内完成",
    fix_en="Send less in one request, or try again later.",
    fix_zh="请减少单次请求的数据量，或稍后重试。",
)

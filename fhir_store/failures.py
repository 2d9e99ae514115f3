"""The failures of the store in words, and those of PostgreSQL as ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import psycopg_pool

from conformance.problem import (
    EditConflict,
    Gone,
    Issue,
    NotFound,
    Problem,
    Throttled,
    TooCostly,
    Unavailable,
    VersionConflict,
)


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
        raise collided() from failure
    except psycopg.OperationalError as failure:
        raise outage(failure) from failure


def outage(failure: psycopg.OperationalError) -> Problem:
    """Return our own failure for a database that is away, full or too slow."""
    if isinstance(failure, psycopg.errors.QueryCanceled):
        return TooCostly(_TOO_LONG)
    if isinstance(failure, psycopg_pool.PoolTimeout | psycopg_pool.TooManyRequests):
        return too_busy()
    return Unavailable(_AWAY)


def history_too_long() -> TooCostly:
    """Return the failure of a history that leads past too much that the caller may not see."""
    return TooCostly(_HISTORY_TOO_LONG)


def outage_of(failure: Exception) -> Problem | None:
    """Return what to answer where it is the database that failed; None for a fault of ours."""
    return outage(failure) if isinstance(failure, psycopg.OperationalError) else None


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


def collided() -> EditConflict:
    """Return the failure of two writers that met; the same request may be sent again."""
    return EditConflict(_COLLIDED)


def too_busy() -> Throttled:
    """Return the failure of a database that has no room at the moment."""
    return Throttled(_TOO_BUSY)


def is_collision(result: object) -> bool:
    """Say whether a result is the failure that may succeed when tried again."""
    return isinstance(result, Problem) and result.issues[0] is _COLLIDED


def claim_taken(kind: str, told: Issue | None = None) -> EditConflict:
    """Return the failure of a claim that somebody else holds for an overlapping period."""
    return EditConflict(
        told
        or Issue(
            code="conflict",
            key="claim-taken",
            text_en=f"The {kind} is already taken for this period",
            text_zh=f"该时段已被占用（{kind}）",
            fix_en="Choose another period, or release the earlier one first.",
            fix_zh="请选择其他时段，或先释放已有的占用。",
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
_HISTORY_TOO_LONG = Issue(
    code="too-costly",
    key="history-time-limit",
    text_en="The history took longer than a statement may",
    text_zh="历史查询超过了单条语句的时间限制",
    fix_en="Add _since, or ask for the history of one type or one resource.",
    fix_zh="请加上 _since，或查询某一类型、某一资源的历史。",
)
_TOO_BUSY = Issue(
    code="throttled",
    key="database-busy",
    text_en="All connections to the database are in use, or it lets nobody in",
    text_zh="数据库连接已全部占用，或数据库暂不接受连接",
    fix_en="Wait a moment and send the same request again.",
    fix_zh="请稍候原样重新提交。",
)
_AWAY = Issue(
    code="transient",
    key="database-away",
    text_en="The database is away for the moment",
    text_zh="数据库暂时不可用",
    fix_en="Send the same request again in a few seconds; a write may have happened already.",
    fix_zh="请数秒后原样重新提交；写入可能已经生效。",
)

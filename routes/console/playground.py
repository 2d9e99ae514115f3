"""The playground: a message, a map that may be changed, and what comes of it; kept nowhere."""

import pathlib
import re
import tempfile
from typing import Any

import msgspec

from conformance import resource_json
from conformance.problem import InvalidContent, Issue, NotFound, Problem
from conformance.structure import require_valid
from mappings.cases import Cases
from mappings.channels.profile import ChannelProfile
from mappings.engine.library import load
from mappings.engine.rows import FaultyMaps
from mappings.hl7.message import parse
from mappings.translate import Translator
from mappings.translated import Unmapped
from routes.console.browsing import profile_of, rows_in_words
from routes.console.desk import Desk
from routes.console.message_tree import tree_of

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_MOST_CHARACTERS = 1_000_000


class Trial(msgspec.Struct, forbid_unknown_fields=True):
    """A message to translate; `maps` has changed map files by their name below `maps/`."""

    message: str
    channel: str = ""
    maps: dict[str, str] = {}


class NewCase(msgspec.Struct, forbid_unknown_fields=True):
    """A message to keep as a golden case, with why it was kept."""

    name: str
    message: str
    why: str
    channel: str = ""


def try_out(desk: Desk, trial: Trial) -> dict[str, Any]:
    """Return tree, resources with trace, rows in words, and everything that is wrong."""
    if len(trial.message) > _MOST_CHARACTERS or sum(map(len, trial.maps.values())) > 10**6:
        raise InvalidContent(_too_long())
    profile = profile_of(desk, trial.channel)
    data = _bytes_of(trial.message)
    try:
        translator = _translator(desk, profile, trial.maps)
    except FaultyMaps as faulty:
        return {**_nothing(), "tree": _tree(data, profile), "faults": _faults(faulty)}
    return _translated(translator, data, profile)


def _translated(translator: Translator, data: bytes, profile: ChannelProfile) -> dict[str, Any]:
    found = {**_nothing(), "tree": _tree(data, profile)}
    try:
        result = translator.translate(data, profile)
    except Problem as problem:
        return {**found, "issues": [issue.to_fhir() for issue in problem.issues]}
    if isinstance(result, Unmapped):
        return {**found, "unmapped": result.event}
    issues = [issue.to_fhir() for issue in result.notes]
    for one in result.resources:
        try:
            require_valid(one.resource)
        except Problem as problem:
            issues += [issue.to_fhir() for issue in problem.issues]
    return {
        **found,
        "map": result.map_name,
        "map_hash": result.map_hash,
        "resources": [
            {
                "reference": f"{one.type}/{one.key}",
                "resource": one.resource,
                "trace": one.trace,
                "map": one.map_name,
            }
            for one in result.resources
        ],
        "held": [
            {"table": one.table, "code": one.code, "source": one.source, "row": one.row}
            for one in result.held
        ],
        "rows": rows_in_words(
            translator, {entry[2] for one in result.resources for entry in one.trace}
        ),
        "issues": issues,
    }


def _nothing() -> dict[str, Any]:
    return {
        "map": "", "map_hash": "", "resources": [], "rows": {}, "issues": [], "faults": [],
        "held": [], "unmapped": "", "tree": [],
    }  # fmt: skip


def map_files(desk: Desk) -> list[str]:
    """Return the names of the hub's map files."""
    folder = desk.maps / "maps"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml")
                  if not any(part.endswith(".cases") for part in path.parts))  # fmt: skip


def map_file(desk: Desk, name: str) -> dict[str, str]:
    """Return the text of one map file."""
    if name not in map_files(desk):
        raise NotFound(_no_file())
    return {"name": name, "text": (desk.maps / "maps" / name).read_text(encoding="utf-8")}


def samples(desk: Desk) -> list[dict[str, str]]:
    """Return the messages of the golden cases, all of synthetic people."""
    found = []
    for file in sorted((desk.maps / "maps").glob("*.cases/*/in.hl7")):
        try:
            text = parse(file.read_bytes()).encode().decode("utf-8")
        except (Problem, UnicodeDecodeError):
            continue  # of another charset: text cannot carry it
        found.append({"name": file.parent.name, "message": text.replace("\r", "\n")})
    return found


def save_case(desk: Desk, case: NewCase) -> dict[str, str]:
    """Write a case's folder; `qiao map test FOLDER` runs it."""
    if not _NAME.fullmatch(case.name):
        raise InvalidContent(_bad_name())
    if not case.why.strip():
        raise InvalidContent(_no_why())
    profile = profile_of(desk, case.channel)
    folder = desk.cases / "console.cases" / case.name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InvalidContent(_taken()) from None
    (folder / "in.hl7").write_bytes(_bytes_of(case.message))
    (folder / "why.md").write_text(case.why.strip() + "\n", encoding="utf-8")
    try:
        Cases(desk.translator(profile).library).accept(folder)
    except Problem:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        raise
    return {"folder": str(folder), "next": f"qiao map test {desk.cases}"}


def _translator(desk: Desk, profile: ChannelProfile, changed: dict[str, str]) -> Translator:
    if not changed:
        return desk.translator(profile)
    known = set(map_files(desk))
    if set(changed) - known:
        raise NotFound(_no_file())
    with tempfile.TemporaryDirectory(prefix="qiao-maps-") as folder:
        root = pathlib.Path(folder)
        (root / "tables").symlink_to((desk.maps / "tables").resolve())
        for name in known:
            target = root / "maps" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name in changed:
                target.write_text(changed[name], encoding="utf-8")
            else:
                target.symlink_to((desk.maps / "maps" / name).resolve())
        return Translator(load(root))


def _bytes_of(text: str) -> bytes:
    """Return a message typed by a person: a line a segment."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    return (lines.replace("\n", "\r") + "\r").encode()


def _tree(data: bytes, profile: ChannelProfile) -> list[dict[str, Any]]:
    try:
        return tree_of(parse(data, profile.charset))
    except Problem:
        return []


def _faults(faulty: FaultyMaps) -> list[dict[str, Any]]:
    names = ("file", "line", "row", "text", "fix")
    return [{name: getattr(fault, name) for name in names} for fault in faulty.faults]


def as_json(found: dict[str, Any]) -> bytes:
    """Return an answer as JSON with the text of numbers kept."""
    return resource_json.dump(found)


def _issue(key: str, english: str, chinese: str, fix_en: str, fix_zh: str, place: str) -> Issue:
    return Issue(
        code="value", key=key, text_en=english, text_zh=chinese, fix_en=fix_en, fix_zh=fix_zh,
        expression=f"http.body.{place}",
    )  # fmt: skip


def _too_long() -> Issue:
    return _issue(
        "console-too-long",
        "The message or the maps are too long for the playground",
        "报文或映射超过试验台的长度限制",
        "Send it to a channel, or use `qiao map run`.",
        "请发送到通道，或使用 `qiao map run`。",
        "message",
    )


def _bad_name() -> Issue:
    return _issue(
        "console-case-name",
        "The case's name is not of small letters, digits and hyphens",
        "用例名称只能由小写字母、数字和连字符组成",
        "Name it such as admission-without-ward.",
        "例如 admission-without-ward。",
        "name",
    )


def _no_why() -> Issue:
    return _issue(
        "console-case-why",
        "The case does not say why it is kept",
        "用例没有说明保存原因",
        "Say in a sentence what it shows.",
        "请用一句话说明它证明什么。",
        "why",
    )


def _taken() -> Issue:
    return _issue(
        "console-case-taken",
        "There is a case of that name",
        "已有同名用例",
        "Choose another name.",
        "请换一个名称。",
        "name",
    )


def _no_file() -> Issue:
    return Issue(
        code="not-found",
        key="console-map-file",
        text_en="The hub has no map file of that name",
        text_zh="没有该名称的映射文件",
        fix_en="Take a name from the list of map files.",
        fix_zh="请从映射文件列表中选择。",
    )

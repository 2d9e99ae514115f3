"""The text of an agreement before it is signed, and its printed form afterwards."""

import asyncio
import base64
import datetime
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pylopdf_fonts_zh_cn

from care.agreement.printing import Sheet, Signer, image_of, printed
from care.agreement.text import Agreement, Terms, compose, name_of, sm3, text_in
from care.contract import content
from care.contract.application import read_receipt
from care.contract.evidence import signed_at
from care.contract.states import State, state_of
from care.contract.surroundings import Surroundings
from care.effects import Put, Resource, refuse
from care.periods import LOCAL
from conformance import resource_json
from conformance.cphc.operations import definition_of
from fhir_store.search.query import parse_query
from fhir_store.transaction import Transaction
from fhir_store.versions import reference_key
from routes.answer import Answer
from routes.hub import Hub
from routes.operations.contract_facts import key_of, new_id, require_agreement, unknown
from routes.operations.contract_parameters import given_in
from routes.operations.contract_writing import (
    Following,
    operations_of,
    require_may_act,
    require_may_see,
)
from routes.operations.parameters import bad_parameter, parameters_in
from routes.registry import Operation as Promise
from routes.request import Request
from routes.writing import context_of, once

TEMPLATE = "Contract/cphc-agreement-template"
"""The template that comes with the hub."""


def font() -> Path:
    """Return the font file that agreements are printed in: Noto Sans SC, SIL Open Font License."""
    return pylopdf_fonts_zh_cn.sans_path()


def agreement_operations() -> tuple[Promise, ...]:
    """Return the operations as the registry wants them."""
    rows = (("agreement-pdf", agreement_pdf, False), ("confirm-reading", confirm_reading, True))
    return tuple(
        Promise(
            code=code,
            definition=definition_of("Contract", code),
            levels=frozenset({"instance"}),
            types=frozenset({"Contract"}),
            handler=handler,
            affects_state=affects,
        )
        for code, handler, affects in rows
    )


async def confirm_reading(hub: Hub, request: Request) -> Answer:
    """Keep the receipt of who has read the agreement of a contract, and when."""
    given = given_in(hub, request)
    digest = given.text("agreementHash")

    async def work(transaction: Transaction) -> Answer:
        key = ("Contract", request.address.id)
        contract = (await transaction.read_for_update([key])).get(key)
        if contract is None:
            raise unknown(*key)
        require_agreement(contract)
        resident = content.resident_of(contract)
        await require_may_act(hub, request, transaction, resident, unknown(*key))
        if digest != content.extension_value(contract, "contract-agreement-hash"):
            raise refuse(
                "agreement-changed",
                "The digest is not that of the agreement as it stands now",
                "协议摘要值与当前协议文本不一致",
                "Show the agreement again ($agreement-pdf) and send the digest of the contract.",
                "请重新展示协议（$agreement-pdf），并发送协议的摘要值。",
                "Contract.extension",
            )
        receipt = read_receipt(
            new_id(),
            resident=resident,
            reader=given.maybe("reader") or request.caller.fhir_user or resident,
            digest=digest,
            template=str(contract.get("instantiatesCanonical", {}).get("reference", "")),
            at=datetime.datetime.now(LOCAL),
        )
        reference = {"reference": content.reference_to(receipt.resource)}
        known = [*contract.get("supportingInfo", ()), reference]
        effects = [receipt, Put({**contract, "supportingInfo": known})]
        written = await transaction.apply(operations_of(effects), context=context_of(request))
        return Answer(status=201, body=written[0].version.body, kind="resource")

    return await once(hub, request, work)


async def composed(
    transaction: Transaction,
    following: Following,
    around: Surroundings,
    terms: Terms,
    template: str,
) -> Agreement:
    """Return the agreement that a template makes of these terms."""
    key = key_of(template, "Contract", "template")
    found = (await transaction.read_current([key])).get(key)
    if found is None:
        raise bad_parameter("template", "Name a template that exists.", "请指定已有的协议模板。")
    missing = [one for one in terms.packages if one not in around.packages]
    if missing:
        raise bad_parameter("package", "Name packages that exist.", "请指定已有的服务包。")
    items = {
        reference: await following.items_of(transaction, around.packages[reference])
        for reference in terms.packages
    }
    return compose(
        found,
        terms,
        resident=around.resident,
        team=around.team,
        packages=around.packages,
        items=items,
    )


async def agreement_pdf(hub: Hub, request: Request) -> Answer:
    """Return the agreement of a contract as PDF: a Binary, or the file itself for a browser.

    A request whose Accept names text/html or application/pdf gets the file.
    """
    parameters_in(hub, request)
    id_ = request.address.id
    async with hub.store.begin() as transaction:
        key = ("Contract", id_)
        contract = (await transaction.read_current([key])).get(key)
        if contract is None:
            raise unknown(*key)
        require_agreement(contract)
        resident = content.resident_of(contract)
        await require_may_see(hub, request, transaction, resident, unknown(*key))
        sheet = await _sheet(hub, transaction, contract)
    file = await asyncio.to_thread(functools.partial(printed, sheet, font()))
    if any(word in (request.header(b"accept") or "") for word in ("text/html", "application/pdf")):
        name = f'inline; filename="agreement-{id_}.pdf"'.encode()
        headers = ((b"content-type", b"application/pdf"), (b"content-disposition", name))
        return Answer(status=200, body=file, kind="file", headers=headers)
    binary = {
        "resourceType": "Binary",
        "contentType": "application/pdf",
        "data": base64.b64encode(file).decode(),
    }
    return Answer(status=200, body=resource_json.dump(binary))


async def _sheet(hub: Hub, transaction: Transaction, contract: Resource) -> Sheet:
    """Gather what is printed; refuse a contract whose text the hub does not have."""
    document = await _text_document(transaction, contract)
    text = text_in(document)
    recorded = str(content.extension_value(contract, "contract-agreement-hash"))
    if sm3(text) != recorded:
        raise refuse(
            "agreement-text-differs",
            "The text on record is not the one whose digest was agreed",
            "存档文本与约定的协议摘要值不一致",
            "Look at the history of the DocumentReference in Contract.legal.",
            "请查看 Contract.legal 所指文件的历史版本。",
            "Contract.legal",
        )
    names = await _names(transaction, contract)
    signers = [
        Signer(
            side=side,
            name=names.get(str(one.get("party", {}).get("reference")), ""),
            when=_when(one["signature"][0]),
            image=image_of(one["signature"][0]),
        )
        for side, one in zip(("甲方", "乙方"), contract.get("signer", ()), strict=False)
    ]
    state = state_of(contract)
    return Sheet(
        number=str(contract.get("identifier", [{}])[0].get("value", contract["id"])),
        text=text,
        digest=recorded,
        state=state.value,
        signers=signers,
        checks=await _checks(hub, transaction, contract),
        watermark=_WATERMARKS.get(state, ""),
    )


async def _text_document(transaction: Transaction, contract: Resource) -> Resource:
    reference = next(
        (
            str(one["contentReference"].get("reference", ""))
            for one in contract.get("legal", ())
            if "contentReference" in one
        ),
        "",
    )
    type_, _, id_ = reference.partition("/")
    found = await transaction.read_current([(type_, id_)]) if type_ == "DocumentReference" else {}
    if not found:
        raise refuse(
            "agreement-text-unknown",
            "The hub does not have the text of this agreement",
            "平台没有该协议的文本",
            "Apply with `template`, so that the hub makes and keeps the text.",
            "申请时请给出 template，由平台生成并存档协议文本。",
            "Contract.legal",
        )
    return found[(type_, id_)]


async def _names(transaction: Transaction, contract: Resource) -> dict[str, str]:
    references = [str(one.get("party", {}).get("reference")) for one in contract.get("signer", ())]
    keys = [reference_key(one) for one in references if "/" in one]
    known = await transaction.read_current(keys) if keys else {}
    return {"/".join(key): name_of(person) for key, person in known.items()}


async def _checks(hub: Hub, transaction: Transaction, contract: Resource) -> list[tuple[str, str]]:
    """Return what the Provenance of the signing says: who, when, where, which proof."""
    pairs = [("target", content.reference_to(contract)), ("_count", "100")]
    query = parse_query("Provenance", pairs)
    page = await hub.store.searcher.search(transaction.connection, query)
    rows = []
    for version in page.matches:
        one = resource_json.parse(version.body)
        if "signature" not in one:
            continue
        done = str(one["activity"]["coding"][0].get("code", ""))
        proof: Mapping[str, Any] = content.extension_value(one, "sign-evidence") or {}
        place = content.extension_value(one, "geolocation")
        said = [f"签署时间 {_local(str(one.get('occurredDateTime', '')))}"]
        said.append(f"记录时间 {_local(str(one.get('recorded', '')))}")
        if place:
            said.append(f"地点 {place}")
        if proof:
            said.append(f"现场照片 {proof.get('reference')}")
        rows.append((f"签署记录 Provenance/{one['id']}（{done}）", "　".join(said)))
    pinned = [str(t["identifier"]["value"]) for t in contract["term"] if "identifier" in t]
    return [*rows, ("服务包版本", "；".join(pinned))]


def _when(signature: Mapping[str, Any]) -> str:
    moment = signed_at(signature)
    return "" if moment is None else moment.astimezone(LOCAL).strftime("%Y-%m-%d %H:%M")


def _local(text: str) -> str:
    try:
        return datetime.datetime.fromisoformat(text).astimezone(LOCAL).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


_WATERMARKS = {
    State.APPLIED: "待审核",
    State.SUPPLEMENT: "待补充",
    State.APPROVED: "待签署",
    State.AMENDING: "变更待签",
    State.REJECTED: "未签约",
    State.VOID: "作废",
    State.ENDED: "已到期",
    State.REVOKED: "已解约",
    State.CANCELLED: "已解约",
    State.AMENDED: "已变更",
}

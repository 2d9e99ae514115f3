"""`$prove-identity`: the hub has a service compare name, ID card and face, and keeps the result.

At Patient, RelatedPerson and Practitioner. What is compared is the record's own; only the photo is
the caller's, and it is handed on without being kept.
"""

import base64
import binascii
import datetime
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from care.effects import refuse
from care.identity.verification import ACTIVITY, MOST_PROOFS, PROOF, Proof, facts_of, proven
from conformance.cphc.operations import definition_of
from conformance.problem import BusinessRule
from fhir_store.permits import permitted_ids
from fhir_store.transaction import Transaction
from routes.answer import Answer, outcome
from routes.hub import Hub
from routes.operations.contract_facts import unknown
from routes.operations.contract_parameters import Given, given_in
from routes.operations.contract_writing import operations_of
from routes.operations.daily_limits import is_spent
from routes.operations.parameters import bad_parameter
from routes.registry import Operation as Promise
from routes.request import Request
from routes.writing import context_of, once

Prove = Callable[[str, str, bytes | None], Awaitable[Proof]]
"""(name, ID card, photo) -> what the service found; handed in by wiring."""
_TYPES = ("Patient", "RelatedPerson", "Practitioner")
_PHOTOS = ("image/jpeg", "image/png")
_MOST_PHOTO_BYTES = 2 * 2**20  # the service takes 3 MiB of base64
_DENIED = "identity-differs"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityProofs:
    """The operation; `prove` is None where no service is set up."""

    prove: Prove | None = None

    def promises(self) -> tuple[Promise, ...]:
        """Return the operation for each type of person."""
        return tuple(
            Promise(
                code="prove-identity",
                definition=definition_of(type_, "prove-identity"),
                levels=frozenset({"instance"}),
                types=frozenset({type_}),
                handler=self.prove_identity,
                affects_state=True,
            )
            for type_ in _TYPES
        )

    async def prove_identity(self, hub: Hub, request: Request) -> Answer:
        """Compare, keep the result, and raise the level; parameter `photo`, or name and number."""
        photo = _photo(given_in(hub, request))
        key = (request.address.type, request.address.id)
        if self.prove is None:
            raise _not_set_up()
        async with hub.store.begin() as transaction:
            person = (await transaction.read_current([key])).get(key)
            await _require_may_write(hub, request, transaction)
            if person is None:
                raise unknown(*key)
            facts = facts_of(person)
            await _require_few(hub, transaction, key)
        # No connection is held while the service is asked.
        proof = await self.prove(*facts, photo)
        if proof.is_same is None:
            raise _away(proof)

        async def work(transaction: Transaction) -> Answer:
            found = (await transaction.read_for_update([key])).get(key)
            if found is None or facts_of(found) != facts:
                raise unknown(*key)
            effects = proven(
                found,
                proof,
                by_photo=photo is not None,
                document_id=str(uuid.uuid4()),
                actor=context_of(request).actor,
                now=datetime.datetime.now(datetime.UTC),
            )
            written = await transaction.apply(operations_of(effects), context=context_of(request))
            if not proof.is_same:
                return outcome(422, _differs(proof).issues)
            body = next(one.version.body for one in written if one.version.type == key[0])
            return Answer(status=200, body=body, kind="resource")

        return await once(hub, request, work)


def _photo(given: Given) -> bytes | None:
    for part in given.named("photo"):
        value = part.get("valueAttachment")
        image = value if isinstance(value, Mapping) else {}
        try:
            data = base64.b64decode(str(image.get("data", "")), validate=True)
        except (ValueError, binascii.Error):
            data = b""
        if image.get("contentType") not in _PHOTOS or not 0 < len(data) <= _MOST_PHOTO_BYTES:
            raise bad_parameter(
                "photo",
                "Send a valueAttachment of image/jpeg or image/png with data, 2 MiB at most.",
                "请以 valueAttachment 发送 image/jpeg 或 image/png 照片（data），不超过 2 MiB。",
            )
        return data
    return None


async def _require_may_write(hub: Hub, request: Request, transaction: Transaction) -> None:
    """Refuse whoever may not change the person; a hidden one looks as if there were none."""
    type_, id_ = request.address.type, request.address.id
    rights = await hub.authorize(request.caller, "u", type_)
    if rights.criteria_of(type_) is None:
        return
    searcher = hub.store.searcher
    if not await permitted_ids(transaction.connection, searcher, type_, [id_], rights):
        raise unknown(type_, id_)


async def _require_few(hub: Hub, transaction: Transaction, key: tuple[str, str]) -> None:
    asked = [("related", "/".join(key)), ("type", f"{ACTIVITY}|{PROOF}")]
    if await is_spent(hub, transaction, "DocumentReference", asked, date="date", most=MOST_PROOFS):
        raise refuse(
            "identity-proof-often",
            f"The person was compared {MOST_PROOFS} times today",
            f"该人员今日已核验 {MOST_PROOFS} 次",
            "Try again tomorrow, or verify in person with $verify, level 4.",
            "请明日再试，或现场核验（$verify，级别 4）。",
        )


def _differs(proof: Proof) -> BusinessRule:
    return refuse(
        _DENIED,
        f"The service says that it is not the same person ({proof.code})",
        f"核验结果不一致（{proof.code}）",
        "Check name, ID card number and photo, or verify in person with $verify, level 4.",
        "请核对姓名、身份证号和照片，或现场核验（$verify，级别 4）。",
        "Parameters.parameter.where(name = 'photo')",
    )


def _away(proof: Proof) -> BusinessRule:
    return refuse(
        "identity-proof-away",
        f"The service could not say ({proof.code}); nothing was changed",
        f"核验服务暂时无法给出结果（{proof.code}），未作任何修改",
        "Try again in some minutes, or verify in person with $verify, level 4.",
        "请数分钟后重试，或现场核验（$verify，级别 4）。",
    )


def _not_set_up() -> BusinessRule:
    return refuse(
        "identity-proof-off",
        "No service that compares identities is set up",
        "未配置实名核验服务",
        "Set QIAO_FACEID_URL and its keys, or record a check with $verify.",
        "请配置 QIAO_FACEID_URL 及密钥，或用 $verify 登记核验结果。",
    )

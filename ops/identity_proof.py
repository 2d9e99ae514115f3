"""The service that compares identities: built from the settings, handed to the operation."""

import contextlib

from adapters.identity_proof.faceid import Answer, FaceidClient
from adapters.transport.tc3_post import CloudAccount
from care.identity.verification import Proof
from ops.settings import Settings
from routes.operations.identity_proof import IdentityProofs

_SAME = {Answer.SAME: True, Answer.DIFFERS: False, Answer.UNKNOWN: None}


def identity_proofs(settings: Settings, stack: contextlib.AsyncExitStack) -> IdentityProofs:
    """Return the operation with the service that is set up; the stack closes its sockets."""
    if not (settings.faceid_url and settings.faceid_secret_key):
        return IdentityProofs()
    client = FaceidClient(
        CloudAccount(
            endpoint=settings.faceid_url,
            secret_id=settings.faceid_secret_id,
            secret_key=settings.faceid_secret_key.get_secret_value(),
        )
    )
    stack.push_async_callback(client.close)

    async def prove(name: str, number: str, photo: bytes | None) -> Proof:
        found = await client.compare(name, number, photo)
        return Proof(
            is_same=_SAME[found.answer],
            code=found.code,
            detail=found.detail,
            similarity=found.similarity,
            reference=found.request_id,
        )

    return IdentityProofs(prove=prove)

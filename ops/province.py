"""The province as a destination: its sender, and the documents that are made for it."""

from adapters.port import Sender
from adapters.province.client import Account, ProvinceSender
from care.periods import day_of
from conformance.resource_json import parse
from fhir_store.operations import Version
from fhir_store.outbox import Owed
from fhir_store.store import Store
from mappings.documents import Documents
from mappings.engine.library import load
from ops.certificates import province_tls
from ops.flow_delivery import Destination, Document, Withheld
from ops.province_choice import NAME
from ops.province_documents import DocumentMaker
from ops.settings import Settings

REGISTRATION = "resident-registration"
"""The map of the document: mappings/maps/province/resident.yaml."""


def province_sender(settings: Settings, url: str, key: bytes) -> Sender:
    """Return the SOAP client of the province."""
    return ProvinceSender(
        account=Account(
            endpoint=url,
            key=key,
            org_code=settings.province_org_code,
            org_name=settings.province_org_name,
        ),
        reply_seconds=settings.province_reply_seconds,
        tls=province_tls(settings),
    )


def province_destination(settings: Settings, sender: Sender, store: Store) -> Destination:
    """Return the province as a destination of registrations and steps of contracts."""
    documents = Documents(load())
    maker = DocumentMaker(store, documents)
    organization = {
        "identifier": [{"value": settings.province_org_code}],
        "name": settings.province_org_name,
    }

    async def compose(owed: Owed, version: Version) -> Document | Withheld:
        if version.type != "Patient":
            return await maker.make(owed, version)
        content = {
            "patient": parse(version.body),
            "organization": organization,
            "registeredOn": day_of(owed.created_at).isoformat(),
        }
        made = documents.compose(REGISTRATION, content)
        operation = "A" if owed.source_version == 1 else "U"
        facts = {"bizType": "resident", "opType": operation, "dataVersion": str(version.version)}
        return Document(payload=made.payload, content_type=made.content_type, facts=facts)

    return Destination(
        name=NAME,
        sender=sender,
        compose=compose,
        is_idempotent=settings.province_is_idempotent,
    )

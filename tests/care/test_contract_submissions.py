"""Which step lies between two versions of a contract, told without anybody's word for it."""

import pytest

from care.contract.content import extension, with_extension
from care.contract.states import AMENDING
from care.contract.submissions import step_of


def contract(status, *, signed=False, legal=None, team="CareTeam/t1", price=1, draft=False):
    made = {
        "resourceType": "Contract",
        "id": "c1",
        "status": status,
        "legalState": {"coding": [{"code": legal or status}]},
        "term": [
            {
                "asset": [{"valuedItem": [{"net": {"value": price}}]}],
                "action": [{"performer": {"reference": team}}],
            }
        ],
    }
    if signed:
        made["signer"] = [{"party": {"reference": "Practitioner/d1"}}]
    if draft:
        made["extension"] = [{"url": AMENDING, "valueReference": {"reference": "Contract/c0"}}]
    return made


APPLIED = contract("offered")
APPROVED = contract("executable")
SIGNED = contract("executable", signed=True)
UNPAID = with_extension(SIGNED, "effective-on-payment", "valueBoolean", True)
PAID = with_extension(SIGNED, "effective-on-payment", "valueBoolean", False)
EFFECTIVE = contract("executed", signed=True)
AMENDED = contract("executed", signed=True, legal="amended", price=2)
DISPUTED = contract("disputed", signed=True)


@pytest.mark.parametrize(
    ("before", "after", "step"),
    [
        (None, APPLIED, "application"),
        (None, SIGNED, "sign"),
        (None, EFFECTIVE, "sign"),
        (None, contract("executed", signed=True, legal="renewed"), "renew"),
        (None, contract("executable", signed=True, legal="renewed"), "renew"),
        (None, contract("rejected", signed=True), None),  # signed offline, too late
        (None, contract("policy"), None),
        (None, contract("negotiable", draft=True), None),
        (APPLIED, contract("negotiable"), "review"),
        (contract("negotiable"), APPLIED, "application"),
        (APPLIED, APPROVED, "review"),
        (APPLIED, contract("rejected"), "review"),
        (APPROVED, contract("rejected"), "review"),
        (APPROVED, SIGNED, "sign"),
        (APPROVED, EFFECTIVE, "sign"),
        (UNPAID, PAID, "payment"),
        (UNPAID, EFFECTIVE, "execute"),
        (PAID, EFFECTIVE, "execute"),
        (EFFECTIVE, AMENDED, "amend"),
        (EFFECTIVE, contract("executed", signed=True, team="CareTeam/t2"), "reassign"),
        (EFFECTIVE, with_extension(EFFECTIVE, "auto-renew-consent", "valueBoolean", True), None),
        (EFFECTIVE, DISPUTED, "dispute"),
        (DISPUTED, contract("executed", signed=True, legal="resolved"), "resolve"),
        (EFFECTIVE, contract("terminated", signed=True), "expire"),
        (SIGNED, contract("terminated", signed=True), "expire"),
        (EFFECTIVE, contract("revoked", signed=True), "terminate"),
        (APPLIED, contract("cancelled"), "terminate"),
        (DISPUTED, contract("revoked", signed=True), "terminate"),
        (EFFECTIVE, contract("entered-in-error", signed=True), "nullify"),
        (contract("revoked"), contract("revoked"), None),
        (contract("negotiable", draft=True), contract("amended", draft=True), None),
    ],
)
def test_the_step_between_two_versions(before, after, step):
    assert step_of(before, after) == step


def test_what_is_no_contract_is_no_step():
    unknown = {"resourceType": "Contract", "status": "nobody-knows", "extension": []}
    assert step_of(None, unknown) is None
    assert extension("x", "valueCode", "y")["url"].endswith("cphc-x")

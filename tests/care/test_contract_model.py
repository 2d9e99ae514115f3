"""Random lives of contracts, in the rules of `care` and in a model that knows nothing of them."""

import datetime
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from contract_life import Life
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from care import programme
from care.contract import application as applying
from care.contract import changes, content, delegation, ending, signing, states, steps
from care.contract.application import Application
from care.contract.delegation import Delegation
from care.contract.evidence import Place, Signing
from care.contract.signing import Payment
from care.contract.states import Event, State, amended_by, state_of
from care.contract.surroundings import Surroundings
from care.effects import Decision, Effect, Hold, LetGo
from care.periods import LOCAL, end_of, start_of
from care.programme import Moment
from conformance.problem import BusinessRule
from conformance.structure import check

FIRST = datetime.date(2026, 1, 30)
HASH = "a" * 64
NAMES = {
    "applied": State.APPLIED, "reviewed-once": State.SECOND_REVIEW,
    "amendment-unpaid": State.AMENDMENT_UNPAID,
    "supplement": State.SUPPLEMENT, "approved": State.APPROVED,
    "rejected": State.REJECTED, "signed": State.SIGNED, "effective": State.EFFECTIVE,
    "amending": State.AMENDING, "amended": State.AMENDED, "disputed": State.DISPUTED,
    "ended": State.ENDED, "revoked": State.REVOKED, "cancelled": State.CANCELLED,
    "void": State.VOID,
}  # fmt: skip
OVER = ("rejected", "amended", "ended", "revoked", "cancelled", "void")
PRICES = {"basic": Decimal("60.00"), "extra": Decimal("120.00")}
PACKAGES = st.sampled_from([frozenset({"basic"}), frozenset({"extra"}), frozenset(PRICES)])
GUARDIAN = {
    "resourceType": "RelatedPerson",
    "id": "guardian",
    "patient": {"reference": "Patient/p"},
    "birthDate": "1980-01-01",
}


def day(number: int) -> datetime.date:
    return FIRST + datetime.timedelta(days=number)


def prices(names: frozenset[str]) -> dict[str, Decimal]:
    return {f"PlanDefinition/{name}": PRICES[name] for name in sorted(names)}


class Taken(Exception):
    """A claim that somebody else holds."""


class Lives(RuleBasedStateMachine):
    """The rules with a store of two dictionaries, beside the model; no divergence is allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Life()
        self.store: dict[str, Any] = {}
        self.claims: list[Hold] = []
        self.count = 0

    @initialize(is_minor=st.booleans())
    def begin_life(self, is_minor: bool) -> None:
        self.model.minor = is_minor

    # --- the world ---------------------------------------------------------------------------

    def around(self, name: str | None = None) -> Surroundings:
        contract = self.store.get(f"Contract/{name}")
        old = amended_by(contract) if contract else None
        team = content.team_of(contract) if contract else "CareTeam/t1"
        resident: dict[str, Any] = {
            "resourceType": "Patient",
            "id": "p",
            "birthDate": "2015-01-01" if self.model.minor else "1960-01-01",
        }
        if not self.model.alive:
            resident["deceasedBoolean"] = True
        return Surroundings(
            now=datetime.datetime.combine(day(self.model.today), datetime.time(9), LOCAL),
            actor="Practitioner/d",
            resident=resident,
            packages={
                f"PlanDefinition/{one}": {
                    "resourceType": "PlanDefinition",
                    "id": one,
                    "url": f"urn:{one}",
                    "version": "1",
                    "status": "active" if one in self.model.offer else "retired",
                }
                for one in PRICES
            },
            team={
                "resourceType": "CareTeam",
                "id": team.partition("/")[2],
                "status": "active",
                "participant": [{"member": {"reference": "Practitioner/d"}}],
            },
            qualified=frozenset({"Practitioner/d"} if self.model.doctor else ()),
            prices=prices(frozenset(PRICES)),
            new_id=self.new_id,
            relative=GUARDIAN,
            predecessor=self.store.get(str(old)),
        )

    def new_id(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def signing(self, signer: str, proof: bool, digest: str = HASH) -> Signing:
        party = {"self": "Patient/p", "guardian": "RelatedPerson/guardian"}.get(
            signer, "RelatedPerson/stranger"
        )
        parties = {"resident": party, "doctor": "Practitioner/d"}
        moment = datetime.datetime.combine(day(self.model.today), datetime.time(8), LOCAL)
        signatures = {
            side: {
                "type": [{"code": "1.2.840.10065.1.12.1.1"}],
                "when": moment.isoformat(),
                "who": {"reference": who},
                **({"data": "iVBORw0KGgo="} if proof else {}),
            }
            for side, who in parties.items()
        }
        return Signing(
            resident=party,
            doctor="Practitioner/d",
            signatures=signatures,
            agreement_hash=digest,
            photo={"contentType": "image/png", "data": "iVBORw0KGgo="} if proof else None,
            place=Place(latitude=Decimal(22), longitude=Decimal(114)) if proof else None,
        )

    def compare(self, granted: bool, step: Any) -> Decision | None:
        """Take the step in the rules; both sides must say the same, and refusals leave nothing."""
        before = (dict(self.store), list(self.claims))
        refusal: Exception | None = None
        decision = None
        try:
            decision = step()
            self.write(decision.effects if isinstance(decision, Decision) else decision)
        except (BusinessRule, Taken) as refused:
            refusal = refused
            (self.store, self.claims) = before
        assert granted == (refusal is None), refusal or "granted what the model refuses"
        if isinstance(refusal, BusinessRule):
            assert all(issue.fix_en and issue.fix_zh for issue in refusal.issues)
        return decision if refusal is None else None

    def write(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, LetGo):
                self.claims = [
                    c for c in self.claims if (c.kind, c.holder) != (effect.kind, effect.holder)
                ]
            elif isinstance(effect, Hold):
                if any(self.meets(effect, other) for other in self.claims):
                    raise Taken
                self.claims.append(effect)
            else:
                self.store[content.reference_to(effect.resource)] = effect.resource

    @staticmethod
    def meets(one: Hold, other: Hold) -> bool:
        def before(a: Any, b: Any) -> bool:
            return a is not None and b is not None and a <= b

        is_apart = before(one.end, other.start) or before(other.end, one.start)
        return (one.kind, one.key) == (other.kind, other.key) and not is_apart

    def pick(self, number: int) -> tuple[str, Any]:
        """Choose a contract: mostly one that is not over, now and then any."""
        names = sorted(self.model.contracts)
        open_ones = [n for n in names if self.model.contracts[n].state not in OVER]
        chosen = open_ones if open_ones and number % 5 else names
        name = chosen[number % len(chosen)]
        return name, self.store[f"Contract/{name}"]

    def has_contracts(self) -> bool:
        return bool(self.model.contracts)

    # --- what happens --------------------------------------------------------------------------

    @rule(days=st.sampled_from([1, 1, 5, 11, 20, 61, 365]))
    def time_passes(self, days: int) -> None:
        self.model.today += days

    @rule(happening=st.sampled_from(["death", "suspended", "back", "retired", "published"]),
          luck=st.integers(0, 5))  # fmt: skip
    def world_changes(self, happening: str, luck: int) -> None:
        if happening == "death" and luck == 0:
            self.model.alive = False
        elif happening in ("suspended", "back"):
            self.model.doctor = happening == "back" or luck > 0
        elif happening in ("retired", "published"):
            is_less = happening == "retired" and luck <= 3
            self.model.offer = frozenset({"basic"}) if is_less else frozenset(PRICES)

    @rule(
        start=st.sampled_from([0, 0, 0, -5, -40, 1, 20]),
        length=st.sampled_from([0, 10, 60, 364, 364, -1, 2000]),
        packages=PACKAGES,
        mode=st.sampled_from(["consulting-room", "consulting-room", "home"]),
        pay_first=st.booleans(),
        stages=st.sampled_from([1, 1, 2]),
    )
    def submit(
        self, start: int, length: int, packages: frozenset[str], mode: str, pay_first: bool,
        stages: int = 1,
    ) -> None:  # fmt: skip
        name = self.new_id()
        start += self.model.today
        granted = self.model.submit(name, start, start + length, packages, mode, pay_first, stages)
        wish = Application(
            contract_id=name,
            number=name,
            resident="Patient/p",
            team="CareTeam/t1",
            packages=prices(packages),
            start=day(start),
            end=day(start + length),
            agreement_hash=HASH,
            mode=mode,
            pay_first=pay_first,
            review_stages=stages,
        )
        self.compare(granted, lambda: applying.submit(self.around(), wish))

    @rule(
        start=st.sampled_from([0, 0, 0, -5, 20]),
        length=st.sampled_from([10, 60, 364]),
        packages=PACKAGES,
        mode=st.sampled_from(["consulting-room", "consulting-room", "home"]),
        pay_first=st.booleans(),
    )
    def sign_up(
        self, start: int, length: int, packages: frozenset[str], mode: str, pay_first: bool
    ) -> None:
        """Apply, be reviewed and sign as it should be: so that lives get far enough."""
        self.submit(start, length, packages, mode, pay_first)
        name = next(reversed(self.model.contracts), "")
        if name and self.model.contracts[name].state == "applied":
            contract = self.store[f"Contract/{name}"]
            granted = self.model.review(name, "approve")
            self.compare(granted, lambda: applying.review(self.around(name), contract, "approve"))
            self.sign_this(name, "guardian" if self.model.minor else "self", proof=True)

    @precondition(has_contracts)
    @rule(
        number=st.integers(0, 50),
        verdict=st.sampled_from(["approve"] * 4 + ["supplement", "reject"]),
        is_above=st.sampled_from([True, False, False]),
    )
    def review(self, number: int, verdict: str, is_above: bool) -> None:
        name, contract = self.pick(number)
        granted = self.model.review(name, verdict, is_above)
        actor = "Practitioner/above" if is_above else "Practitioner/d"
        around = replace(self.around(name), actor=actor, stands_above=is_above)
        self.compare(granted, lambda: applying.review(around, contract, verdict, "缺"))

    @precondition(has_contracts)
    @rule(number=st.integers(0, 50))
    def resubmit(self, number: int) -> None:
        name, contract = self.pick(number)
        granted = self.model.resubmit(name)
        self.compare(granted, lambda: applying.resubmit(self.around(name), contract, HASH))

    @precondition(has_contracts)
    @rule(
        number=st.integers(0, 50),
        signer=st.sampled_from(["self", "self", "guardian", "guardian", "stranger"]),
        proof=st.sampled_from([True, True, False]),
        read_the_same=st.sampled_from([True, True, True, False]),
    )
    def sign(self, number: int, signer: str, proof: bool, read_the_same: bool) -> None:
        self.sign_this(self.pick(number)[0], signer, proof, read_the_same)

    def sign_this(self, name: str, signer: str, proof: bool, read_the_same: bool = True) -> None:
        contract = self.store[f"Contract/{name}"]
        granted = self.model.sign(name, signer, proof, read_the_same)
        signed = self.signing(signer, proof, HASH if read_the_same else "b" * 64)
        self.compare(granted, lambda: signing.sign(self.around(name), contract, signed))

    @precondition(has_contracts)
    @rule(number=st.integers(0, 50), is_right=st.sampled_from([True, True, False]))
    def pay(self, number: int, is_right: bool) -> None:
        self.pay_this(self.pick(number)[0], is_right)

    def pay_this(self, name: str, is_right: bool) -> None:
        contract = self.store[f"Contract/{name}"]
        owed = sum(content.prices_of(contract).values())
        if self.model.contracts[name].state == "amendment-unpaid":
            owed = self.model.contracts[name].owed
        owed += 0 if is_right else 1
        payment = Payment(invoice=f"Invoice/{name}", resident="Patient/p", amount=Decimal(owed))
        granted = self.model.pay(name, is_right)
        self.compare(granted, lambda: signing.pay(self.around(name), contract, payment))

    @precondition(has_contracts)
    @rule(number=st.integers(0, 50))
    def begin(self, number: int) -> None:
        name, contract = self.pick(number)
        granted = self.model.begin(name)
        self.compare(granted, lambda: signing.start(self.around(name), contract))

    @precondition(has_contracts)
    @rule(number=st.integers(0, 50), packages=PACKAGES)
    def amend(self, number: int, packages: frozenset[str]) -> None:
        self.amend_this(self.pick(number)[0], packages)

    def amend_this(self, name: str, packages: frozenset[str]) -> str:
        contract, around = self.store[f"Contract/{name}"], self.around(name)
        draft = f"n{self.count + 1}"
        granted = self.model.amend(name, draft, packages)
        self.compare(granted, lambda: changes.amend(around, contract, prices(packages), HASH))
        return draft if granted else ""

    @rule(is_right=st.sampled_from([True, False]))
    def pay_the_difference(self, is_right: bool) -> None:
        """Sign, pay, and amend to a dearer version, as it should be: so that lives get there."""
        basic = frozenset({"basic"})
        self.sign_up(start=0, length=364, packages=basic, mode="consulting-room", pay_first=True)
        name = next(reversed(self.model.contracts), "")
        if not name or self.model.contracts[name].state != "signed":
            return
        self.pay_this(name, is_right=True)
        signer = "guardian" if self.model.minor else "self"
        if draft := self.amend_this(name, frozenset(PRICES)):
            self.sign_this(draft, signer, proof=True)
            self.pay_this(draft, is_right)

    @precondition(has_contracts)
    @rule(number=st.integers(0, 50), team=st.sampled_from(["t1", "t2"]))
    def reassign(self, number: int, team: str) -> None:
        name, contract = self.pick(number)
        granted = self.model.reassign(name, team)
        around = self.around(name)
        self.compare(granted, lambda: changes.reassign(around, contract, f"CareTeam/{team}"))

    @precondition(has_contracts)
    @rule(number=st.integers(0, 50))
    def delegate(self, number: int) -> None:
        name, contract = self.pick(number)
        today = day(self.model.today)
        wish = Delegation(
            from_="Practitioner/d", to="Practitioner/e", start=start_of(today), end=end_of(today)
        )
        granted = self.model.delegate(name)
        self.compare(granted, lambda: delegation.delegate(self.around(name), contract, wish))

    @precondition(has_contracts)
    @rule(number=st.integers(0, 50), length=st.sampled_from([10, 60, 364, 364, -1, 2000]))
    def renew(self, number: int, length: int) -> None:
        name, contract = self.pick(number)
        following = self.new_id()
        last = day(self.model.contracts[name].end + 1 + length)
        granted = self.model.renew(name, following, length)
        self.compare(
            granted,
            lambda: signing.renew(
                self.around(name),
                contract,
                contract_id=following,
                number=following,
                end=last,
                signing=self.signing("self", False),
            ),
        )

    @precondition(has_contracts)
    @rule(number=st.integers(0, 50))
    def expire(self, number: int) -> None:
        name, contract = self.pick(number)
        granted = self.model.expire(name)
        self.compare(granted, lambda: ending.expire(self.around(name), contract))

    @precondition(has_contracts)
    @rule(number=st.integers(0, 50), reason=st.sampled_from(["01", "02", "03", "04", "05", "99"]))
    def terminate(self, number: int, reason: str) -> None:
        name, contract = self.pick(number)
        granted = self.model.terminate(name, reason)
        self.compare(granted, lambda: ending.terminate(self.around(name), contract, reason))

    @precondition(has_contracts)
    @rule(number=st.integers(0, 50), step=st.sampled_from(["dispute", "resolve", "void"]))
    def settle(self, number: int, step: str) -> None:
        name, contract = self.pick(number)
        granted = getattr(self.model, step)(name)
        call = getattr(changes, step)
        self.compare(granted, lambda: call(self.around(name), contract, "原因"))

    # --- programmes of care --------------------------------------------------------------------

    def has_episodes(self) -> bool:
        return bool(self.model.episodes)

    def moment(self) -> Moment:
        now = datetime.datetime.combine(day(self.model.today), datetime.time(9), LOCAL)
        return Moment(now=now, actor="Practitioner/d")

    @rule(code=st.sampled_from(["htn", "dm2"]))
    def enrol(self, code: str) -> None:
        name, around = self.new_id(), self.around()
        granted = self.model.enrol(name, code)
        self.compare(
            granted,
            lambda: programme.apply_for(
                self.moment(), around.resident, around.team, id_=name, programme=code, reason=""
            ),
        )

    @precondition(has_episodes)
    @rule(number=st.integers(0, 50), step=st.sampled_from(["approve", "reject", "close", "close"]))
    def go_on_with_a_programme(self, number: int, step: str) -> None:
        names = sorted(self.model.episodes)
        name = names[number % len(names)]
        episode = self.store[f"EpisodeOfCare/{name}"]
        if step == "close":
            granted = self.model.close_programme(name)
            plan = self.store.get("/".join(programme.plan_key(name)))
            self.compare(
                granted, lambda: programme.close(self.moment(), episode, plan, reason="结案")
            )
            return
        granted = self.model.decide_programme(name, step == "approve")
        task = self.store["/".join(programme.task_key(name))]
        self.compare(
            granted,
            lambda: programme.decide(self.moment(), episode, task, [], verdict=step, reason="原因"),
        )

    # --- what always holds ---------------------------------------------------------------------

    @invariant()
    def both_stand_where_the_other_does(self) -> None:
        for name, one in self.model.contracts.items():
            contract = self.store[f"Contract/{name}"]
            assert state_of(contract) is NAMES[one.state], (name, one)
            assert set(content.packages_of(contract)) == set(prices(one.packages)), name
            assert content.team_of(contract) == f"CareTeam/{one.team}" or one.version_of, name

    @invariant()
    def the_terms_that_are_held_are_the_same(self) -> None:
        ours = {
            c.holder.partition("/")[2]: (c.start, c.end)
            for c in self.claims
            if c.kind == "family-doctor"
        }
        theirs = {
            name: (start_of(day(first)), end_of(day(last)))
            for name, (first, last) in self.model.held.items()
        }
        assert ours == theirs

    @invariant()
    def who_is_in_a_programme_is_in_it_once(self) -> None:
        states = {"planned": "asked", "active": "in", "cancelled": "out", "finished": "out"}
        for name, (_, at) in self.model.episodes.items():
            assert states[self.store[f"EpisodeOfCare/{name}"]["status"]] == at, name
        ours = {c.holder.partition("/")[2]: c.key for c in self.claims if c.kind == "programme"}
        assert ours == {
            name: f"Patient/p {code}"
            for name, (code, at) in self.model.episodes.items()
            if at in ("asked", "in")
        }

    def teardown(self) -> None:
        for reference, resource in self.store.items():
            assert check(resource) == [], reference


Lives.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestLives = Lives.TestCase


def without_renewal() -> dict[State, frozenset[Event]]:
    return {state: events - {Event.RENEW} for state, events in states.LAWFUL.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "broken"),
    [
        (states, "LAWFUL", without_renewal()),
        (steps, "end_of", start_of),
        (ending, "let_go", lambda _: ()),
        (applying, "require_packages_valid", lambda *_: None),
        (signing, "require_signer", lambda *_: None),
        (signing, "require_term", lambda *_: None),
        (signing, "awaits_payment", lambda _: False),
        (signing, "owed_for", lambda _, contract: sum(content.prices_of(contract).values())),
        (states, "is_reviewed_once", lambda _: False),
        (programme, "enrolments", lambda _: ()),
        (programme, "LetGo", lambda **_: LetGo(kind="none", holder="")),
    ],
    ids=[
        "renewal",
        "last day",
        "claims",
        "packages",
        "signer",
        "term",
        "payment",
        "difference",
        "second review",
        "programme once",
        "programme left",
    ],
)
def test_the_model_notices_each_rule_that_is_missing(
    module: Any, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, broken)
    quick = settings(
        max_examples=1000,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Lives, settings=quick)

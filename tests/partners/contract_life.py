"""The life of family-doctor contracts as a small model, told from the rules and not from the code.

It knows no FHIR and imports nothing of the hub: days are numbers, a contract is a few words. Every
method says whether the wish is granted, and then changes the state.
"""

from dataclasses import dataclass, field

YEARS_3 = 1096  # days from a first day to the last one that is allowed, at most


@dataclass
class Agreement:
    state: str
    start: int
    end: int
    packages: frozenset
    mode: str = "consulting-room"
    unpaid: bool = False
    pay_first: bool = False
    version_of: str = ""
    stages: int = 1
    owed: int = 0
    seen_above: bool = False  # the one above the institution reviewed it: not twice the same
    team: str = "t1"


@dataclass
class Life:
    """One resident, whose contracts never overlap, and the world around."""

    minor: bool = False
    today: int = 0
    alive: bool = True
    doctor: bool = True  # qualified, not suspended
    prices: dict = field(default_factory=lambda: {"basic": 60, "extra": 120})
    offer: frozenset = frozenset({"basic", "extra"})  # published packages
    contracts: dict = field(default_factory=dict)
    held: dict = field(default_factory=dict)  # contract -> (first day, last day)
    episodes: dict = field(default_factory=dict)  # episode -> [programme, where it stands]

    def submit(self, name, start, end, packages, mode, pay_first, stages=1):
        if not (self.alive and self.doctor and packages <= self.offer):
            return False
        if not self._term_is_possible(start, end) or start < self.today - 30:
            return False
        self.contracts[name] = Agreement(
            "applied", start, end, packages, mode, unpaid=pay_first, pay_first=pay_first,
            stages=stages,
        )  # fmt: skip
        return True

    def review(self, name, verdict, is_above=False):
        one = self.contracts[name]
        waits = one.state in ("applied", "reviewed-once")
        if verdict == "approve":
            is_last = one.state == "reviewed-once" or one.stages == 1
            is_second = one.state == "reviewed-once"
            ok = waits and self.alive and (not is_second or (is_above and not one.seen_above))
            if ok:
                one.seen_above = is_above
            after = "approved" if is_last else "reviewed-once"
        elif verdict == "supplement":
            ok, after = waits, "supplement"
        else:
            others = ("supplement", "approved", "amending", "amendment-unpaid")
            ok, after = waits or one.state in others, "rejected"
        return self._move(one, ok, after)

    def resubmit(self, name):
        one = self.contracts[name]
        return self._move(one, one.state == "supplement" and self.alive, "applied")

    def sign(self, name, signer, proof, read_the_same):
        one = self.contracts[name]
        if one.state not in ("approved", "amending"):
            return False
        is_signer = signer == "guardian" or (signer == "self" and not self.minor)
        has_proof = proof or one.mode == "consulting-room"
        can = self.alive and self.doctor and is_signer and has_proof and read_the_same
        if not can or not one.packages <= self.offer or one.end < self.today:
            return False
        if one.state == "amending":
            old = self.contracts[one.version_of]
            if old.state != "effective":
                return False
            one.owed = sum(self.prices[p] for p in one.packages)
            one.owed -= sum(self.prices[p] for p in old.packages)
            if old.pay_first and one.owed > 0:
                one.state = "amendment-unpaid"
                return True
            old.packages = one.packages
            one.state = "amended"
            return True
        if self._overlaps(one.start, one.end):
            return False
        self.held[name] = (one.start, one.end)
        one.state = "effective" if one.start <= self.today and not one.unpaid else "signed"
        return True

    def pay(self, name, is_right_sum):
        one = self.contracts[name]
        if one.state == "amendment-unpaid":
            old = self.contracts[one.version_of]
            ok = old.state == "effective" and self.alive and one.end >= self.today
            if ok and is_right_sum:
                old.packages, one.state = one.packages, "amended"
            return bool(ok and is_right_sum)
        ok = one.state == "signed" and one.unpaid and is_right_sum
        if not ok or not self.alive or one.end < self.today:
            return False
        one.unpaid = False
        if one.start <= self.today:
            one.state = "effective"
        return True

    def begin(self, name):
        one = self.contracts[name]
        ok = one.state == "signed" and not one.unpaid and self.alive
        return self._move(one, ok and one.start <= self.today <= one.end, "effective")

    def amend(self, name, draft, packages):
        one = self.contracts[name]
        drafts = [c for c in self.contracts.values() if c.version_of == name]
        is_open = any(c.state in ("amending", "amendment-unpaid") for c in drafts)
        if one.state != "effective" or not self.alive or not packages <= self.offer or is_open:
            return False
        self.contracts[draft] = Agreement(
            "amending", one.start, one.end, packages, one.mode, version_of=name, team=one.team
        )
        return True

    def reassign(self, name, team):
        one = self.contracts[name]
        if one.state != "effective" or not (self.alive and self.doctor) or one.team == team:
            return False
        one.team = team
        return True

    def delegate(self, name):
        return self.contracts[name].state == "effective" and self.alive

    def renew(self, name, following, length):
        one = self.contracts[name]
        first = one.end + 1
        last = first + length
        has_proof = one.mode == "consulting-room"
        ok = one.state == "effective" and self.alive and self.doctor and not self.minor
        if not ok or not has_proof or not one.packages <= self.offer:
            return False
        if not self._term_is_possible(first, last) or self._overlaps(first, last):
            return False
        state = "effective" if first <= self.today and not one.pay_first else "signed"
        self.contracts[following] = Agreement(
            state, first, last, one.packages, one.mode,
            unpaid=one.pay_first, pay_first=one.pay_first, team=one.team,
        )  # fmt: skip
        self.held[following] = (first, last)
        return True

    def expire(self, name):
        one = self.contracts[name]
        ok = one.state in ("effective", "disputed", "signed") and self.today > one.end
        return self._leave(name, ok, "ended")

    def terminate(self, name, reason):
        one = self.contracts[name]
        ok = one.state in (
            "applied", "reviewed-once", "supplement", "approved", "signed", "effective",
            "amending", "amendment-unpaid", "disputed",
        )  # fmt: skip
        ok = ok and (reason != "03" or not self.alive)
        return self._leave(name, ok, "cancelled" if reason in ("01", "04", "05") else "revoked")

    def dispute(self, name):
        one = self.contracts[name]
        return self._move(one, one.state == "effective", "disputed")

    def resolve(self, name):
        one = self.contracts[name]
        return self._move(one, one.state == "disputed", "effective")

    def void(self, name):
        one = self.contracts[name]
        ok = one.state in (
            "applied", "reviewed-once", "supplement", "approved", "signed", "effective",
            "amending", "amendment-unpaid",
        )  # fmt: skip
        return self._leave(name, ok, "void")

    def enrol(self, name, programme):
        known = self.episodes.values()
        is_in = any(code == programme and at in ("asked", "in") for code, at in known)
        if is_in or not self.alive:
            return False
        self.episodes[name] = [programme, "asked"]
        return True

    def decide_programme(self, name, approves):
        return self._episode(name, "asked", "in" if approves else "out")

    def close_programme(self, name):
        return self._episode(name, "in", "out")

    def _episode(self, name, before, after):
        if self.episodes[name][1] != before:
            return False
        self.episodes[name][1] = after
        return True

    def _term_is_possible(self, start, end):
        return start <= end and end >= self.today and end - start < YEARS_3

    def _overlaps(self, start, end):
        return any(start <= last and first <= end for first, last in self.held.values())

    def _move(self, one, ok, after):
        if ok:
            one.state = after
        return bool(ok)

    def _leave(self, name, ok, after):
        if ok:
            self.held.pop(name, None)
        return self._move(self.contracts[name], ok, after)

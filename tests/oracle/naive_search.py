"""A search engine of a hundred lines of obvious Python, to check the real one against.

It knows a few types and parameters by hand, reads the URL itself, looks at every resource, and
imports nothing of ours but the text folding of names, so that it can only agree by being right.
http://hl7.org/fhir/R4/search.html
"""

import datetime as dt
import re
import unicodedata
from decimal import Decimal

ZONE = dt.timezone(dt.timedelta(hours=8))
FOREVER = 10**18
SCALES = {"mg": ("g", Decimal("0.001")), "g": ("g", Decimal(1)), "kg": ("g", Decimal(1000)),
          "mL": ("m3", Decimal("0.000001")), "L": ("m3", Decimal("0.001"))}  # fmt: skip
UCUM = "http://unitsofmeasure.org"

# type -> code -> (kind, path, extra); "a|b" is a union of paths, lists flow
PARAMETERS = {
    "Patient": {
        "identifier": ("token", "identifier", "Identifier"),
        "active": ("token", "active", "boolean"),
        "gender": ("token", "gender", "http://hl7.org/fhir/administrative-gender"),
        "deceased": ("token", "", "deceased"),
        "telecom": ("token", "telecom", "ContactPoint"),
        "phone": ("token", "telecom", "phone"),
        "language": ("token", "communication.language", "CodeableConcept"),
        "name": ("string", "name", "HumanName"),
        "family": ("string", "name.family", ""),
        "given": ("string", "name.given", ""),
        "address-city": ("string", "address.city", ""),
        "birthdate": ("date", "birthDate", ""),
        "organization": ("reference", "managingOrganization", ("Organization",)),
        "general-practitioner": (
            "reference", "generalPractitioner", ("Practitioner", "Organization", "PractitionerRole")
        ),
    },
    "Practitioner": {
        "identifier": ("token", "identifier", "Identifier"),
        "name": ("string", "name", "HumanName"),
        "family": ("string", "name.family", ""),
    },
    "Organization": {
        "identifier": ("token", "identifier", "Identifier"),
        "name": ("string", "name|alias", ""),
        "partof": ("reference", "partOf", ("Organization",)),
    },
    "Encounter": {
        "status": ("token", "status", "http://hl7.org/fhir/encounter-status"),
        "class": ("token", "class", "Coding"),
        "type": ("token", "type", "CodeableConcept"),
        "date": ("date", "period", "Period"),
        "length": ("quantity", "length", ""),
        "subject": ("reference", "subject", ("Patient", "Group")),
        "patient": ("reference", "subject", ("Patient",)),
        "service-provider": ("reference", "serviceProvider", ("Organization",)),
        "part-of": ("reference", "partOf", ("Encounter",)),
    },
    "Observation": {
        "status": ("token", "status", "http://hl7.org/fhir/observation-status"),
        "category": ("token", "category", "CodeableConcept"),
        "code": ("token", "code", "CodeableConcept"),
        "component-code": ("token", "component.code", "CodeableConcept"),
        "combo-code": ("token", "code|component.code", "CodeableConcept"),
        "value-concept": ("token", "valueCodeableConcept", "CodeableConcept"),
        "value-quantity": ("quantity", "valueQuantity", ""),
        "component-value-quantity": ("quantity", "component.valueQuantity", ""),
        "combo-value-quantity": ("quantity", "valueQuantity|component.valueQuantity", ""),
        "value-string": ("string", "valueString|valueCodeableConcept.text", ""),
        "date": ("date", "effectiveDateTime|effectivePeriod", ""),
        "subject": ("reference", "subject", ("Group", "Device", "Patient", "Location")),
        "patient": ("reference", "subject", ("Patient",)),
        "encounter": ("reference", "encounter", ("Encounter",)),
        "performer": (
            "reference",
            "performer",
            ("Practitioner", "Organization", "CareTeam", "Patient", "PractitionerRole",
             "RelatedPerson"),
        ),
        "code-value-quantity": (
            "composite", "", (("code", "token"), ("valueQuantity", "quantity"))
        ),
        "component-code-value-quantity": (
            "composite", "component", (("code", "token"), ("valueQuantity", "quantity"))
        ),
        "combo-code-value-quantity": (
            "composite", "|component", (("code", "token"), ("valueQuantity", "quantity"))
        ),
        "code-value-concept": (
            "composite", "", (("code", "token"), ("valueCodeableConcept", "token"))
        ),
        "code-value-string": ("composite", "", (("code", "token"), ("valueString", "string"))),
    },
    "RiskAssessment": {
        "probability": ("number", "prediction.probabilityDecimal", ""),
        "subject": ("reference", "subject", ("Patient", "Group")),
    },
    "ValueSet": {
        "url": ("uri", "url", ""),
        "status": ("token", "status", "http://hl7.org/fhir/publication-status"),
    },
    "List": {"item": ("reference", "entry.item", ()), "code": ("token", "code", "CodeableConcept")},
}  # fmt: skip
for _own in PARAMETERS.values():
    _own["_tag"] = ("token", "meta.tag", "Coding")
    _own["_profile"] = ("uri", "meta.profile", "")


# --- reading ---


def walk(value, path):
    """Yield what a path leads to; lists are flattened."""
    if path == "":
        yield value
        return
    for branch in path.split("|") if "|" in path else [path]:
        found = [value]
        for step in branch.split(".") if branch else []:
            deeper = []
            for item in found:
                inner = item.get(step) if isinstance(item, dict) else None
                deeper.extend(
                    inner if isinstance(inner, list) else [] if inner is None else [inner]
                )
            found = deeper
        yield from found


def folded(text):
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    kept = "".join(c for c in plain if not unicodedata.combining(c))
    return re.sub(r"\s+", " ", kept).strip()


def split(text, separator):
    parts, current, index = [], "", 0
    while index < len(text):
        if text[index] == "\\" and index + 1 < len(text):
            current += text[index : index + 2]
            index += 2
        elif text[index] == separator:
            parts.append(current)
            current = ""
            index += 1
        else:
            current += text[index]
            index += 1
    return [*parts, current]


def plain(text):
    return re.sub(r"\\([,|$\\])", r"\1", text)


def moments(text):
    """Return the first and last microsecond of a date or time, +08:00 where it has no zone."""
    match = re.fullmatch(
        r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?(?:T(\d\d):(\d\d)(?::(\d\d))?(Z|[+-]\d\d:\d\d)?)?", text
    )
    year, month, day, hour, minute, second, zone = match.groups()
    start = dt.datetime(
        int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0),
        int(second or 0), tzinfo=ZONE,
    )  # fmt: skip
    if zone == "Z":
        start = start.replace(tzinfo=dt.UTC)
    elif zone:
        size = dt.timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
        start = start.replace(tzinfo=dt.timezone(-size if zone[0] == "-" else size))
    if month is None:
        end = start.replace(year=start.year + 1)
    elif day is None:
        end = (start + dt.timedelta(days=32)).replace(day=1)
    elif hour is None:
        end = start + dt.timedelta(days=1)
    else:
        end = start + dt.timedelta(seconds=1 if second else 60)
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    micro = dt.timedelta(microseconds=1)
    return (start - epoch) // micro, (end - epoch) // micro - 1


# --- comparing ---


def in_span(prefix, q_low, q_high, low, high):
    """The prefixes on inclusive spans: q is the asked one."""
    inside = q_low <= low and high <= q_high
    return {
        "eq": inside,
        "ne": not inside,
        "gt": high > q_high,
        "lt": low < q_low,
        "ge": high > q_high or inside,
        "le": low < q_low or inside,
        "sa": low > q_high,
        "eb": high < q_low,
        "ap": high >= q_low and low <= q_high,
    }[prefix]


def number_matches(text, low, high, scale=Decimal(1)):
    prefix, number = prefixed(text)
    value = Decimal(number)
    half = Decimal(5).scaleb(value.as_tuple().exponent - 1)
    if prefix == "ap":
        margin = max(abs(value) / 10, half)
        return high >= (value - margin) * scale and low <= (value + margin) * scale
    bottom, top, value = (value - half) * scale, (value + half) * scale, value * scale
    return {
        "eq": bottom <= low and high < top,
        "ne": not (bottom <= low and high < top),
        "gt": high > value,
        "sa": low > value,
        "lt": low < value,
        "eb": high < value,
        "ge": high >= value,
        "le": low <= value,
    }[prefix]


def prefixed(text):
    if text[:2] in ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"):
        return text[:2], text[2:]
    return "eq", text


def codes_of(value, extra):
    """Return (system, code, text) of a token value; code None where there is only a text."""
    if extra == "CodeableConcept":
        found = [(c.get("system", ""), c.get("code"), c.get("display", ""))
                 for c in value.get("coding", [])]  # fmt: skip
        return found + ([("", None, value["text"])] if value.get("text") else [])
    if extra == "Coding":
        return [(value.get("system", ""), value.get("code"), value.get("display", ""))]
    if extra == "Identifier":
        text = value.get("type", {}).get("text", "")
        return [(value.get("system", ""), value.get("value"), text)]
    if extra == "boolean":
        return [("", "true" if value else "false", "")]
    if extra in ("ContactPoint", "phone"):
        return (
            [("", value.get("value"), "")]
            if extra != "phone" or value.get("system") == "phone"
            else []
        )
    return [(extra, value, "")]


def token_matches(value, extra, modifier, text):
    parts = [plain(part) for part in split(text, "|")]
    if modifier == "of-type":
        system, code, wanted = parts
        codings = value.get("type", {}).get("coding", [])
        is_type = any(
            c.get("code") == code and (not system or c.get("system", "") == system) for c in codings
        )
        return is_type and value.get("value") == wanted
    for system, code, shown in codes_of(value, extra):
        if modifier == "text":
            if shown and folded(shown).startswith(folded(plain(text))):
                return True
            continue
        if code is None:
            if len(parts) == 2 and not parts[1] and extra == "Identifier" and system == parts[0]:
                return True
            continue
        is_bare = extra.startswith("http")  # a code element: its system is implied
        wanted = parts[-1]
        if extra == "Identifier":
            same = code == wanted
        elif extra in ("ContactPoint", "phone"):
            same = digits(code).casefold() == digits(wanted).casefold()
        else:
            same = code.casefold() == wanted.casefold()
        if len(parts) == 1:
            hit = same
        elif parts[1] == "":
            hit = system == parts[0]
        else:
            hit = same and (system == parts[0] or (parts[0] == "" and is_bare))
        if hit:
            return True
    return False


def digits(text):
    return re.sub(r"[ \-().]", "", text) if "@" not in text and re.search(r"\d", text) else text


def strings_of(value, extra):
    if extra != "HumanName":
        return [value]
    found = []
    for key in ("family", "text"):
        found += [value[key]] if key in value else []
    for key in ("given", "prefix", "suffix"):
        found += value.get(key, [])
    return found


def string_matches(value, modifier, text):
    text = plain(text)
    if modifier == "exact":
        return value == text
    if modifier == "contains":
        return folded(text) in folded(value)
    return folded(value).startswith(folded(text))


def quantity_matches(value, text):
    parts = [plain(part) for part in split(text, "|")]
    if "value" not in value:
        return False
    low = high = Decimal(str(value["value"]))
    comparator = value.get("comparator", "")
    if comparator in ("<", "<="):
        low = Decimal("-Infinity")
    if comparator in (">", ">="):
        high = Decimal("Infinity")
    if len(parts) == 1 or not (parts[1] or parts[2]):
        return number_matches(parts[0], low, high)
    system, code = parts[1], parts[2]
    if not code:
        return number_matches(parts[0], low, high)
    if not system:
        return code in (value.get("code"), value.get("unit")) and number_matches(
            parts[0], low, high
        )
    if value.get("system") != system:
        return False
    if system == UCUM and code in SCALES and value.get("code") in SCALES:
        (dimension, scale), (own, own_scale) = SCALES[code], SCALES[value["code"]]
        return dimension == own and number_matches(
            parts[0], low * own_scale, high * own_scale, scale
        )
    return value.get("code") == code and number_matches(parts[0], low, high)


def quantity_low(value):
    is_below = value.get("comparator", "") in ("<", "<=")
    return Decimal("-Infinity") if is_below else Decimal(str(value["value"]))


def span_of(value):
    if isinstance(value, str):
        return moments(value)
    if not ("start" in value or "end" in value):
        return None
    start = moments(value["start"])[0] if "start" in value else -FOREVER
    end = moments(value["end"])[1] if "end" in value else FOREVER
    return start, end


def may_point_at(value, allowed):
    """The type a reference shows, if any, is one of those allowed."""
    reference = value.get("reference")
    if reference is None:
        return value.get("type", allowed[0] if allowed else "") in allowed or not allowed
    parts = reference.split("/_history/")[0].split("/")
    known = parts[-2] if len(parts) > 1 and parts[-2][:1].isupper() else None
    return known is None or not allowed or known in allowed


class Naive:
    """The resources, by type and id, and what matches in them."""

    def __init__(self, resources):
        self.all = {(r["resourceType"], r["id"]): r for r in resources}

    def search(self, type_, pairs):
        """Return the set of ids that match all parameters; wishes such as _sort are left aside."""
        wishes = ("_sort", "_count", "_total", "_include", "_revinclude")
        asked = [(n, v) for n, v in pairs if n.split(":")[0] not in wishes]
        return {
            id_
            for (of, id_), resource in self.all.items()
            if of == type_ and all(self.matches(resource, name, text) for name, text in asked)
        }

    def matches(self, resource, name, text):
        type_ = resource["resourceType"]
        if name.startswith("_has:"):
            _, source, code, rest = name.split(":", 3)
            return any(
                self.points_at(other, code, resource) and self.matches(other, rest, text)
                for (of, _), other in self.all.items()
                if of == source
            )
        head, dot, rest = name.partition(".")
        if dot:
            code, _, wanted = head.partition(":")
            return any(
                self.points_at(resource, code, target) and self.matches(target, rest, text)
                for target in self.targets(resource, code, wanted)
                if self.is_defined(target["resourceType"], rest)
            )
        code, _, modifier = name.partition(":")
        if code == "_id":
            return (resource["id"] in text.split(",")) != (modifier == "not")
        if code == "_list":
            lists = [self.all.get(("List", id_)) for id_ in text.split(",")]
            return any(self.points_at(found, "item", resource) for found in lists if found)
        kind, path, extra = PARAMETERS[type_][code]
        values = self.values(resource, kind, path, extra, modifier)
        if modifier == "missing":
            return (not self.present(resource, type_, code)) == (text == "true")
        if modifier == "not":
            return not self.matches(resource, code, text)
        return any(
            self.one(value, kind, extra, modifier, part)
            for value in values
            for part in split(text, ",")
        )

    def is_defined(self, type_, rest):
        code = rest.split(".")[0].split(":")[0]
        return rest.startswith("_has:") or code == "_id" or code in PARAMETERS.get(type_, {})

    def targets(self, resource, code, wanted):
        allowed = PARAMETERS[resource["resourceType"]][code][2]
        return [
            other
            for (of, _), other in self.all.items()
            if (not allowed or of in allowed) and (not wanted or of == wanted)
        ]

    def points_at(self, resource, code, target):
        _, path, allowed = PARAMETERS[resource["resourceType"]][code]
        key = f"{target['resourceType']}/{target['id']}"
        return any(
            v.get("reference", "").split("/_history/")[0] == key
            and (not allowed or target["resourceType"] in allowed)
            for v in walk(resource, path)
        )

    def present(self, resource, type_, code):
        kind, path, extra = PARAMETERS[type_][code]
        if extra == "deceased":
            return True
        if kind == "composite":
            return any(True for _ in self.values(resource, kind, path, extra, ""))
        found = list(walk(resource, path))
        if extra == "phone":
            found = [v for v in found if v.get("system") == "phone"]
        if kind == "reference":
            found = [v for v in found if may_point_at(v, extra)] if code == "patient" else found
        return bool(found)

    def values(self, resource, kind, path, extra, modifier):
        if extra == "deceased":
            return ["deceasedDateTime" in resource or resource.get("deceasedBoolean") is True]
        if kind == "string":
            return [s for v in walk(resource, path) for s in strings_of(v, extra)]
        if kind == "composite":
            bases = [item for branch in path.split("|") for item in walk(resource, branch)]
            found = []
            for base in bases:
                parts = [list(walk(base, inner)) for inner, _ in extra]
                parts = [
                    [
                        s
                        for s in p
                        if t != "token" or any(c for _, c, _ in codes_of(s, "CodeableConcept"))
                    ]
                    for p, (_, t) in zip(parts, extra, strict=True)
                ]
                parts = [
                    [s for s in p if t != "quantity" or "value" in s]
                    for p, (_, t) in zip(parts, extra, strict=True)
                ]
                if all(parts):
                    found.append(parts)
            return found
        return list(walk(resource, path))

    def one(self, value, kind, extra, modifier, text):
        if kind == "token":
            if extra == "deceased":
                return text.split("|")[-1] == ("true" if value else "false")
            return token_matches(value, extra, modifier, text)
        if kind == "string":
            return string_matches(value, modifier, text)
        if kind == "date":
            span = span_of(value)
            prefix, asked = prefixed(text)
            return span is not None and in_span(prefix, *moments(asked), *span)
        if kind == "number":
            return number_matches(text, Decimal(str(value)), Decimal(str(value)))
        if kind == "quantity":
            return quantity_matches(value, text)
        if kind == "uri":
            return uri_matches(value, modifier, plain(text))
        if kind == "composite":
            asked = split(text, "$")
            return all(
                any(self.component(v, t, part) for v in values)
                for values, (_, t), part in zip(value, extra, asked, strict=True)
            )
        return reference_matches(value, extra, modifier, plain(text))

    def component(self, value, kind, text):
        if kind == "token":
            return token_matches(value, "CodeableConcept", "", text)
        if kind == "string":
            return string_matches(value, "", text)
        return quantity_matches(value, text)


def uri_matches(value, modifier, text):
    if modifier == "below":
        return value == text or value.startswith(text if text[-1] in "/:" else text + "/")
    if modifier == "above":
        return text == value or text.startswith(value if value[-1] in "/:" else value + "/")
    return value == text


def reference_matches(value, allowed, modifier, text):
    if modifier == "identifier":
        identifier = value.get("identifier", {})
        if "value" not in identifier or not may_point_at(
            value, allowed if len(allowed) == 1 else ()
        ):
            return False
        parts = text.split("|")
        same = identifier["value"] == parts[-1]
        return same and (len(parts) == 1 or identifier.get("system", "") == parts[0])
    own = value.get("reference", "").split("/_history/")[0]
    if modifier and "/" not in text:
        text = f"{modifier}/{text}"
    if "/" not in text:
        type_, _, id_ = own.rpartition("/")
        return id_ == text and "/" not in type_ and (not allowed or type_ in allowed)
    if len(allowed) == 1 and "://" not in text and text.split("/")[0] not in allowed:
        return False
    return own == text

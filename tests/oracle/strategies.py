"""Small worlds of resources and questions about them, for the search oracle."""

from decimal import Decimal

from hypothesis import strategies as st

IDS = ["1", "2", "3", "4", "5"]
SYSTEMS = ["urn:a", "urn:b"]
CODES = ["c1", "C1", "c2", "x,y|$"]
TEXTS = ["Heart rate", "HEART failure", "心率", "心力衰竭", "b\\c", "a  É"]
NAMES = ["Müller", "MULLER", "Anna", "伟", "张伟", "ＡＢＣ", "a%b_c", "Straße"]
DATES = [
    "1990", "1990-05", "1990-05-20", "2020-02-29", "2020-02-29T10:00:00Z",
    "2020-02-29T10:00:00+08:00", "2020-02-29T23:30:00-05:00", "2020-12-31", "2021",
]  # fmt: skip
ASKED_DATES = [*DATES, "2020-02", "2020-02-29T10:00Z", "1990-05-21"]
NUMBERS = ["1", "1.0", "5.4", "5.40", "5.44", "5.35", "5.45", "99.6", "5400", "-3"]
ASKED_NUMBERS = [*NUMBERS, "100", "1e2", "5.4e0", "0.0054"]
UNITS = ["mg", "g", "mL", "{score}"]
UCUM = "http://unitsofmeasure.org"
PREFIXES = ["", "", "", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]
URLS = [
    "http://e.org/vs",
    "http://e.org/vs/a",
    "http://e.org/vs/a/b",
    "http://e.org/vsx",
    "urn:oid:1.2",
]
PHONES = ["(010) 55", "01055", "a-b@x"]
pick = st.sampled_from


def maybe(**fields):
    """A dict with most of the fields."""
    wanted = st.lists(st.integers(0, 3), min_size=len(fields), max_size=len(fields))
    whole = st.fixed_dictionaries(fields)
    return st.builds(
        lambda chances, full: {
            key: full[key] for key, chance in zip(fields, chances, strict=True) if chance
        },
        wanted,
        whole,
    )


def some(strategy, most=2):
    return st.lists(strategy, min_size=1, max_size=most)


coding = maybe(system=pick(SYSTEMS), code=pick(CODES), display=pick(TEXTS)).filter(
    lambda c: "code" in c or "display" in c
)
concept = maybe(coding=some(coding), text=pick(TEXTS)).filter(bool)
identifier = maybe(
    system=pick(SYSTEMS),
    value=pick(["v1", "V1", "v2"]),
    type=maybe(
        coding=some(maybe(system=pick(SYSTEMS), code=pick(["MR", "SS"])), 1), text=pick(TEXTS)
    ),
).filter(lambda i: "value" in i or "system" in i)
quantity = st.builds(
    lambda value, unit, system, comparator: {
        "value": Decimal(value),
        **({"code": unit} if unit else {}),
        **({"system": system} if system and unit else {}),
        **({"comparator": comparator} if comparator else {}),
    },
    pick(NUMBERS),
    pick([*UNITS, ""]),
    pick([UCUM, UCUM, "urn:units", ""]),
    pick(["", "", "", "<", ">="]),
)
period = st.one_of(
    pick(DATES).map(lambda d: {"start": d}),
    pick(DATES).map(lambda d: {"end": d}),
    st.tuples(pick(DATES[:3]), pick(DATES[3:])).map(lambda p: {"start": p[0], "end": p[1]}),
)


def reference(*types):
    literal = st.builds(lambda t, i: {"reference": f"{t}/{i}"}, pick(types), pick(IDS[:3]))
    logical = st.builds(lambda i: {"identifier": i}, identifier.filter(lambda i: "value" in i))
    version = st.builds(lambda t, i: {"reference": f"{t}/{i}/_history/1"}, pick(types), pick(IDS))
    absolute = st.builds(
        lambda t, i: {"reference": f"http://other.org/{t}/{i}"}, pick(types), pick(IDS)
    )
    return st.one_of(literal, literal, literal, literal, logical, version, absolute)


human_name = maybe(
    family=pick(NAMES), given=some(pick(NAMES)), text=pick(NAMES), prefix=some(pick(["Dr"]), 1)
).filter(bool)
meta = maybe(tag=some(coding.filter(lambda c: "code" in c), 1), profile=some(pick(URLS), 1))
SHAPES = {
    "Patient": {
        "identifier": some(identifier), "active": st.booleans(), "gender": pick(["male", "female"]),
        "deceasedBoolean": st.booleans(), "name": some(human_name), "birthDate": pick(DATES[:4]),
        "telecom": some(maybe(system=pick(["phone", "email"]), value=pick(PHONES))),
        "address": some(maybe(city=pick(NAMES), text=pick(TEXTS)).filter(bool), 1),
        "communication": some(st.builds(lambda c: {"language": c}, concept), 1),
        "managingOrganization": reference("Organization"),
        "generalPractitioner": some(reference("Practitioner", "Organization")), "meta": meta,
    },
    "Practitioner": {"identifier": some(identifier, 1), "name": some(human_name, 1)},
    "Organization": {
        "identifier": some(identifier, 1), "name": pick(NAMES), "alias": some(pick(NAMES)),
        "partOf": reference("Organization"),
    },
    "Encounter": dict(
        status=pick(["planned", "finished"]), type=some(concept, 1), period=period,
        subject=reference("Patient", "Group"), serviceProvider=reference("Organization"),
        partOf=reference("Encounter"), length=quantity, **{"class": coding},
    ),
    "Observation": {
        "status": pick(["final", "amended"]), "category": some(concept), "code": concept,
        "subject": reference("Patient", "Location"), "encounter": reference("Encounter"),
        "performer": some(reference("Practitioner", "Patient")), "effectiveDateTime": pick(DATES),
        "effectivePeriod": period, "valueQuantity": quantity, "valueCodeableConcept": concept,
        "valueString": pick(TEXTS),
        "component": some(maybe(code=concept, valueQuantity=quantity).filter(bool)), "meta": meta,
    },
    "RiskAssessment": {
        "subject": reference("Patient"),
        "prediction": some(st.builds(lambda n: {"probabilityDecimal": Decimal(n)}, pick(NUMBERS))),
    },
    "ValueSet": {"url": pick(URLS), "status": pick(["draft", "active"])},
    "List": {
        "entry": some(st.builds(lambda r: {"item": r}, reference("Patient", "Observation")), 3),
        "code": concept,
    },
}  # fmt: skip


@st.composite
def worlds(draw):
    """A list of resources with distinct (type, id)."""
    others = draw(
        st.lists(pick(sorted(set(SHAPES) - {"Patient"})), min_size=1, max_size=3, unique=True)
    )
    keys = [
        (type_, id_)
        for type_ in ["Patient", *others]
        for id_ in sorted(draw(st.sets(pick(IDS), min_size=3)))
    ]
    keys.sort()
    found = []
    for type_, id_ in keys:
        body = draw(maybe(**SHAPES[type_]))
        if type_ == "Observation":  # a choice is made once
            for one, other in (("effectiveDateTime", "effectivePeriod"),
                               ("valueQuantity", "valueCodeableConcept"),
                               ("valueQuantity", "valueString"),
                               ("valueCodeableConcept", "valueString")):  # fmt: skip
                if one in body and other in body:
                    del body[other]
        found.append({"resourceType": type_, "id": id_, **body})
    return found


def escaped(text):
    for special in "\\,$|":
        text = text.replace(special, "\\" + special)
    return text


@st.composite
def questions(draw, parameters, type_, depth=0, ways=None):
    """One (name, value) for the type; `ways` are those to choose from at first."""
    ways = ways or ["plain"] * 6 + (["chain", "has"] if depth < 2 else [])
    way = draw(pick(ways))
    own = parameters[type_]
    if way == "has":
        sources = [
            (t, c)
            for t, ps in parameters.items()
            for c, (kind, _, allowed) in ps.items()
            if kind == "reference" and (not allowed or type_ in allowed)
        ]
        if sources:
            source, code = draw(pick(sources))
            name, text = draw(questions(parameters, source, depth + 1))
            return f"_has:{source}:{code}:{name}", text
    if way == "chain":
        references = [c for c, (kind, _, allowed) in own.items() if kind == "reference" and allowed]
        if references:
            code = draw(pick(references))
            targets = [t for t in own[code][2] if t in parameters]
            if targets:
                target = draw(pick(targets))
                name, text = draw(questions(parameters, target, depth + 1))
                is_named = draw(st.booleans())
                return f"{code}{':' + target if is_named else ''}.{name}", text
    if depth == 0 and draw(st.integers(0, 15)) == 0:
        ids = ",".join(draw(st.lists(pick(IDS), min_size=1, max_size=2)))
        return draw(pick(["_id", "_id:not", "_list"])), ids
    return draw(plain_questions(own))


@st.composite
def plain_questions(draw, own):
    code = draw(pick(sorted(own)))
    kind, _, extra = own[code]
    if draw(st.integers(0, 9)) == 0:
        return f"{code}:missing", draw(pick(["true", "false"]))
    modifier = draw(pick(MODIFIERS.get(kind, [""])))
    if modifier == "of-type" and extra != "Identifier":
        modifier = ""
    if modifier == "Patient" and "Patient" not in (extra or ()):
        modifier = ""
    count = draw(pick([1, 1, 1, 2]))
    values = [draw(VALUES[kind](extra, modifier)) for _ in range(count)]
    return f"{code}:{modifier}" if modifier else code, ",".join(values)


MODIFIERS = {
    "token": ["", "", "", "", "not", "text", "of-type"],
    "string": ["", "", "exact", "contains"],
    "reference": ["", "", "", "identifier", "Patient"],
    "uri": ["", "below", "above"],
}


def tokens(extra, modifier):
    if modifier == "text":
        return pick(["heart", "Heart f", "h", "心", "b\\\\c", "a e"])
    if modifier == "of-type":
        return st.builds(
            "{}|{}|{}".format, pick([*SYSTEMS, ""]), pick(["MR", "SS"]), pick(["v1", "V1"])
        )
    if extra == "boolean" or extra == "deceased":
        return pick(["true", "false"])
    if extra in ("ContactPoint", "phone"):
        return pick(["01055", "(010)55", "a-b@x", "ab@x"])
    if extra == "Identifier":
        word, systems = pick(["v1", "V1", "v2"]), [*SYSTEMS, ""]
    elif isinstance(extra, str) and extra.startswith("http"):
        words = ["male", "FEMALE", "final", "amended", "finished", "draft"]
        word, systems = pick(words), [extra, extra, ""]
    else:
        word, systems = pick(CODES).map(escaped), [*SYSTEMS, ""]
    return st.one_of(
        word,
        st.builds("{}|{}".format, pick(systems), word),
        pick([s for s in systems if s]).map(lambda s: f"{s}|"),
    )


def strings(extra, modifier):
    return pick([escaped(t) for t in [*NAMES, *TEXTS, "m", "an", "伟", "N", "%", "b", "ß"]])


def dates(extra, modifier):
    return st.builds("{}{}".format, pick([p for p in PREFIXES if p != "ap"]), pick(ASKED_DATES))


def numbers(extra, modifier):
    return st.builds("{}{}".format, pick(PREFIXES), pick(ASKED_NUMBERS))


def quantities(extra, modifier):
    unit = st.builds("|{}|{}".format, pick([UCUM, UCUM, "urn:units", ""]), pick(UNITS))
    return st.builds("{}{}".format, numbers(extra, modifier), st.one_of(st.just(""), unit))


def references(extra, modifier):
    if modifier == "identifier":
        return st.one_of(
            pick(["v1", "v2"]), st.builds("{}|{}".format, pick([*SYSTEMS, ""]), pick(["v1", "V1"]))
        )
    if modifier:
        return pick(IDS)
    types = list(extra) or ["Patient", "Observation"]
    literal = st.builds("{}/{}".format, pick(types), pick(IDS))
    return st.one_of(pick(IDS), literal, literal.map(lambda r: f"http://other.org/{r}"))


def composites(extra, modifier):
    makers = {
        "token": lambda: tokens("CodeableConcept", ""),
        "quantity": lambda: quantities("", ""),
        "string": lambda: strings("", ""),
    }
    parts = [makers[kind]() for _, kind in extra]
    return st.tuples(*parts).map("$".join)


VALUES = {
    "token": tokens, "string": strings, "date": dates, "number": numbers, "quantity": quantities,
    "reference": references, "uri": lambda extra, modifier: pick([*URLS, "http://e.org"]),
    "composite": composites,
}  # fmt: skip

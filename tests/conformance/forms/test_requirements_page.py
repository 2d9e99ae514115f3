"""The forms beside the page of requirements that lists their fields and option codes."""

import pathlib
import re
from typing import Any

import pytest

from conformance.forms.options import read_source
from conformance.forms.questionnaires import differences, questionnaires

FORMS = questionnaires()
DEPARTS = {(one.form, name) for one in differences() for name in one.questions}

ROWS = [  # heading of the page, form, and row → its question
    (
        "## 2.",
        "phs3-personal-info",
        {
            "常住类型": "residence", "血型": "abo", "RH": "rh", "文化程度": "education",
            "职业": "occupation", "婚姻": "marital", "医疗费用支付方式": "payment",
            "药物过敏史": "drug-allergy", "暴露史": "exposure", "既往史: 疾病": "past-disease-name",
            "残疾情况": "disability", "生活环境: 厨房排风": "kitchen-exhaust",
            "生活环境: 燃料": "fuel", "生活环境: 饮水": "water", "生活环境: 厕所": "toilet",
            "生活环境: 禽畜栏": "livestock-pen",
        },
    ),
    (
        "### 4.1",
        "phs3-htn-followup",
        {
            "随访方式": "visit-mode", "症状": "symptoms", "服药依从性": "adherence",
            "药物不良反应": "adverse-reaction", "此次随访分类": "class",
        },
    ),
    (
        "### 4.2",
        "phs3-dm2-followup",
        {"symptoms": "symptoms", "足背动脉": "dorsalis-pedis", "低血糖反应": "hypoglycaemia"},
    ),
    (
        "补充表",
        "phs3-smi-register",
        {
            "既往关锁": "past-locking", "既往治疗 门诊": "outpatient",
            "最近治疗效果": "last-effect", "户别": "household", "经济": "economy",
        },
    ),
    (
        "随访 (`phs3-smi-followup`",
        "phs3-smi-followup",
        {
            "随访形式": "visit-mode", "失访原因": "lost-reason", "自知力": "insight",
            "睡眠/饮食": "sleep", "危险行为": "danger", "住院": "admission", "依从性": "adherence",
            "分类": "class",
        },
    ),
    (
        "First visit ≤72 h",
        "phs3-tb-first-visit",
        {
            "患者类型": "patient-type", "痰菌": "sputum", "耐药": "resistance", "用法": "usage",
            "剂型": "dosage-form", "督导人员": "supervisor",
            "9 health-education items": "edu-course",
        },
    ),
    ("随访:", "phs3-tb-followup", {"停止治疗原因": "stop-reason"}),
    (
        "### 4.7",
        "phs3-newborn-visit",
        {
            "妊娠期疾病": "pregnancy-illness", "出生情况": "birth-kind",
            "听力筛查": "hearing-screening", "疾病筛查": "disease-screening", "喂养方式": "feeding",
            "面色": "complexion", "黄疸部位": "jaundice", "脐带": "cord",
        },
    ),
    ("### 4.8", "phs3-child-1-8m", {"可疑佝偻病": "rickets-symptoms", "指导": "guidance"}),
    ("### 4.8", "phs3-child-12-30m", {"可疑佝偻病": "rickets-symptoms", "指导": "guidance"}),
    ("### 4.8", "phs3-child-3-6y", {"指导": "guidance"}),
]  # fmt: skip
LONGER = {("phs3-newborn-visit", "complexion"), ("phs3-newborn-visit", "cord")} | {
    (f"phs3-child-{ages}", "guidance") for ages in ("1-8m", "12-30m", "3-6y")
}
"""Departures that add 其他 behind the codes of the page."""
LISTS = {  # what the page writes in running text: form, question → where its codes begin and end
    ("phs3-health-exam", "symptoms"): ("**症状**, 25 items:", "\n"),
    ("phs3-health-exam", "self-rated-health"): ("健康状态自评", "\n"),
    ("phs3-health-exam", "exercise-frequency"): ("锻炼频率(", ")"),
    ("phs3-health-exam", "smoking"): ("吸烟(", ")"),
    ("phs3-health-exam", "lips"): ("口唇", ";"),
    ("phs3-health-exam", "teeth"): ("齿列", ";"),
    ("phs3-health-exam", "pharynx"): ("咽部", "\n"),
    ("phs3-health-exam", "hearing"): ("   - 听力", "\n"),
    ("phs3-health-exam", "fundus"): ("眼底(", ")"),
    ("phs3-health-exam", "medication-adherence"): ("依从性", ")"),
    ("phs3-health-exam", "evaluation"): ("**健康评价**", "(1–4)"),
    ("phs3-health-exam", "guidance"): ("**健康指导**", ";"),
    ("phs3-health-exam", "risk-control"): ("**危险因素控制**", "(this list"),
    ("phs3-health-exam", "self-care"): ("自理能力自评", "\n"),
    ("phs3-health-exam", "cognition"): ("   - 认知", "\n"),
    ("phs3-health-exam", "mood"): ("   - 情感", "\n"),
    ("phs3-health-exam", "occupational-exposure"): ("职业病危害因素接触史**", "(工种"),
    ("phs3-health-exam", "movement"): ("   - 运动", "\n"),
    ("phs3-htn-followup", "mind"): ("心理调整", ","),
    ("phs3-htn-followup", "compliance"): ("遵医行为", "|"),
    ("phs3-antenatal-2-5", "class"): ("胎心率, 血压, Hb, 尿蛋白, 其他检查, 分类", ","),
    ("phs3-postpartum-42d", "class"): ("**42天** adds 分类", "/"),
    ("phs3-postpartum-42d", "handling"): ("/ 处理", "."),
}
FIELDS = {  # what the page names besides options: form → questions
    "phs3-health-exam": "temperature pulse respiration bp-left-systolic bp-right-systolic"
    " height weight waist bmi self-care cognition mmse mood"
    " depression-score diet drinking drunk-last-year occupational-exposure"
    " occupational-protection-dust movement skin sclera lymph-nodes rales"
    " heart-murmur shifting-dullness oedema dorsalis-pedis rectal-exam"
    " breast adnexa haemoglobin wbc platelets fasting-glucose"
    " fasting-glucose-mg ecg urine-albumin stool-blood hba1c hbsag alt ast"
    " albumin total-bilirubin direct-bilirubin creatinine urea potassium"
    " sodium total-cholesterol triglycerides ldl hdl chest-x-ray"
    " ultrasound-abdomen ultrasound-other cervical-smear cerebrovascular"
    " kidney heart vessels eyes nervous-system other-systems admissions"
    " home-beds medications vaccinations weight-target vaccine-advised",
    "phs3-personal-info": "name sex birth-date id-card workplace phone contact-name contact-phone"
    " residence ethnic-group past-disease-since surgery-had surgery-name surgery-on injury-had"
    " injury-name injury-on transfusion-had transfusion-on hereditary family-father family-mother"
    " family-siblings family-children",
    "phs3-cover": "record-number name current-address registered-address phone street village"
    " institution opened-by responsible-doctor opened-on",
    "phs3-htn-followup": "systolic diastolic weight weight-target bmi heart-rate signs-other"
    " smoking-daily drinking-daily exercise-weekly exercise-minutes salt mind compliance tests"
    " adherence adverse-reaction class medications referral-reason referral-to next-visit doctor",
    "phs3-dm2-followup": "symptoms dorsalis-pedis staple-food fasting-glucose hba1c hba1c-on"
    " hypoglycaemia class insulin-kind insulin-usage",
    "phs3-smi-register": "guardian-name consent consent-by consent-on first-onset past-symptoms"
    " past-locking outpatient first-antipsychotic admissions diagnosis last-effect danger household"
    " employment economy specialist-opinion",
    "phs3-smi-followup": "visit-mode lost-reason death-on death-reason danger-level symptoms"
    " insight sleep diet social danger locking admission adherence adverse-reaction effect class"
    " rehabilitation medication-advice",
    "phs3-tb-first-visit": "patient-type sputum resistance symptoms regimen usage dosage-form"
    " supervisor own-room ventilation smoking-daily drinking-daily education next-visit",
    "phs3-tb-followup": "treatment-month missed adverse-reaction complication referral-to"
    " referral-result stop-reason visits-due visits-made doses-due doses-taken dose-rate",
    "phs3-antenatal-1": "weeks age husband-name gravidity births-vaginal births-caesarean"
    " last-period due-date past-illness family-history personal-history"
    " gynaecological-surgery miscarriages foetal-deaths stillbirths"
    " neonatal-deaths birth-defects height weight bmi systolic"
    " auscultation-heart auscultation-lungs vulva vagina cervix uterus"
    " adnexa haemoglobin abo urine-protein glucose alt ast albumin"
    " total-bilirubin direct-bilirubin creatinine urea vaginal-discharge"
    " cleanliness hbsag hbsab hbeag hbeab hbcab syphilis hiv ultrasound"
    " evaluation guidance referral next-visit",
    "phs3-antenatal-2-5": "complaint weight fundal-height abdominal-girth foetal-position"
    " foetal-heart-rate systolic haemoglobin urine-protein tests-other"
    " class guidance referral",
    "phs3-postpartum-visit": "temperature general-health mental-state systolic breasts lochia"
    " lochia-colour lochia-amount lochia-smell uterus wound class guidance"
    " referral",
    "phs3-postpartum-42d": "general-health mental-state systolic breasts lochia uterus wound"
    " class handling guidance",
    "phs3-newborn-visit": "birth-length birth-weight gestation-weeks asphyxia apgar-1 apgar-5"
    " apgar-unknown malformation milk-amount milk-times temperature"
    " heart-rate respiration fontanelle eyes ears nose mouth heart-lungs"
    " abdomen limbs neck-mass skin anus referral guidance",
    "phs3-child-1-8m": "weight weight-grade length length-grade head fontanelle eyes ears hearing"
    " mouth teeth-number chest abdomen limbs rickets-symptoms rickets-signs haemoglobin outdoors"
    " vitamin-d development-3m development-6m development-8m illness pneumonia-times"
    " diarrhoea-times injury-times referral guidance next-visit",
    "phs3-child-12-30m": "weight weight-grade length length-grade head fontanelle eyes ears hearing"
    " mouth teeth-number teeth-decayed chest abdomen limbs gait rickets-symptoms rickets-signs"
    " haemoglobin outdoors vitamin-d development-12m development-18m development-24m"
    " development-30m illness pneumonia-times diarrhoea-times injury-times referral guidance"
    " next-visit",
    "phs3-child-3-6y": "weight weight-grade height height-grade vision hearing teeth-number"
    " teeth-decayed chest abdomen haemoglobin development-3y development-4y development-5y"
    " development-6y illness pneumonia-times diarrhoea-times injury-times referral guidance"
    " next-visit",
    "phs3-referral-out": "patient-name sex age record-number address phone to-institution"
    " to-department to-doctor impression history-present history-past"
    " treatment",
    "phs3-referral-back": "admission-number test-results treatment diagnosis",
}


@pytest.fixture(scope="module")
def requirements(shared_data: pathlib.Path) -> str:
    source = shared_data.parent / "domain" / "public-health-forms.md"
    if not source.exists():
        pytest.skip("the page of requirements is not here")
    return source.read_text(encoding="utf-8")


def walk(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [found for item in items for found in (item, *walk(item.get("item", [])))]


def codes_of(form: str, link_id: str) -> list[str]:
    (question,) = [one for one in walk(FORMS[form]["item"]) if one["linkId"] == link_id]
    return [option["valueCoding"]["code"] for option in question["answerOption"]]


def codes_in(text: str) -> list[str]:
    """Return the codes of a list such as `1无 2有`."""
    return re.findall(r"(?:^|[\s*])(\d{1,2})(?=[^\d\s.)–])", text)


def test_the_options_of_tables_are_those_of_the_page(requirements: str) -> None:
    compared = 0
    for heading, form, rows in ROWS:
        section = requirements.partition(f"\n{heading}")[2].partition("\n##")[0]
        table = {
            name.replace("*", "").partition(" (")[0].strip(): cell
            for name, cell in re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)
        }
        for row, link_id in rows.items():
            listed = codes_in(table[row].partition(" (")[0])
            if (form, link_id) in LONGER:
                assert codes_of(form, link_id) == [*listed, str(len(listed) + 1)], row
            elif (form, link_id) not in DEPARTS:
                assert codes_of(form, link_id) == listed, row
                compared += 1
    assert compared > 48
    assert LONGER <= DEPARTS


@pytest.mark.parametrize(("form", "link_id"), LISTS)
def test_the_options_in_running_text_are_those_of_the_page(
    requirements: str, form: str, link_id: str
) -> None:
    start, end = LISTS[(form, link_id)]
    text = requirements.partition(start)[2].partition(end)[0]
    assert codes_of(form, link_id) == codes_in(text)


@pytest.mark.parametrize("form", FIELDS)
def test_every_field_the_page_names_is_there(form: str) -> None:
    names = {item["linkId"] for item in walk(FORMS[form]["item"])}
    assert set(FIELDS[form].split()) <= names


NUMBERED = {  # what the page counts: form, group → how many questions of which options
    ("phs3-tb-first-visit", "education"): ("9 health-education items", "1 2"),
    ("phs3-smi-followup", "social"): ("社会功能 | 5 items", None),
}


@pytest.mark.parametrize(("form", "group"), NUMBERED)
def test_groups_have_as_many_questions_as_the_page_counts(
    requirements: str, form: str, group: str
) -> None:
    text, codes = NUMBERED[(form, group)]
    assert text in requirements
    count = int(re.findall(r"\d+", text)[0])
    (found,) = [one for one in walk(FORMS[form]["item"]) if one["linkId"] == group]
    asked = [one for one in found["item"] if one["type"] == "choice"]
    assert len(asked) == count
    for one in asked:
        assert codes is None or codes_of(form, one["linkId"]) == codes.split()


def test_codes_that_the_page_only_counts_are_as_many() -> None:
    assert len(codes_of("phs3-smi-register", "past-symptoms")) == 12
    assert len(codes_of("phs3-smi-followup", "symptoms")) == 12
    assert codes_of("phs3-smi-register", "employment") == [str(n) for n in range(1, 10)]
    assert codes_of("phs3-smi-followup", "danger-level") == list("012345")
    assert codes_of("phs3-tb-first-visit", "symptoms") == list("0123456789")
    assert sorted(codes_of("phs3-smi-register", "consent")) == ["0", "1"]


def scores_of(form: str, link_id: str) -> list[int]:
    (question,) = [one for one in walk(FORMS[form]["item"]) if one["linkId"] == link_id]
    codings = [option["valueCoding"] for option in question["answerOption"]]
    return [coding["extension"][0]["valueDecimal"] for coding in codings]


def test_self_care_is_worth_what_the_page_says(requirements: str) -> None:
    table = requirements.partition("\n### 5.1")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| ([^|]+?) \| (\d[^|]*) \| ([^|]+) \| (\d+) \| (\d+) \|$", table, re.M)
    names = {
        "进餐": "eating",
        "梳洗": "washing",
        "穿衣": "dressing",
        "如厕": "toilet",
        "活动": "moving",
    }
    assert [name for name, *_ in rows] == list(names)
    for name, *cells in rows:
        worth = [int(re.findall(r"\d+", cell)[0]) for cell in cells]
        assert scores_of("phs3-elderly-adl", names[name]) == worth


def test_the_constitutions_have_the_items_of_the_page(requirements: str) -> None:
    table = requirements.partition("\n### 5.2")[2].partition("\n### ")[0]
    groups = dict(re.findall(r"^\| (\S+) \| (\d[\d,]+)\b", table, re.MULTILINE))
    rules = read_source("scores")["phs3-tcm-elderly"]
    listed = {f"{name}质": items.split(",") for name, items in groups.items()}
    assert listed.pop("平和质") == rules["balanced"]["items"]
    assert listed == rules["constitutions"]
    items = table.partition("Groups")[0]
    numbered = sorted(int(n) for n in re.findall(r"\| (?:\*\*)?(\d+)(?:\*\*)? \| ", items))
    assert numbered == list(range(1, 34))
    own = set(re.findall(r"\| \*\*(\d+)\*\* \|", items))
    systems = {
        one["linkId"]: one["answerOption"][0]["valueCoding"]["system"]
        for one in FORMS["phs3-tcm-elderly"]["item"]
        if one["linkId"].isdigit()
    }
    assert {name for name, url in systems.items() if not url.endswith("tcm-frequency")} == own
    for name in systems:
        assert scores_of("phs3-tcm-elderly", name) == [1, 2, 3, 4, 5]


def test_every_departure_is_real_and_says_why(requirements: str) -> None:
    for one in differences():
        for name in one.questions:
            assert codes_of(one.form, name)
        assert len(one.reason) > 40
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", one.seen)
    table = requirements.partition("\n### 4.7")[2]
    page = codes_in(re.findall(r"^\| 妊娠期疾病 \| (.+?) \|$", table, re.MULTILINE)[0])
    assert codes_of("phs3-newborn-visit", "pregnancy-illness") != page

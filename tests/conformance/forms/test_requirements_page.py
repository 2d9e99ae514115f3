"""The forms beside the page of requirements that lists their fields and option codes."""

import pathlib
import re
from typing import Any

import pytest

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
    assert compared > 22
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


def test_every_departure_is_real_and_says_why(requirements: str) -> None:
    for one in differences():
        for name in one.questions:
            assert codes_of(one.form, name)
        assert len(one.reason) > 40
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", one.seen)
    table = requirements.partition("\n### 4.7")[2]
    page = codes_in(re.findall(r"^\| 妊娠期疾病 \| (.+?) \|$", table, re.MULTILINE)[0])
    assert codes_of("phs3-newborn-visit", "pregnancy-illness") != page

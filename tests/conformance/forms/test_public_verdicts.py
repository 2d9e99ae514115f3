"""The public responses and the reference's verdict on each."""

import json
import pathlib

from conformance.forms.answers import check_response
from conformance.terminology.library import Library


def test_all_36_verdicts_agree(shared_data: pathlib.Path) -> None:
    folder = shared_data / "questionnaire-answers"
    verdicts = json.loads((folder / "verdicts.json").read_text())
    assert len(verdicts) == 36
    library = Library()
    wrong = {}
    for case in verdicts:
        response = json.loads((folder / case["response"]).read_text())
        forms = [json.loads((folder / name).read_text()) for name in case["questionnaire"]]
        issues = check_response(response, forms[0] if forms else None, library)
        if (not issues) != case["valid"]:
            wrong[case["response"]] = [issue.text_en for issue in issues]
    assert wrong == {}

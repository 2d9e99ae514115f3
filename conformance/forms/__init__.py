"""Questionnaires (SDC): the national forms, their answers checked, scored, filled and extracted.

https://hl7.org/fhir/R4/questionnaire.html, http://hl7.org/fhir/uv/sdc (3.0); pure.
"""

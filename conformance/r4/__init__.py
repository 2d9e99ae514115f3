"""The facts of FHIR R4 4.0.1 as generated tables; `tools/build_r4_tables.py` writes them."""

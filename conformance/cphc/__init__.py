"""The `cphc` package (cn.cphc.core): our own and national artefacts as FHIR resources."""

BASE = "https://fhir.qiao.example/cphc"
VERSION = "0.1.0"

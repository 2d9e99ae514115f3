"""What we promise: R4 tables, FHIRPath, validation, terminology, profiles and forms; pure."""

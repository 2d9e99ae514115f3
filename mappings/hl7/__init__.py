"""HL7 v2 as bytes and as fields: reading, exact writing back, acknowledgement; pure."""

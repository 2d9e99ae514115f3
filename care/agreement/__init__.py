"""签约协议: the text of an agreement from a template, its digest, and its printed form."""

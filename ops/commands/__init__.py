"""The commands of `qiao`: a module each, with an `app`."""

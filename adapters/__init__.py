"""How bytes travel: transports, envelopes and one folder for each kind of outside system."""

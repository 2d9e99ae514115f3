"""How often Python looks for reference cycles in a process that makes millions of small objects."""

import gc


def collect_less_often() -> None:
    """Leave what is loaded at the start alone and look for new cycles seldom.

    For long-running processes, after imports: translating a message costs about a sixth less
    processor time (1.19 instead of 1.40 ms measured). Nearly everything is freed by its reference
    count anyway. A batch of messages, all alive until its commit, is some 100,000 objects: the
    threshold is beyond it, so that no batch is looked through while it is worked on.
    """
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)

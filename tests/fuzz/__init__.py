"""What strangers, admins and operators may send, by chance: whatever it is, nothing breaks, grows or is logged.

    python -m tests.fuzz --cases 300000 --seed 7          all surfaces; --only http names one
    python -m tests.fuzz --only http --replay FILE        one case again

A case is bytes. What was found once stands in corpus/<surface>/ and is taken first in every run, of which there is a
short one in the tests. `chance` makes cases, `surfaces` names where they go, `run` holds what must be true.
"""

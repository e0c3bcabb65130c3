"""Game day: everything that goes wrong in a night is made to go wrong, one after the other, and the system has to mend it."""

"""The stage where figures come out: reports, and where settled money stands."""
